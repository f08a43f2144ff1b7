"""Sampling: windows without seams, people where they were put, clear errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from duologue.fitting.load_head import load_head_model
from duologue.fitting.rotations import exp_so3, geodesic
from duologue.model import checkpoint
from duologue.model.dyad_metrics import gaze_directions
from duologue.model.gaps import bridged
from duologue.model.given import HELD, given, motion_of
from duologue.model.mesh_metrics import inner_lips
from duologue.model.representation import encode, from_six, part_slices, scene_of, statistics_of, to_six
from duologue.model.sample import (
    FACE_TO_FACE,
    Placement,
    generate,
    place_like,
    window_starts,
    window_weights,
)
from duologue.model.train import train
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from train_factory import batch_of, config_for, write_small_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("set"))


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
    train(config_for(folder, out, stages=stages, optimiser={"lr": 3e-3, "warmup": 5}))
    return checkpoint.load_trained(out)


def test_generated_heads_stand_where_they_were_put(trained: checkpoint.Trained) -> None:
    sound = 0.1 * np.random.default_rng(0).normal(size=16_000 * 9).astype(np.float32)
    places = (Placement((-0.5, 0.1, 1.6), (0.0, 0.9, 0.0)), Placement((0.4, 0.0, 1.3)))
    made = generate(trained, sound, places, steps=4)
    assert made.a.rotation.shape == made.b.gaze.shape == (225, 3)
    assert made.speaking.shape == (2, 225)
    for head, place in ((made.a, places[0]), (made.b, places[1])):
        np.testing.assert_allclose(head.head_centre[0], place.head_centre, atol=1e-5)
        if place.rotation is not None:
            turned = geodesic(exp_so3(torch.tensor(head.rotation[0])), exp_so3(torch.tensor(place.rotation)))
            assert float(turned) < 1e-3
            turns = exp_so3(torch.tensor(head.rotation))
            steps = geodesic(turns[1:], turns[:-1])
            assert float(steps[0]) <= float(steps[1:25].max()) + 1e-4  # nobody jumps from where they were put
        for name in ("expression", "jaw", "rotation", "translation", "eyes", "gaze"):
            assert np.isfinite(getattr(head, name)).all()
        np.testing.assert_allclose(head.gaze, gaze_directions(head.rotation, head.eyes), atol=1e-5)
    again = generate(trained, sound, places, steps=4)
    np.testing.assert_array_equal(made.a.rotation, again.a.rotation)
    other = generate(trained, sound, places, steps=4, seed=1)
    assert np.abs(made.a.rotation - other.a.rotation).max() > 1e-3


def test_a_held_head_stays_turned_as_it_was_put(folder: Path) -> None:
    batch = batch_of(folder)
    scene, statistics = scene_of(batch), statistics_of([batch], "canonical")
    where = part_slices(statistics.expression)["rotation"]
    turn = 0.9 * torch.linspace(0, 20, 120).clamp_max(1)  # both look round and stay so
    rotation = exp_so3(torch.stack([0 * turn, turn, 0 * turn], -1)) @ scene.facing[:, :, None]
    raw = statistics.restore(torch.zeros(8, 2, 120, statistics.dims))
    raw[..., where] = to_six(rotation) - to_six(scene.facing)[:, :, None]
    held = torch.tensor([[True, False]]).expand(8, -1)
    known = given(scene, statistics, held)
    moved = statistics.restore(known.lead(statistics.normalise(raw)))[..., where]
    heads = from_six(moved + to_six(scene.facing)[:, :, None])
    torch.testing.assert_close(heads[:, :, 0], scene.facing, atol=1e-4, rtol=0)
    yaw = (
        torch.atan2(heads[..., 0, 2], heads[..., 2, 2])
        - torch.atan2(scene.facing[..., 0, 2], scene.facing[..., 2, 2])[..., None]
    )
    middle = torch.atan2(yaw.sin(), yaw.cos()).median(-1).values
    torch.testing.assert_close(middle[:, 0], torch.full((8,), HELD), atol=0.02, rtol=0)
    assert float(middle[:, 1].min()) > 0.8


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


def test_a_partner_comes_back_as_measured_and_is_answered(trained: checkpoint.Trained, folder: Path) -> None:
    pair = next(iter(Dataset(folder).pairs(selected=False)))
    a, b = pair.fitted.a, pair.fitted.b
    gap = a.valid.copy()
    gap[20:24] = False
    a = replace(a, valid=gap, jaw=np.where(gap[:, None], a.jaw, np.nan).astype(np.float32))
    masks = np.stack([pair.voices.speaking_a, pair.voices.speaking_b])
    sound = 0.1 * np.random.default_rng(0).normal(size=len(gap) * 640).astype(np.float32)
    places = place_like((a, b))

    made = generate(trained, sound, places, speaking=masks, partner=(a, None), steps=3)
    for name in ("jaw", "rotation", "translation", "expression", "eyes", "head_centre"):
        np.testing.assert_array_equal(getattr(made.a, name)[gap], getattr(a, name)[gap])
        assert np.isfinite(getattr(made.a, name)).all()
    np.testing.assert_allclose(made.a.jaw[21], a.jaw[19] + (a.jaw[24] - a.jaw[19]) * 2 / 5, atol=1e-6)
    np.testing.assert_allclose(made.b.head_centre[0], places[1].head_centre, atol=1e-5)

    alone = generate(trained, sound, places, speaking=masks, steps=3)
    other = replace(a, jaw=a.jaw + 0.3, eyes=a.eyes + 0.4)
    answered = generate(trained, sound, places, speaking=masks, partner=(other, None), steps=3)
    for before in (alone, answered):  # b is generated, and depends on what a does
        assert np.abs(before.b.jaw - made.b.jaw).max() > 1e-5
    again = generate(trained, sound, places, speaking=masks, partner=(a, None), steps=3)
    np.testing.assert_array_equal(again.b.jaw, made.b.jaw)

    for partner, words in (
        ((a, b), "nothing to generate"),
        ((replace(a, valid=gap[:50]), None), "50 frames"),
        ((None, replace(b, valid=np.zeros_like(gap))), "measured in no frame"),
        ((None, replace(b, expression=b.expression[:, :3])), "3 expression"),
    ):
        with pytest.raises(UsageError, match=words):
            generate(trained, sound, places, speaking=masks, partner=partner)
    deaf = replace(trained.config, diffusion=replace(trained.config.diffusion, partner_given=0.0))
    with pytest.raises(UsageError, match="not trained to answer"):
        generate(replace(trained, config=deaf), sound, places, speaking=masks, partner=(a, None))


def test_a_partners_numbers_are_those_that_training_sees(trained: checkpoint.Trained, folder: Path) -> None:
    pair = next(iter(Dataset(folder).pairs(selected=False)))
    batch = batch_of(folder)
    row = batch.pair_ids.index(pair.pair_id)
    scene = scene_of(batch)
    wanted = trained.statistics.normalise(encode(batch, scene))[row]
    one = scene_of(
        replace(batch, **{k: v[row : row + 1] for k, v in vars(batch).items() if isinstance(v, torch.Tensor)})
    )
    for who, head in enumerate((pair.fitted.a, pair.fitted.b)):
        got = motion_of(bridged(head), who, one, trained.statistics)[0, who]
        valid = batch.valid[row, who]
        torch.testing.assert_close(got[valid], wanted[who][valid], atol=2e-3, rtol=1e-3)


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


def test_the_plot_of_a_sample_shows_both_people_beside_the_truth(trained: checkpoint.Trained, folder: Path) -> None:
    pytest.importorskip("matplotlib")
    from duologue.model.plots import sample_figure, sample_of

    batch = batch_of(folder)
    made = sample_of(trained.model, trained.statistics, trained.front(batch.audio), batch, trained.config)
    figure = sample_figure(made, batch, trained.config)
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 2, 2]
    truth, sample = figure.axes[1].lines  # person a's jaw
    valid = batch.valid[0, 0].numpy()
    np.testing.assert_allclose(np.asarray(truth.get_ydata())[valid], np.degrees(batch.jaw[0, 0, valid, 0]), atol=1e-3)
    assert np.isfinite(np.asarray(sample.get_ydata())).all()


def test_the_plot_of_lips_is_the_meshs(folder: Path, trained: checkpoint.Trained) -> None:
    """With a head model the mouth is drawn as the gap between the inner lips of the posed mesh."""
    pytest.importorskip("matplotlib")
    from duologue.model.plots import sample_figure

    head = load_head_model()
    batch = batch_of(folder)
    opened = torch.rand(*batch.expression.shape[:3], len(head.expression_names)) * 0.3
    wide = replace(batch, expression=opened, shape=torch.zeros(len(batch.shape), 2, len(head.shape_names)))
    figure = sample_figure(encode(wide, scene_of(wide))[0], wide, trained.config, head)
    for frame in wide.valid[0, 1].nonzero()[[5, 20, 40], 0].tolist():
        posed = head.pose(
            np.zeros(len(head.shape_names)),
            opened[0, 1, frame].double().numpy()[None],
            wide.jaw[0, 1, frame].double().numpy()[None],
        )
        upper, lower = (posed[0][vertex] for vertex in inner_lips(head))
        for line in figure.axes[3].lines:
            assert float(line.get_ydata()[frame]) == pytest.approx(1e3 * np.linalg.norm(upper - lower), abs=1e-2)
    assert "mm" in figure.axes[3].get_ylabel()
    assert wide.pair_ids[0] in figure.get_suptitle()


def test_the_heads_of_a_sample_are_drawn_beside_the_truth(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    from duologue.model.plots import heads_figure

    head = load_head_model()
    batch = batch_of(folder)
    wide = replace(
        batch,
        expression=torch.zeros(*batch.expression.shape[:3], len(head.expression_names)),
        shape=torch.zeros(len(batch.shape), 2, len(head.shape_names)),
    )
    made = encode(wide, scene_of(wide))[0]
    figure = heads_figure(made, wide, head, 25.0, moments=3)
    drawn = [len(axis.collections) for axis in figure.axes]
    at = np.linspace(0, int(batch.frames[0]) - 1, 3).round().astype(int)
    seen = batch.valid[0][:, at].int().tolist()
    assert drawn == [1, 1, 1, *seen[0], 1, 1, 1, *seen[1]]
    outline = figure.axes[0].collections[0].get_paths()[0].vertices
    centre = batch.head_centre[0, 0, 0]
    assert np.abs(outline[:3].mean(0) - (centre[:2] / centre[2]).numpy()).max() < 0.2
