"""Light-ASD: its recorded outputs, its structure, its cepstra, its crops; and that it can stand in for the lips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from duologue.schemas.errors import UsageError
from duologue.schemas.tracks import FaceTrack
from duologue.transforms.active_speaker import ActiveSpeaker, LightAsd, clip_scores, mfcc
from duologue.transforms.evidence import ActiveScores, BindOptions, face_llr
from duologue.transforms.lips import LipSignal
from duologue.transforms.mouth_crop import CROP, mouth_crop

SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> ActiveSpeaker:
    """Random weights, through the real loader."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("asd") / "random.model"
    torch.save(LightAsd().state_dict(), path)
    return ActiveSpeaker(str(path))


@pytest.mark.parametrize("name", ["finetuning_TalkSet", "pretrain_AVA_CVPR"])
def test_recorded_outputs_with_the_published_weights(name: str) -> None:
    weights, golden = SHARED / "weights" / f"light_asd_{name}.model", SHARED / "golden" / f"light_asd_{name}.npz"
    if not (weights.is_file() and golden.is_file()):
        pytest.skip("the published weights are absent")
    network = ActiveSpeaker(str(weights)).network
    with np.load(golden) as stored, torch.inference_mode():
        sound, picture = torch.from_numpy(stored["mfcc"][0]), torch.from_numpy(stored["gray"][0])
        audio, video = network.embed_audio(sound), network.embed_video(picture)
        got = {
            "audio_embedding": audio,
            "visual_embedding": video,
            "fused": network.fuse(audio, video),
            "logits": network(sound, picture),
        }
        for key, value in got.items():
            assert np.abs(value.numpy() - stored[key].reshape(value.shape)).max() < 1e-4, key


def test_structure() -> None:
    network = LightAsd()
    assert sum(p.numel() for p in network.parameters()) == 1_021_636
    names = dict(network.state_dict())
    assert names["model.visualEncoder.block1.s_5.weight"].shape == (32, 1, 1, 5, 5)
    assert names["model.audioEncoder.block3.t_3.weight"].shape == (128, 128, 1, 3)
    assert names["lossAV.FC.weight"].shape == (2, 128)
    assert len(names) == 192


