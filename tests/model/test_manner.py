"""What a network is told of how people behave: the layout's own numbers, hidden at random, tilts held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_factory import make_pair, write_dataset
from duologue.fitting.dyad import relate
from duologue.fitting.gaze import ENTER_DEG, LEAVE_DEG
from duologue.fitting.layout import codes_of
from duologue.fitting.rotations import exp_so3
from duologue.fitting.scene_text import scene_from_text
from duologue.model.checkpoint import Trained, load_trained
from duologue.model.given import HELD, NEAR, given
from duologue.model.manner import (
    LOOKS_DEG,
    MANNER_DIM,
    MANNERS,
    hidden,
    manner_from,
    manner_inputs,
    manner_of,
    tilts_of,
)
from duologue.model.representation import decode, from_six, part_slices, scene_of, statistics_of, to_six
from duologue.model.sample import generate, place_like
from duologue.model.train import train
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from train_factory import batch_of, config_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    write_dataset(root, [make_pair(k, video=f"v{k}", frames=75) for k in range(24)], shards=4)
    return root


def test_numbers_are_the_layouts_own(folder: Path) -> None:
    assert LOOKS_DEG == (ENTER_DEG + LEAVE_DEG) / 2
    batch, data = batch_of(folder), Dataset(folder)
    found = manner_of(batch)
    for row, key in zip(found, batch.pair_ids, strict=True):
        pair = data.pair(key)
        zero = np.zeros(75, np.float32)
        exact = {
            name: replace(head, gaze_sd=zero, rotation_sd=np.zeros((75, 3), np.float32), translation_sd=zero)
            for name, head in (("a", pair.fitted.a), ("b", pair.fitted.b))
        }
        layout = relate(replace(pair.fitted, **exact)).layout
        got = dict(zip(MANNERS, row.tolist(), strict=True))
        for name in ("tilt_a_deg", "tilt_b_deg"):
            assert got[name] == pytest.approx(layout[name], abs=0.3)
        assert got["distance_change_m"] == pytest.approx(layout["distance_change_m"], abs=0.02)
        for name in ("look_a_share", "look_b_share", "mutual_share"):
            assert got[name] == pytest.approx(layout[name], abs=0.15)


def test_what_was_not_measured_is_not_told(folder: Path) -> None:
    batch = batch_of(folder)
    dubbed = replace(batch, mouth_only=torch.ones(8, dtype=torch.bool))
    assert manner_of(dubbed).isnan().all()
    blind = replace(batch, gaze_valid=torch.zeros_like(batch.gaze_valid))
    assert manner_of(blind)[:, :3].isnan().all()
    assert manner_of(blind)[:, 3:].isfinite().all()
    gone = replace(batch, valid=torch.zeros_like(batch.valid))
    assert manner_of(gone).isnan().all()


def test_each_person_is_told_their_own_first() -> None:
    told = manner_from({"look_a_share": 0.75, "tilt_b_deg": 8.0, "distance_change_m": 9.0})
    inputs = manner_inputs(told)
    assert inputs.shape == (1, 2, MANNER_DIM)
    torch.testing.assert_close(inputs[0, 0], torch.tensor([1.0, 0, 0, 0, 1, 2.5, 1, 0, 0, 0, 1, 1]))
    torch.testing.assert_close(inputs[0, 1], torch.tensor([0.0, 1, 0, 1, 0, 2.5, 0, 1, 0, 1, 0, 1]))
    with pytest.raises(UsageError, match=r"'smile' cannot be told.*look_a_share"):
        manner_from({"smile": 1.0})


def test_half_of_the_numbers_in_a_share_of_the_samples() -> None:
    told = hidden(torch.zeros(4000, 6), 0.3, torch.Generator().manual_seed(0)).isfinite()
    assert float(told.any(1).float().mean()) == pytest.approx(0.3 * (1 - 2**-6), abs=0.03)
    assert float(told[told.any(1)].float().mean()) == pytest.approx(0.5, abs=0.03)
    assert not hidden(torch.zeros(50, 6), 0.0, torch.Generator()).isfinite().any()


def test_a_told_tilt_is_held(folder: Path) -> None:
    batch = batch_of(folder)
    scene, statistics = scene_of(batch), statistics_of([batch], "canonical")
    where = part_slices(statistics.expression)["rotation"]
    raw = statistics.restore(torch.zeros(8, 2, 120, statistics.dims))
    raw[..., where] = 0.0  # as at the anchor frame throughout
    tilt = tilts_of(manner_from({"tilt_a_deg": 20.0}))
    known = given(scene, statistics, tilt=tilt.expand(8, -1))
    moved = statistics.restore(known.lead(statistics.normalise(raw)))[..., where]
    heads = from_six(moved + to_six(scene.facing)[:, :, None])
    left = heads[..., 0]
    found = torch.atan2(left[..., 1], left[..., [0, 2]].norm(dim=-1)).median(-1).values
    before = torch.atan2(scene.facing[..., 1, 0], scene.facing[..., [0, 2], 0].norm(dim=-1))
    assert float((found[:, 0] - np.radians(20)).abs().max()) < HELD + 0.02
    torch.testing.assert_close(found[:, 1], before[:, 1], atol=0.01, rtol=0)
    forward = [turn[..., 2] for turn in (heads[:, :, -1], scene.facing)]
    torch.testing.assert_close(*forward, atol=0.02, rtol=0)  # it tilts about where it faces


def test_a_told_change_of_distance_is_walked(folder: Path) -> None:
    batch = batch_of(folder)
    scene, statistics = scene_of(batch), statistics_of([batch], "canonical")
    raw = statistics.restore(torch.zeros(8, 2, 120, statistics.dims))
    raw[..., part_slices(statistics.expression)["translation"]] = 0.0
    raw[..., part_slices(statistics.expression)["rotation"]] = 0.0
    known = given(scene, statistics, change=torch.tensor([-0.25]).expand(8))
    moved = decode(statistics.restore(known.lead(statistics.normalise(raw))), scene)["translation"]
    away = scene.centre - scene.translation  # heads do not turn here, so that their centres move as their roots do
    distance = (moved + away[:, :, None]).diff(dim=1)[:, 0].norm(dim=-1)
    change = distance[:, -12:].mean(-1) - distance[:, :12].mean(-1)
    torch.testing.assert_close(change, torch.full((8,), -0.25), atol=NEAR + 0.02, rtol=0)
    assert float(distance.diff(dim=-1).abs().max()) < 0.01  # nobody jumps
    short = torch.zeros(8, 2, 20, statistics.dims)
    torch.testing.assert_close(known.lead(short), given(scene, statistics).lead(short))


def test_a_sentence_tells_it() -> None:
    said = scene_from_text("A keeps the eyes on B, and B tilts the head to the left. They move closer.").manner
    assert set(said) == {"look_a_share", "tilt_b_deg", "distance_change_m"}
    assert set(codes_of(said)) == {"look_a:mostly", "tilt_b:left", "change:closer"}
    assert scene_from_text("they sit face to face").manner == {}


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    out = tmp_path_factory.mktemp("trained")
    stages = [{"steps": 20, "data": [{"path": str(folder)}]}]
    train(config_for(folder, out, stages=stages, optimiser={"lr": 3e-3, "warmup": 5}))
    return load_trained(out)


def test_a_network_hears_what_it_is_told(trained: Trained, folder: Path) -> None:
    pair = next(iter(Dataset(folder).pairs(selected=False)))
    places = place_like((pair.fitted.a, pair.fitted.b))
    sound = 0.1 * np.random.default_rng(0).normal(size=16_000 * 5).astype(np.float32)
    plain = generate(trained, sound, places, steps=2)
    assert np.array_equal(plain.a.eyes, generate(trained, sound, places, steps=2, manner={}).a.eyes)
    told = generate(trained, sound, places, steps=2, manner={"look_a_share": 0.0, "tilt_b_deg": 18.0})
    assert np.abs(told.a.eyes - plain.a.eyes).max() > 1e-4
    left = exp_so3(torch.from_numpy(told.b.rotation))[..., 0]
    tilt = torch.rad2deg(torch.atan2(left[:, 1], left[:, [0, 2]].norm(dim=-1))).median()
    assert float(tilt) == pytest.approx(18.0, abs=3.0)
    diffusion = replace(trained.config.diffusion, manner_told=0.0)
    deaf = replace(trained, config=replace(trained.config, diffusion=diffusion))
    with pytest.raises(UsageError, match="not trained to be told"):
        generate(deaf, sound, places, steps=1, manner={"mutual_share": 0.5})
