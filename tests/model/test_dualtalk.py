"""DualTalk re-built: recorded outputs, strict loading, both spellings, the audio encoder against another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from duologue.model.dualtalk import DualTalk, DualTalkOptions, dualtalk_loss, frame_count, load_checkpoint, load_state
from duologue.model.wav2vec import Wav2Vec, Wav2VecOptions, modern_names, normalise_audio
from duologue.schemas.errors import UsageError

SHARED = Path(__file__).parents[2].parent / "shared"
TINY_AUDIO = Wav2VecOptions(
    channels=8, kernels=(10, 3, 3), strides=(5, 2, 32), width=16, layers=2, heads=2, feed_forward=24,
    position_kernel=8, position_groups=2,
)  # fmt: skip
TINY = DualTalkOptions(width=16, audio=TINY_AUDIO)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def need(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return path


def test_recorded_outputs_are_reproduced() -> None:
    recorded = np.load(need(SHARED / "golden" / "dualtalk_heads_dim32.npz"))
    with torch.device("meta"):
        model = DualTalk(DualTalkOptions(width=32))
    state = {name[3:]: torch.from_numpy(recorded[name]) for name in recorded.files if name.startswith("sd:")}
    heads = {name for name in model.state_dict() if not name.startswith("joint_encoder.")}
    assert set(state) == heads
    model.load_state_dict(state, strict=False, assign=True)
    model.eval()
    own, partner, motion = (
        torch.from_numpy(recorded[name]) for name in ("own_audio", "partner_audio", "partner_motion")
    )
    with torch.no_grad():
        enhanced = model.temporal_enhancer(partner, motion)
        interaction = model.interaction_module(own, enhanced)
        out = model.from_features(own, partner, motion)
    for name, value in (("enhanced", enhanced), ("interaction", interaction), ("motion", out)):
        np.testing.assert_allclose(value.numpy(), recorded[name], atol=1e-5, rtol=0, err_msg=name)


def test_every_tensor_of_the_full_checkpoint_loads_strictly() -> None:
    lines = need(SHARED / "reference" / "dualtalk_checkpoint.tsv").read_text().split("\n")
    shapes = {name: tuple(map(int, size.split("x"))) for name, size in (line.split("\t") for line in lines if line)}
    with torch.device("meta"):
        model = DualTalk()
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
    load_state(model, state)
    assert sum(p.numel() for p in model.parameters()) == sum(np.prod(shape) for shape in shapes.values())
    assert 640e6 < sum(p.numel() for p in model.parameters()) < 650e6


def old_spelling(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in state.items()
    }


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_file_of_either_spelling_gives_the_same_motion(tmp_path: Path, prefix: str) -> None:
    model = DualTalk(TINY).eval()
    state = {prefix + name: value for name, value in old_spelling(model.state_dict()).items()}
    assert any(name.endswith("weight_g") for name in state)
    torch.save(state, tmp_path / "old.pth")
    torch.save(model.state_dict(), tmp_path / "new.pth", _use_new_zipfile_serialization=False)
    old, new = (load_checkpoint(tmp_path / name, TINY) for name in ("old.pth", "new.pth"))
    audio, motion = torch.randn(2, 1, 6400), torch.randn(1, 9, 56)
    with torch.no_grad():
        wanted = model(*audio, motion)
        assert wanted.shape == (1, frame_count(6400), 56)
        torch.testing.assert_close(old(*audio, motion), wanted)
        torch.testing.assert_close(new(*audio, motion), wanted)


def test_a_checkpoint_that_does_not_fit_is_one_clear_line(tmp_path: Path) -> None:
    state = DualTalk(TINY).state_dict()
    state.pop("synthesis_module.blendshape_predictor.bias")
    state["extra.weight"] = torch.zeros(1)
    state["joint_encoder.audio_projection.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(
        UsageError, match=r"3 tensors differ\): missing .*bias; unknown extra.weight; .* is \[3\], not \[16\]"
    ):
        load_checkpoint(tmp_path / "wrong.pth", TINY)
    (tmp_path / "text.pth").write_text("no")
    for name, line in (("text.pth", "not a torch state dict"), ("none.pth", "no checkpoint")):
        with pytest.raises(UsageError, match=line):
            load_checkpoint(tmp_path / name, TINY)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "owned"),))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UsageError, match="not a torch state dict"):
        load_checkpoint(tmp_path / "evil.pth", TINY)
    assert not (tmp_path / "owned").exists()


def test_only_the_convolutions_of_the_audio_encoders_are_frozen() -> None:
    frozen = {name for name, p in DualTalk(TINY).named_parameters() if not p.requires_grad}
    assert frozen
    assert all(".feature_extractor." in name for name in frozen)


def test_it_learns_a_constant_and_the_loss_is_the_sum_of_its_parts() -> None:
    model = DualTalk(DualTalkOptions(width=16, dropout=0.0, audio=TINY_AUDIO))
    audio, partner = torch.randn(2, 2, 3200), torch.randn(2, 5, 56)
    truth = torch.full((2, 5, 56), 0.3)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(25):
        loss = dualtalk_loss(model(*audio, partner), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    a, b = torch.zeros(1, 2, 56), torch.zeros(1, 2, 56)
    b[..., 50:53] = 2.0  # jaw only, held: 4 in its group, nothing else
    assert float(dualtalk_loss(a, b)) == pytest.approx(4.0)
    b[0, 1, 50:53] = 4.0  # (4 + 16) / 2 and a velocity of 2 in 3 of 56
    assert float(dualtalk_loss(a, b)) == pytest.approx(10.0 + 3 * 4 / 56)


def test_the_audio_encoder_is_wav2vec2() -> None:
    """What Hugging Face transformers 5.23 computes for a small model of the same kind with random weights."""
    recorded = np.load(Path(__file__).parent / "data" / "wav2vec_tiny.npz")
    state = {name[3:]: torch.from_numpy(recorded[name]) for name in recorded.files if name.startswith("sd:")}
    model = Wav2Vec(TINY_AUDIO).eval()
    model.load_state_dict(modern_names(state), strict=True)
    audio = normalise_audio(torch.from_numpy(recorded["audio"]))
    np.testing.assert_allclose(audio.numpy(), recorded["normalised"], atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(model(audio).numpy(), recorded["features"], atol=1e-5)
        assert model(audio, frames=13).shape == (2, 13, 16)


def test_features_are_resampled_with_their_ends_aligned() -> None:
    model = Wav2Vec(TINY_AUDIO).eval()
    audio = normalise_audio(torch.randn(1, 8000))
    with torch.no_grad():
        features = model.feature_extractor(audio)
        doubled = 2 * features.shape[1] - 1  # every second resampled frame is an original one
        between = torch.stack([features[:, :-1], (features[:, :-1] + features[:, 1:]) / 2], 2).flatten(1, 2)
        wanted = model.encoder(model.feature_projection(torch.cat([between, features[:, -1:]], 1)))
        torch.testing.assert_close(model(audio, frames=doubled), wanted, atol=1e-5, rtol=1e-4)


def test_each_input_matters_and_clips_do_not_mix() -> None:
    model = DualTalk(TINY).eval()
    own, partner, motion = torch.randn(2, 6400), torch.randn(2, 6400), torch.randn(2, 12, 56)
    with torch.no_grad():
        out = model(own, partner, motion)
        for index in range(2):
            alone = model(own[index : index + 1], partner[index : index + 1], motion[index : index + 1])
            torch.testing.assert_close(alone[0], out[index], atol=1e-5, rtol=1e-4)
        for inputs in ((partner, partner, motion), (own, own, motion), (own, partner, motion.flip(0))):
            assert (model(*inputs) - out).abs().max() > 2e-5  # weights are random: small, but not rounding
        features = model.joint_encoder(own, partner, motion)
        predictor, x = (
            model.synthesis_module,
            model.interaction_module(features[0], model.temporal_enhancer(features[1], features[2])),
        )
        decoded = predictor.synthesis_decoder(x, x)
        by_hand = predictor.blendshape_predictor(decoded + 0.1 * predictor.modulation_layer(decoded))
        torch.testing.assert_close(by_hand, out)
        model.train()
        assert (model(own, partner, motion) - model(own, partner, motion)).abs().max() > 1e-4  # dropout


def test_normalised_audio_and_frame_counts() -> None:
    audio = normalise_audio(3 + 5 * torch.randn(2, 4000))
    torch.testing.assert_close(audio.mean(-1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(audio.std(-1, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    assert [frame_count(n) for n in (375_808, 479_232, 16_000)] == [588, 749, 25]