def test_the_network_sees_both_sides_of_a_moment(untrained: ActiveSpeaker) -> None:
    """The recurrent part runs ahead and back: the first frame's score depends on the last frame, and on the sound."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 255, (8, CROP, CROP)).astype(np.uint8)
    audio = rng.normal(0, 0.1, 8 * 640).astype(np.float32)
    base = untrained(crops, audio)
    assert base.shape == (8,)
    changed = crops.copy()
    changed[-1] = 0
    assert abs(untrained(changed, audio)[0] - base[0]) > 0
    assert np.abs(untrained(crops, np.zeros_like(audio)) - base).max() > 0
    assert np.array_equal(untrained(crops, audio), base)


def test_long_input_is_read_in_windows(untrained: ActiveSpeaker) -> None:
    rng = np.random.default_rng(1)
    crops = np.repeat(rng.integers(0, 255, (30, 14, 14)), 8, axis=1).repeat(8, axis=2).astype(np.uint8)
    crops = np.concatenate([crops] * 2)
    audio = rng.normal(0, 0.1, 60 * 640).astype(np.float32)
    whole, parts = untrained(crops, audio, window_s=5.0), untrained(crops, audio, window_s=2.2)
    assert len(parts) == 60
    assert np.corrcoef(whole, parts)[0, 1] > 0.98
    assert untrained(crops[:0], audio).shape == (0,)


def test_weights_that_are_not_there_or_not_these(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not found"):
        ActiveSpeaker(str(tmp_path / "none.model"))
    with pytest.raises(UsageError, match="speaker_path"):
        ActiveSpeaker("")
    for bad in ({"x": torch.zeros(3)}, [1, 2]):
        torch.save(bad, tmp_path / "bad.model")
        with pytest.raises(UsageError, match="does not hold"):
            ActiveSpeaker(str(tmp_path / "bad.model"))
    (tmp_path / "text.model").write_text("not a checkpoint")
    with pytest.raises(UsageError, match="does not hold"):
        ActiveSpeaker(str(tmp_path / "text.model"))


def test_cepstra_of_known_levels() -> None:
    """A full-scale tone: its energy is that of 16-bit samples; silence gives the floor; missing sound is silence."""
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000)).astype(np.float32)
    out = mfcc(tone, 60)
    assert out.shape == (60, 13)
    # pre-emphasis scales a tone by |1 - 0.97 e^{-iw}|; the spectrum's half holds half of the energy (Parseval)
    gain = abs(1 - 0.97 * np.exp(-2j * np.pi * 1000 / 16000))
    energy = 400 * 0.5 * (0.5 * 32768 * gain) ** 2 / 2
    assert out[10, 0] == pytest.approx(np.log(energy), abs=0.02)
    assert np.allclose(out[55:, 0], np.log(np.finfo(np.float64).eps))
    louder = mfcc(2 * tone, 40)
    assert np.allclose(louder[:, 0] - out[:40, 0], 2 * np.log(2), atol=1e-4)
    assert np.allclose(louder[5:35, 1:], out[5:35, 1:], atol=1e-3)  # shape does not depend on level
    assert np.isfinite(mfcc(np.full(1000, np.nan, np.float32), 10)).all()


def landmarks(x: float, y: float, scale: float) -> np.ndarray:
    """[478, 3] a flat oval, 2.8 face scales high, with outer eye corners at the right distance."""
    angle = np.linspace(0, 2 * np.pi, 478)
    points = np.stack([x + scale * np.sin(angle), y + 1.4 * scale * np.cos(angle), np.zeros(478)], 1)
    half = 0.5 * scale * 89.4 / 63.0
    points[33], points[263] = (x - half, y - 0.3 * scale, 0), (x + half, y - 0.3 * scale, 0)
    return points.astype(np.float32)


@pytest.mark.parametrize("scale", [12.0, 40.0, 150.0])
def test_the_crop_is_where_it_should_be(scale: float) -> None:
    """A mark at the mouth is found where the geometry puts it; the crop is upright and the right way round."""
    rgb = np.full((900, 1200, 3), 40, np.uint8)
    x, y = 600.0, 430.0
    half = 1.4 * scale
    mx, my = x + 0.3 * half, y + 0.6 * half  # right of and below the centre
    radius = max(1, round(0.08 * half))
    rgb[round(my) - radius : round(my) + radius + 1, round(mx) - radius : round(mx) + radius + 1] = 250
    crop = mouth_crop(rgb, landmarks(x, y, scale)).astype(float)
    assert crop.shape == (CROP, CROP)
    weight = np.clip(crop - 60, 0, None)
    rows, columns = np.mgrid[:CROP, :CROP]
    assert (weight * columns).sum() / weight.sum() == pytest.approx((0.3 + 0.7) / 1.4 * CROP, abs=3.5)
    assert (weight * rows).sum() / weight.sum() == pytest.approx((0.6 + 0.3) / 1.4 * CROP, abs=3.5)


def test_a_crop_beyond_the_image_is_grey() -> None:
    rgb = np.full((100, 100, 3), 200, np.uint8)
    assert (mouth_crop(rgb, landmarks(-500.0, -500.0, 30.0)) == 110).all()
    edge = mouth_crop(rgb, landmarks(100.0, 50.0, 30.0))
    assert (edge[:, -20:] == 110).all()
    assert (edge[:, :40] > 190).all()


def test_scores_on_the_clips_clock(untrained: ActiveSpeaker) -> None:
    """Crops at the source's own times are taken to 25 fps; times without a crop near them say nothing."""
    rng = np.random.default_rng(2)
    times = 10.0 + np.arange(60) / 29.97
    valid = np.ones(60, bool)
    valid[20:35] = False
    crops = rng.integers(0, 255, (60, CROP, CROP)).astype(np.uint8)
    nothing = np.zeros(60, np.float32)
    track = FaceTrack(
        "t", np.zeros((60, 478, 3), np.float32), np.zeros((60, 4), np.float32), valid, nothing, nothing, nothing, crops
    )
    clock = np.arange(10.0, 11.9, 0.04)
    audio = rng.normal(0, 0.1, 48000).astype(np.float32)
    score = clip_scores(track, times, audio, 9.5, clock, untrained)
    gap = (clock > times[19] + 0.05) & (clock < times[35] - 0.05)
    assert (score[gap] == 0).all()
    assert (score[~gap] != 0).mean() > 0.9
    late = clip_scores(track, times, audio[8000:], 10.0, clock, untrained)
    assert np.allclose(score, late)
    with pytest.raises(ValueError, match="no crops"):
        clip_scores(FaceTrack("t", *(getattr(track, f) for f in ("landmarks", "box", "valid")), nothing, nothing,
                              nothing), times, audio, 9.5, clock, untrained)  # fmt: skip


def test_a_networks_scores_take_the_place_of_lip_speed() -> None:
    times = np.arange(0, 2, 0.01)
    nothing = np.zeros(200, np.float32)
    still = LipSignal(times, nothing, nothing, 0.0, times < 1.5, 0.0)
    options = BindOptions()
    clock = np.arange(0, 2, 0.04)
    scores = ActiveScores(clock, np.full(50, 4.0, np.float32), np.full(50, -9.0, np.float32))
    again = ActiveScores.from_arrays(scores.to_arrays())
    assert np.array_equal(again.b, scores.b)
    a, b = face_llr(still, options, (clock, scores.a)), face_llr(still, options, (clock, scores.b))
    assert np.allclose(a[:150], 2.0)
    assert np.allclose(b[:150], -options.most)
    assert (a[150:] == 0).all()  # not seen
    assert face_llr(still, options)[10] < 0
