"""Diff meets rows by clip and holds values against tolerances by unit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from duologue.schemas.diff import diff, difference_lines
from duologue.schemas.row import Pair
from duologue.tests.dataset_factory import make_pair, make_pairs, write_dataset


def turned(pair: Pair, radians: float, frames: slice = slice(None)) -> Pair:
    rotation = pair.fitted.a.rotation.copy()
    rotation[frames] += radians
    return replace(pair, fitted=replace(pair.fitted, a=replace(pair.fitted.a, rotation=rotation)))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "a", make_pairs(5), shards=2)
    return tmp_path / "a"


def test_other_shards_are_no_difference(first: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "b", make_pairs(5), shards=3)
    found = diff(first, tmp_path / "b", scale=0)
    assert found.equal
    assert found.pairs == 5


@pytest.mark.parametrize(
    ("radians", "scale", "equal"), [(0.002, 1, True), (0.002, 0, False), (0.02, 1, False), (0.02, 10, True)]
)
def test_tolerances(first: Path, tmp_path: Path, radians: float, scale: float, equal: bool) -> None:
    pairs = make_pairs(5)
    write_dataset(tmp_path / "b", [turned(pairs[0], radians), *pairs[1:]])
    found = diff(first, tmp_path / "b", scale=scale)
    assert found.equal is equal
    if not equal:
        assert list(found.columns) == ["a.rotation"]
        assert found.columns["a.rotation"].rows == 1
        assert found.columns["a.rotation"].largest == pytest.approx(radians, abs=1e-4)
        assert "a.rotation differs in 1 of 5 pairs by up to" in " ".join(difference_lines(found))


@pytest.mark.parametrize(("frames", "odd", "equal"), [(100, 1, True), (100, 2, False), (300, 2, True), (300, 3, False)])
def test_one_frame_in_250_may_be_at_the_edge_of_validity(tmp_path: Path, frames: int, odd: int, equal: bool) -> None:
    """All of its numbers count as one frame."""
    pair = make_pair(3, frames=frames)
    write_dataset(tmp_path / "a", [pair])
    write_dataset(tmp_path / "b", [turned(pair, np.nan, slice(10, 10 + odd))])
    assert diff(tmp_path / "a", tmp_path / "b").equal is equal
    assert not diff(tmp_path / "a", tmp_path / "b", scale=0).equal


def test_the_odd_frame_is_the_same_one_in_all_columns(tmp_path: Path) -> None:
    pair = make_pair(3, frames=100)
    heads = {"a": pair.fitted.a, "b": pair.fitted.b}
    write_dataset(tmp_path / "a", [pair])
    for name, second, equal in (("same", 10, True), ("other", 30, False)):
        moved = {who: head.rotation.copy() for who, head in heads.items()}
        moved["a"][10] += 1
        moved["b"][second] += 1
        changed = {who: replace(head, rotation=moved[who]) for who, head in heads.items()}
        write_dataset(tmp_path / name, [replace(pair, fitted=replace(pair.fitted, **changed))])
        assert diff(tmp_path / "a", tmp_path / name).equal is equal


def test_short_clips_have_no_odd_frame(tmp_path: Path) -> None:
    pair = make_pair(3, frames=20)
    write_dataset(tmp_path / "a", [pair])
    write_dataset(tmp_path / "b", [turned(pair, 1.0, slice(10, 11))])
    assert list(diff(tmp_path / "a", tmp_path / "b").columns) == ["a.rotation"]


def test_identity_has_no_odd_number(tmp_path: Path) -> None:
    pair = make_pair(3, frames=100)
    shape = pair.fitted.a.shape.copy()
    shape[0] += 1
    write_dataset(tmp_path / "a", [pair])
    write_dataset(tmp_path / "b", [replace(pair, fitted=replace(pair.fitted, a=replace(pair.fitted.a, shape=shape)))])
    assert list(diff(tmp_path / "a", tmp_path / "b").columns) == ["a.shape"]


def test_validity_counts_as_a_difference(first: Path, tmp_path: Path) -> None:
    pairs = make_pairs(5)
    write_dataset(tmp_path / "b", [turned(pairs[0], np.nan, slice(0, 2)), *pairs[1:]])
    assert np.isinf(diff(first, tmp_path / "b").columns["a.rotation"].largest)


def test_rows_of_one_side_only(first: Path, tmp_path: Path) -> None:
    pairs = make_pairs(7)
    write_dataset(tmp_path / "b", pairs[1:])
    found = diff(first, tmp_path / "b")
    assert found.only_first == [pairs[0].pair_id]
    assert found.only_second == sorted(pair.pair_id for pair in pairs[5:])
    assert found.pairs == 4
    assert not found.equal


def test_rows_meet_by_clip_whatever_measured_them(first: Path, tmp_path: Path) -> None:
    """Another configuration gives other ids: the clips are still the same clips."""
    renamed = [replace(pair, pair_id=f"{index:032x}") for index, pair in enumerate(make_pairs(5))]
    write_dataset(tmp_path / "b", renamed)
    found = diff(first, tmp_path / "b")
    assert found.equal
    assert found.pairs == 5


def test_rows_of_one_clip_are_not_confused(tmp_path: Path) -> None:
    """As in a dubbed set, where one group of voices gives several rows of equal bounds."""
    pairs = [make_pair(seed, video="group") for seed in range(3)]
    pairs = [
        replace(pair, pair_id=f"{index:032x}", source=replace(pair.source, source_uri=f"{index} + 1"))
        for index, pair in enumerate(pairs)
    ]
    for name in "ab":
        write_dataset(tmp_path / name, pairs)
    found = diff(tmp_path / "a", tmp_path / "b", scale=0)
    assert found.equal
    assert found.pairs == 3
    renamed = [replace(pair, pair_id=f"{9 - index:032x}") for index, pair in enumerate(pairs[:2])]
    write_dataset(tmp_path / "c", renamed)
    found = diff(tmp_path / "a", tmp_path / "c")
    assert (found.columns, found.pairs) == ({}, 2)
    assert (found.only_first, found.only_second) == ([pairs[2].pair_id], [])


def test_scores_and_turns(first: Path, tmp_path: Path) -> None:
    pairs = make_pairs(5)
    scores = {**pairs[0].scores, "snr_db": 30.0, "residual_a": float("nan")}
    turns = pairs[1].voices.turns[:1]
    changed = [replace(pairs[0], scores=scores), replace(pairs[1], voices=replace(pairs[1].voices, turns=turns))]
    write_dataset(tmp_path / "b", [*changed, *pairs[2:]])
    found = diff(first, tmp_path / "b")
    assert set(found.columns) == {"scores.snr_db", "scores.residual_a", "turns"}
    assert found.columns["scores.snr_db"].largest == pytest.approx(8.0)
