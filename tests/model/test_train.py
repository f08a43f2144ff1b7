"""Training: representation, losses, schedule, exact resume, ranks, clear errors, sampling without seams."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_factory import make_pair, write_dataset
from duologue import cli
from duologue.fitting.rotations import exp_so3, geodesic
from duologue.model import checkpoint
from duologue.model.audio_features import AudioOptions, LogMel, cache_features
from duologue.model.data import LoaderOptions, PairLoader
from duologue.model.diffusion import add_noise, ddim, signal_and_noise
from duologue.model.dyad_metrics import gaze_directions
from duologue.model.losses import LossOptions, MotionLoss, mask_loss
from duologue.model.network import DualStream, NetworkOptions
from duologue.model.representation import (
    LAYOUT_DIM,
    Statistics,
    decode,
    dim_count,
    dim_names,
    encode,
    eye_directions,
    part_slices,
    scene_of,
    statistics_of,
)
from duologue.model.sample import FACE_TO_FACE, Placement, generate, place_like, window_starts, window_weights
from duologue.model.train import Stopped, learning_rate, train
from duologue.model.train_config import TrainConfig, config_of, load_config
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError

SMALL = {"width": 16, "levels": 2, "blocks": 1, "layers": 2, "heads": 2, "condition": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    write_dataset(root, [make_pair(k, video=f"v{k}", frames=75) for k in range(24)], shards=4)
    return root


def config(folder: Path, out: Path, **more: object) -> TrainConfig:
    tree: dict[str, object] = {
        "out": str(out),
        "stages": [{"steps": 6, "data": [{"path": str(folder)}]}],
        "load": {"batch_size": 4, "window": 50, "selected": False, "workers": 1},
        "audio": {"width": 16, "layers": 1},
        "network": SMALL,
        "optimiser": {"lr": 1e-3, "warmup": 2},
        "log": {"every": 1, "save_every": 3, "validate_every": 0, "sample_every": 0, "tensorboard": False},
    }
    return config_of({**tree, **more})


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "curves.jsonl").read_text().splitlines()]


def batch_of(folder: Path, window: int = 75):
    options = LoaderOptions(batch_size=8, window=window, split="", selected=False, shuffle=False, workers=1)
    return next(iter(PairLoader(folder, options)))


def test_the_representation_is_undone_exactly(folder: Path) -> None:
    batch = batch_of(folder)
    scene = scene_of(batch, torch.full((8,), 30))
    raw = encode(batch, scene)
    assert raw.shape == (8, 2, 75, dim_count(20)) == (8, 2, 75, len(dim_names(20)))
    back, good = decode(raw, scene), batch.valid
    for name in ("expression", "jaw", "neck", "eyes", "translation"):
        torch.testing.assert_close(back[name][good], getattr(batch, name)[good], atol=1e-5, rtol=0)
    turn = geodesic(exp_so3(back["rotation"][good]), exp_so3(batch.rotation[good]))
    assert float(turn.max()) < 2e-3
    moved = raw[..., part_slices(20)["translation"]]
    assert float(moved[:, :, 30].abs().max()) < 1e-6  # the anchor


def test_it_does_not_depend_on_where_the_camera_stood(folder: Path) -> None:
    batch = batch_of(folder)
    turn = exp_so3(torch.tensor([0.0, 0.7, 0.0]))
    from duologue.fitting.rotations import log_so3

    moved = replace(
        batch,
        rotation=log_so3(turn @ exp_so3(batch.rotation)),
        translation=batch.translation @ turn.T,
        head_centre=batch.head_centre @ turn.T,
    )
    one, two = (encode(b, scene_of(b)) for b in (batch, moved))
    good = batch.valid
    torch.testing.assert_close(one[good], two[good], atol=2e-4, rtol=0)
    torch.testing.assert_close(scene_of(batch).layout(), scene_of(moved).layout(), atol=2e-4, rtol=0)


def test_a_head_of_rotation_zero_faces_the_partner(folder: Path) -> None:
    scene = scene_of(batch_of(folder))
    forward = -scene.frame[..., 2]
    towards = scene.centre.flip(1) - scene.centre
    towards[..., 1] = 0
    towards /= towards.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(forward, towards, atol=1e-5, rtol=0)


def test_eye_directions_are_those_of_the_metrics(folder: Path) -> None:
    batch = batch_of(folder)
    scene = scene_of(batch)
    local = eye_directions(encode(batch, scene))
    shared = torch.einsum("bpij,bpwj->bpwi", scene.frame, local)[0, 0]
    wanted = gaze_directions(batch.rotation[0, 0].numpy(), batch.eyes[0, 0].numpy())
    good = batch.valid[0, 0].numpy()
    np.testing.assert_allclose(shared.numpy()[good], wanted[good], atol=1e-4)


def test_statistics_normalise_and_keep_what_never_varies(folder: Path) -> None:
    options = LoaderOptions(batch_size=8, window=75, split="", selected=False, shuffle=False, workers=1)
    batches = list(PairLoader(folder, options))
    stats = statistics_of(batches, "canonical")
    x = torch.cat([stats.normalise(encode(b, scene_of(b)))[b.valid] for b in batches])
    vary = stats.varies
    torch.testing.assert_close(x.mean(0), torch.zeros(stats.dims), atol=1e-3, rtol=0)
    torch.testing.assert_close(x.std(0)[vary], torch.ones(int(vary.sum())), atol=0.02, rtol=0)
    assert not vary[part_slices(20)["neck"]].any()
    assert not x[:, part_slices(20)["neck"]].any()
    again = Statistics.of_state(stats.state())
    assert torch.equal(again.sd, stats.sd)


def test_the_schedule_and_the_sampler() -> None:
    signal, noise = signal_and_noise(torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(signal**2 + noise**2, torch.ones(3))
    assert signal[0] == 1
    assert signal[2] < 1e-3
    clean = torch.randn(2, 3, 4)
    same = ddim(lambda x, t: clean, torch.randn(2, 3, 4), 5, 9.0)  # an oracle is believed
    torch.testing.assert_close(same, clean)
    mixed = add_noise(clean, torch.tensor([0.0, 1.0]), torch.ones_like(clean))
    torch.testing.assert_close(mixed[0], clean[0])
    torch.testing.assert_close(mixed[1], torch.ones(3, 4), atol=1e-3, rtol=1e-2)


def _loss(batch, **options: float):
    stats = statistics_of([batch], "canonical")
    truth = stats.normalise(encode(batch, scene_of(batch)))
    return MotionLoss(LossOptions(**options), stats, [3, *range(20, 23)]), stats, truth


def test_losses_are_zero_for_the_truth_and_ignore_what_was_not_measured(folder: Path) -> None:
    batch = batch_of(folder)
    loss, _, truth = _loss(batch)
    none = torch.zeros(8, dtype=torch.bool)
    args = (batch.valid, batch.gaze_valid, batch.speaking, none)
    assert float(loss(truth, truth, *args)["loss"]) < 1e-5
    spoilt = torch.where(batch.valid[..., None], truth, truth + 50)
    assert float(loss(spoilt, truth, *args)["loss"]) < 1e-5
    for name, part in part_slices(20).items():
        if name == "neck":
            continue
        moved = truth.clone()
        moved[..., part] += 0.5
        terms = loss(moved, truth, *args)
        group = {"jaw": "expression", "eyes": "rotation"}.get(name, name)
        assert float(terms[group]) > 1e-3
        assert (float(terms["gaze"]) > 1e-5) == (name in ("rotation", "eyes"))


def test_the_weights_are_the_papers() -> None:
    options = LossOptions()
    names = ("expression", "rotation", "translation", "velocity", "gaze")
    assert [getattr(options, name) for name in names] == [1, 8, 1, 1, 5]


def test_heads_that_turn_much_weigh_more(folder: Path) -> None:
    batch = batch_of(folder)
    none = torch.zeros(8, dtype=torch.bool)
    args = (batch.valid, batch.gaze_valid, batch.speaking, none)
    values = []
    for factor in (1.0, 3.0):
        loss, _, truth = _loss(batch, high_rotation=factor)
        moved = truth.clone()
        moved[..., part_slices(20)["eyes"]] += 0.5
        values.append(float(loss(moved, truth, *args)["gaze"]))
    assert values[0] < values[1] < 3 * values[0]  # some samples, not all


def test_mouth_only_rows_teach_the_speakers_mouth_alone(folder: Path) -> None:
    batch = batch_of(folder)
    loss, _, truth = _loss(batch)
    every = torch.ones(8, dtype=torch.bool)
    guess = (truth + torch.randn_like(truth)).requires_grad_()
    terms = loss(guess, truth, batch.valid, batch.gaze_valid, batch.speaking, every)
    terms["loss"].backward()
    touched = guess.grad.abs() > 0
    wanted = torch.zeros_like(touched)
    wanted[..., [3, 20, 21, 22]] = (batch.valid & (batch.speaking >= 0.5))[..., None]
    assert not (touched & ~wanted).any()
    assert touched[wanted & (truth.abs() >= 0)].float().mean() > 0.4  # the still jaw axes have no truth to differ from
    assert float(terms["expression"]) == 0


def test_predicted_masks_may_come_in_either_order() -> None:
    speaking = (torch.rand(3, 2, 40) > 0.5).float()
    logits = (speaking * 2 - 1) * 20
    known = torch.ones(3, 40, dtype=torch.bool)
    assert float(mask_loss(logits.flip(1), speaking, known)) < 1e-3
    assert float(mask_loss(-logits, speaking, known)) > 1


@pytest.mark.parametrize("backbone", ["unet", "transformer"])
def test_one_network_for_both_people(backbone: str) -> None:
    torch.manual_seed(0)
    options = NetworkOptions(**{**SMALL, "backbone": backbone})
    model = DualStream(12, 320, options, AudioOptions(width=16, layers=1)).eval()
    for p in model.parameters():  # zero-initialised joints would hide what is tested
        if not p.any():
            torch.nn.init.normal_(p, std=0.2)
    x, t = torch.randn(2, 2, 21, 12), torch.tensor([0.3, 0.7])
    layout, speaking, heard = torch.randn(2, 2, LAYOUT_DIM), torch.rand(2, 2, 21), model.hear(torch.randn(2, 21, 320))
    begins = torch.ones(2)
    out = model(x, t, model.condition_on(heard, speaking, layout, begins))
    swapped = model(x.flip(1), t, model.condition_on(heard, speaking.flip(1), layout.flip(1), begins))
    torch.testing.assert_close(out, swapped.flip(1), atol=1e-5, rtol=1e-4)
    other = x.clone()
    other[:, 1] += 1
    c = model.condition_on(heard, speaking, layout, begins)
    assert (model(other, t, c)[:, 0] - out[:, 0]).abs().max() > 1e-3  # the partner is seen


@pytest.mark.parametrize("switch", ["cross_attention", "roles", "masks", "audio", "layout"])
def test_each_ingredient_can_be_switched_off(switch: str) -> None:
    torch.manual_seed(0)
    changed = {}
    for on in (True, False):
        options = NetworkOptions(**{**SMALL, "roles": switch == "roles", "masks": switch == "masks", switch: on})
        torch.manual_seed(1)
        model = DualStream(12, 320, options, AudioOptions(width=16, layers=1)).eval()
        for p in model.parameters():
            if not p.any():
                torch.nn.init.normal_(p, std=0.2)
        x, t, begins = torch.randn(1, 2, 20, 12), torch.tensor([0.5]), torch.ones(1)
        layout, speaking, sound = torch.randn(1, 2, LAYOUT_DIM), torch.rand(1, 2, 20), torch.randn(1, 20, 320)
        base = model(x, t, model.condition_on(model.hear(sound), speaking, layout, begins))
        if switch == "cross_attention":
            x = torch.stack([x[:, 0], x[:, 1] + 1], 1)
        elif switch == "audio":
            sound = sound + 1
        elif switch == "layout":
            layout = layout + 1
        else:
            speaking = 1 - speaking
        after = model(x, t, model.condition_on(model.hear(sound), speaking, layout, begins))
        changed[on] = float((after - base)[:, 0].abs().max())
    assert changed[True] > 1e-3
    assert changed[False] < 1e-6


def test_sound_that_stops_halfway_through_training_is_hidden() -> None:
    model = DualStream(12, 320, NetworkOptions(**SMALL), AudioOptions(width=16, layers=1)).eval()
    heard = model.hear(torch.randn(2, 20, 320))
    rest = (torch.rand(2, 2, 20), torch.randn(2, 2, LAYOUT_DIM), torch.ones(2))
    silent = model.condition_on(heard, *rest, silent=torch.tensor([True, False]))
    again = model.condition_on(heard + 1, *rest, silent=torch.tensor([True, False]))
    assert torch.equal(silent[0], again[0])
    assert not torch.equal(silent[1], again[1])


def test_log_mel_finds_the_tone() -> None:
    front = LogMel()
    t = torch.arange(16_000) / 16_000
    features = front(torch.stack([0.1 * torch.sin(6.283 * f * t) for f in (300.0, 3000.0)]))
    assert features.shape == (2, 25, 320)
    low, high = features.view(2, 25, 4, 80).mean((1, 2)).argmax(-1).tolist()
    assert low < 20 < 45 < high < 80


def test_features_are_cached_once_and_cut_to_windows(folder: Path, tmp_path: Path) -> None:
    data, front, computed = Dataset(folder), LogMel(), []
    cache = cache_features(data, front, tmp_path, progress=computed.append)
    assert computed[-1] == 24
    cache_features(data, front, tmp_path, progress=lambda n: pytest.fail("computed again"))
    batch = batch_of(folder, window=50)
    got = cache.read(batch.pair_ids, batch.starts.tolist(), 50)
    torch.testing.assert_close(got[:, 5:45], front(batch.audio)[:, 5:45], atol=2e-2, rtol=1e-2)
    with pytest.raises(UsageError, match="no cached audio features"):
        cache.read(["nobody"], [0], 50)


def test_the_loss_curve_is_the_same_after_a_resume(folder: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    dropout = {**SMALL, "dropout": 0.2}
    train(config(folder, whole, network=dropout))
    train(config(folder, cut, network=dropout), until=4)
    assert checkpoint.read(cut)["step"] == 4
    train(config(folder, cut, network=dropout))
    assert losses(whole) == losses(cut)
    assert len(losses(whole)) == 6
    one, two = (checkpoint.read(out) for out in (whole, cut))
    assert all(torch.equal(value, two["ema"][name]) for name, value in one["ema"].items())


def test_two_stages_one_run(folder: Path, tmp_path: Path) -> None:
    stages = [{"steps": 2, "data": [{"path": str(folder)}]}, {"steps": 3, "data": [{"path": str(folder)}]}]
    train(config(folder, tmp_path / "cut", stages=stages), until=3)  # inside the second stage
    train(config(folder, tmp_path / "cut", stages=stages))
    train(config(folder, tmp_path / "whole", stages=stages))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_bf16_and_cached_features_train_too(folder: Path, tmp_path: Path) -> None:
    done = train(
        config(
            folder, tmp_path / "run", precision="bf16",
            audio={"width": 16, "layers": 1, "cache": str(tmp_path / "cache")}, losses={"gaze": 0.0},
        )
    )  # fmt: skip
    assert math.isfinite(done["loss"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "curves.jsonl").read_text().splitlines()]
    assert all(line["masks"] > 0.1 for line in lines)  # the cached sound counts as heard


def test_warm_up_then_cosine(folder: Path, tmp_path: Path) -> None:
    it = config(folder, tmp_path)
    rates = [learning_rate(it, step) for step in range(6)]
    assert rates[:2] == [5e-4, 1e-3]
    assert rates[2] == 1e-3
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_a_loss_that_is_not_finite_stops_the_run(folder: Path, tmp_path: Path) -> None:
    train(config(folder, tmp_path / "run"), until=3)
    state = checkpoint.read(tmp_path / "run")
    before = (tmp_path / "run" / checkpoint.LAST).read_bytes()
    state["model"]["condition.bias"][:] = torch.nan
    state.pop("version")
    checkpoint.save(tmp_path / "run" / checkpoint.LAST, state)
    poisoned = (tmp_path / "run" / checkpoint.LAST).read_bytes()
    assert poisoned != before
    with pytest.raises(Stopped, match=r"step 4: .*not finite; the last checkpoint is"):
        train(config(folder, tmp_path / "run"))
    assert (tmp_path / "run" / checkpoint.LAST).read_bytes() == poisoned  # nothing written over it


def test_one_line_errors(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    train(config(folder, out), until=1)
    with pytest.raises(UsageError, match=r"network.width = 16.* 32.*another out folder"):
        train(config(folder, out, network={**SMALL, "width": 32}))
    path = tmp_path / "c.json"

    def fails(tree: object, *settings: str) -> str:
        path.write_text(json.dumps(tree))
        argv = ["train", str(path)]
        for setting in settings:
            argv += ["--set", setting]
        assert cli.main(argv) == 2
        return capsys.readouterr().err.strip()

    good = checkpoint.plain(config(folder, tmp_path / "other"))
    for words, tree, settings in (
        ("needs out, stages", {}, ()),
        ("no option widht", {**good, "network": {"widht": 3}}, ()),
        ("must be a number", {**good, "optimiser": {"lr": "fast"}}, ()),
        ("network.width is 12", good, ("network.width=12",)),
        ("is not a data-set folder|manifest", good, ("stages.0.data.0.path=" + str(tmp_path),)),
        ("no selected pair", good, ("load.selected=true", "stages.0.data.0.path=" + str(_unselected(tmp_path)))),
        ("no readable config.json", good, ("audio.encoder=" + str(tmp_path),)),
        ("needs head_model", good, ("losses.lips=1",)),
        ("canonical-1, the data sets are labelled", good, ("head_model=canonical",)),
        ("is not a checkpoint", good, ("out=" + str(_broken(tmp_path)),)),
    ):
        line = fails(tree, *settings)
        assert "\n" not in line
        assert any(word in line for word in words.split("|")), line


def _unselected(root: Path) -> Path:
    out = root / "unselected"
    if not out.exists():
        write_dataset(out, [make_pair(k, scores={"speech_share": 0.0}) for k in range(3)])
    return out


def _broken(root: Path) -> Path:
    (root / "broken").mkdir(exist_ok=True)
    (root / "broken" / checkpoint.LAST).write_bytes(b"half a file")
    return root / "broken"


def test_yaml_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("out: x\nstages:\n- steps: 5\n  data: [{path: d}]\noptimiser: {lr: 1e-4}\n")
    it = load_config(path, ["network.width=64", "stages.0.steps=7", "network.cross_attention=false"])
    assert (it.optimiser.lr, it.network.width, it.steps, it.network.cross_attention) == (1e-4, 64, 7, False)
    with pytest.raises(UsageError, match=r"takes a\.b=value"):
        load_config(path, ["network.width"])


def test_windows_cover_and_fade() -> None:
    for frames, window, overlap in ((30, 50, 10), (50, 50, 10), (51, 50, 10), (203, 50, 20), (500, 250, 50)):
        starts = window_starts(frames, window, overlap)
        width = min(window, frames)
        total = torch.zeros(frames)
        weights = window_weights(starts, frames, width)
        for start, weight in zip(starts, weights, strict=True):
            total[start : start + width] += weight
        torch.testing.assert_close(total, torch.ones(frames))


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> checkpoint.Trained:
    out = tmp_path_factory.mktemp("trained")
    stages = [{"steps": 60, "data": [{"path": str(folder)}]}]
    train(config(folder, out, stages=stages, optimiser={"lr": 3e-3, "warmup": 5}))
    return checkpoint.load_trained(out)


def test_generated_heads_stand_where_they_were_put(trained: checkpoint.Trained) -> None:
    sound = 0.1 * np.random.default_rng(0).normal(size=16_000 * 9).astype(np.float32)
    places = (Placement((-0.5, 0.1, 1.6), (0.0, 0.9, 0.0)), Placement((0.4, 0.0, 1.3)))
    made = generate(trained, sound, places, steps=4)
    assert made.a.rotation.shape == made.b.gaze.shape == (225, 3)
    assert made.speaking.shape == (2, 225)
    for head, place in ((made.a, places[0]), (made.b, places[1])):
        np.testing.assert_allclose(head.head_centre[0], place.head_centre, atol=1e-5)
        for name in ("expression", "jaw", "rotation", "translation", "eyes", "gaze"):
            assert np.isfinite(getattr(head, name)).all()
        np.testing.assert_allclose(head.gaze, gaze_directions(head.rotation, head.eyes), atol=1e-5)
    again = generate(trained, sound, places, steps=4)
    np.testing.assert_array_equal(made.a.rotation, again.a.rotation)
    other = generate(trained, sound, places, steps=4, seed=1)
    assert np.abs(made.a.rotation - other.a.rotation).max() > 1e-3


def test_windows_leave_no_seam(trained: checkpoint.Trained) -> None:
    """Steps from frame to frame where windows meet are no larger than elsewhere; hard joints would be."""
    sound = 0.1 * np.random.default_rng(1).normal(size=16_000 * 20).astype(np.float32)
    made = generate(trained, sound, overlap_s=1.0, steps=8, guidance=1.0)
    starts = window_starts(500, 50, 25)
    motion = np.concatenate([made.a.expression, made.b.expression], axis=1)
    steps = np.linalg.norm(np.diff(motion, axis=0), axis=1)
    joints = np.zeros(len(steps), bool)
    for start in starts[1:]:
        joints[[start - 1, start, start + 24, start + 25 - 1]] = True
    assert len(starts) > 10
    assert steps[joints].mean() < 1.3 * steps[~joints].mean()
    butt = np.concatenate(
        [
            generate(trained, sound[k * 32_000 : (k + 1) * 32_000], steps=8, guidance=1.0, seed=k).a.expression
            for k in range(10)
        ]
    )
    hard = np.linalg.norm(np.diff(butt, axis=0), axis=1)
    at = np.arange(49, 499, 50)
    assert hard[at].mean() > 1.3 * np.delete(hard, at).mean()  # the test can see a seam


def test_sampling_refuses_bad_sound(trained: checkpoint.Trained, folder: Path) -> None:
    second = np.zeros(16_000, np.float32)
    for sound, words in (
        (np.zeros((2, 16_000), np.float32), "mono"),
        (second.astype(np.int16), "floats"),
        (second[:1000], "too short"),
        (second * np.nan, "NaN"),
    ):
        with pytest.raises(UsageError, match=words):
            generate(trained, sound)
    with pytest.raises(UsageError, match="speaking masks"):
        generate(trained, second, speaking=np.zeros((2, 30), np.float32))
    with pytest.raises(UsageError, match="different places"):
        generate(trained, second, (FACE_TO_FACE[0], FACE_TO_FACE[0]))
    pair = next(iter(Dataset(folder).pairs(selected=False)))
    places = place_like((pair.fitted.a, pair.fitted.b))
    assert generate(trained, second, places, steps=1).a.shape.tolist() == pair.fitted.a.shape.tolist()


def test_two_processes_train_together(folder: Path, tmp_path: Path) -> None:
    it = config(folder, tmp_path / "run", stages=[{"steps": 2, "data": [{"path": str(folder)}]}], device="cpu")
    path = tmp_path / "c.json"
    path.write_text(json.dumps(checkpoint.plain(it)))
    argv = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29573"]
    done = subprocess.run(
        [*argv, "-m", "duologue.cli", "train", str(path), "--json"],
        capture_output=True, text=True, timeout=200, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    state = checkpoint.read(tmp_path / "run")
    assert (state["step"], len(state["loaders"])) == (2, 2)


def test_the_plot_of_a_sample_shows_both_people_beside_the_truth(trained: checkpoint.Trained, folder: Path) -> None:
    pytest.importorskip("matplotlib")
    from duologue.model.plots import sample_figure

    batch = batch_of(folder)
    figure = sample_figure(trained.model, trained.statistics, trained.front(batch.audio), batch, trained.config)
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 2, 2]
    truth, sample = figure.axes[1].lines  # person a's jaw
    valid = batch.valid[0, 0].numpy()
    np.testing.assert_allclose(np.asarray(truth.get_ydata())[valid], np.degrees(batch.jaw[0, 0, valid, 0]), atol=1e-3)
    assert np.isfinite(np.asarray(sample.get_ydata())).all()
