"""Thresholds decide what is selected and why; no video, source, person or duplicate is in two splits."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from duologue.schemas import pair as schema
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from duologue.schemas.finish import reselect
from duologue.schemas.row import Pair, pair_row, rows_to_table
from duologue.schemas.selection import (
    SELECTION_COLUMNS,
    SelectionOptions,
    changed,
    connected_components,
    select,
    selection_options,
    split_of,
    summary,
)
from duologue.schemas.verify import verify
from duologue.tests.dataset_factory import make_pair, make_pairs, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st


def table(*pairs: Pair) -> pa.Table:
    return rows_to_table([pair_row(pair) for pair in pairs]).select(list(SELECTION_COLUMNS))


def reason(pair: Pair, **options: object) -> str:
    return str(select(table(pair), SelectionOptions(**options))["reason"][0].as_py())  # type: ignore[arg-type]


NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({}, ""),
        ({"valid_b": 0.89}, "valid_share"),
        ({"valid_a": 0.9}, ""),
        ({"face_scale_a": 23.9}, "face_scale_px"),
        ({"yaw_bound_b": 76.1}, "yaw_deg"),
        ({"yaw95_b": 76.1}, ""),
        ({"yaw_bound_b": NAN, "yaw95_b": 75.9}, ""),  # of a version that did not measure the deviation
        ({"yaw_bound_b": NAN, "yaw95_b": 76.1}, "yaw_deg"),
        ({"residual_a": 0.091}, "residual"),
        ({"speech_share": 0.29}, "speech_share"),
        ({"bound_share": 0.79}, "bound_share"),
        ({"snr_db": 4.9}, "snr_db"),
        ({"av_offset_s": -0.041}, "av_offset_s"),
        ({"av_offset_s": 0.04}, ""),
        # Unmeasured quality fails; noise without a pause and an offset that cannot be told do not speak against a clip.
        ({"residual_b": NAN}, "residual"),
        ({"speech_share": NAN}, "speech_share"),
        ({"snr_db": NAN, "av_offset_s": NAN}, ""),
        ({"av_offset_s": 0.5, "av_offset_confidence": 0.89}, ""),
        ({"av_offset_s": 0.5, "av_offset_confidence": NAN}, ""),
    ],
)
def test_each_threshold(scores: dict[str, float], expected: str) -> None:
    assert reason(make_pair(1, scores=scores)) == expected


def test_short_clips_and_duplicates() -> None:
    assert reason(make_pair(1, frames=74)) == "min_duration_s"
    twin = replace(make_pair(1), duplicate_of="0" * 32)
    assert reason(twin) == "duplicates"
    assert reason(twin, duplicates=True) == ""


def test_geometry_only() -> None:
    silent = make_pair(1, audio=False)
    assert reason(silent) == "speech_share"
    assert reason(silent, sound=False) == ""


def test_single_speaker_rows_are_judged_by_a_alone() -> None:
    pair = make_pair(1, scores=dict.fromkeys(("valid_b", "face_scale_b", "yaw95_b", "yaw_bound_b", "residual_b"), NAN))
    assert reason(pair) == "valid_share"
    assert reason(replace(pair, source=replace(pair.source, n_people=1))) == ""


def test_every_failing_threshold_is_listed() -> None:
    got = select(table(make_pair(1, scores={"valid_a": 0.1, "snr_db": 0.0, "bound_share": 0.0}))).to_pylist()[0]
    assert got["failing"] == ["valid_share", "bound_share", "snr_db"]
    assert got["reason"] == "valid_share"
    assert not got["selected"]


def test_thresholds_read_no_arrays() -> None:
    assert not set(SELECTION_COLUMNS) & {*schema.ARRAYS, "audio"}
    assert set(SELECTION_COLUMNS) <= set(schema.LIGHT)


_WORLD = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 8), st.integers(0, 20), st.integers(0, 20), st.integers(0, 40)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(_WORLD, st.integers(0, 3))
def test_nobody_leaks(world: list[tuple[int, int, int, int, int]], seed: int) -> None:
    """Random videos, sources, people (0: unknown) and duplicates; every one of them lies in one split."""
    count = len(world)
    base: dict[str, list[Any]] = {name: [None] * count for name in SELECTION_COLUMNS if name.startswith("scores.")}
    columns: dict[str, list[Any]] = base | {
        "pair_id": [f"{index:032x}" for index in range(count)],
        "video_id": [f"v{video}" for video, *_ in world],
        "source_id": [f"s{source}" if source else "" for _, source, *_ in world],
        "a.person_id": [f"p{a}" if a else "" for _, _, a, _, _ in world],
        "b.person_id": [f"p{b}" if b else "" for _, _, _, b, _ in world],
        "duplicate_of": [f"{d:032x}" if d < index else "" for index, (*_, d) in enumerate(world)],
        "n_people": [2] * count,
        "start_s": [0.0] * count,
        "end_s": [10.0] * count,
    }
    arrow = pa.schema([schema.pair_schema().field(name) for name in SELECTION_COLUMNS])
    options = SelectionOptions(val_share=0.3, test_share=0.3, split_seed=seed)
    got = select(pa.Table.from_pydict({name: columns[name] for name in arrow.names}, schema=arrow), options)
    split = dict(zip(got["pair_id"].to_pylist(), got["split"].to_pylist(), strict=True))
    places = defaultdict(set)
    for index, key in enumerate(columns["pair_id"]):
        places["video", columns["video_id"][index]].add(split[key])
        for name in ("a.person_id", "b.person_id"):
            if columns[name][index]:
                places["person", columns[name][index]].add(split[key])
        if columns["source_id"][index]:
            places["source", columns["source_id"][index]].add(split[key])
        if columns["duplicate_of"][index]:
            places["pair", key] |= {split[key], split[columns["duplicate_of"][index]]}
    assert all(len(found) == 1 for found in places.values()), places


def test_split_shares_are_met_and_stable() -> None:
    options = SelectionOptions(val_share=0.1, test_share=0.2)
    splits = [split_of(f"{index:064x}", options) for index in range(5000)]
    assert abs(splits.count("val") / 5000 - 0.1) < 0.015
    assert abs(splits.count("test") / 5000 - 0.2) < 0.02
    other = [split_of(f"{index:064x}", replace(options, split_seed=1)) for index in range(5000)]
    assert splits != other


def test_more_clips_of_a_video_do_not_move_it() -> None:
    pairs = make_pairs(10, frames=3)
    few, all_ = (dict(zip(*(select(table(*chosen))[name].to_pylist() for name in ("pair_id", "split")), strict=True))
                 for chosen in (pairs[::2], pairs))  # fmt: skip
    assert few.items() <= all_.items()


def test_changed_options() -> None:
    options = changed(SelectionOptions(), ["speech_share=0.2", "sound=false", "selection.split_seed=4"])
    assert (options.speech_share, options.sound, options.split_seed) == (0.2, False, 4)
    for setting in ("speech=1", "speech_share", "speech_share=much", "sound=2", "val_share=2", "snr_db=nan"):
        with pytest.raises(UsageError) as error:
            changed(SelectionOptions(), [setting])
        assert "\n" not in str(error.value)


def test_reselecting_changes_selection_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_pairs(10, frames=80))
    before = {path: path.read_bytes() for path in (tmp_path / "pairs").iterdir()}
    splits = Dataset(tmp_path).selection()["split"].to_pylist()
    assert summary(Dataset(tmp_path).selection())["selected"] == 8
    reselect(tmp_path, SelectionOptions(speech_share=0.05))
    selection = Dataset(tmp_path).selection()
    assert summary(selection)["selected"] == 10
    assert selection_options(selection).speech_share == 0.05
    assert selection["split"].to_pylist() == splits
    assert {path: path.read_bytes() for path in (tmp_path / "pairs").iterdir()} == before
    assert verify(tmp_path).sound
    reselect(tmp_path, SelectionOptions())
    first = (tmp_path / "manifest.json").read_bytes()
    reselect(tmp_path, SelectionOptions())
    assert (tmp_path / "manifest.json").read_bytes() == first


def test_selection_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    """A kill between selection and manifest leaves a selection that nobody reads."""
    write_dataset(tmp_path, make_pairs(5))
    old = (tmp_path / "manifest.json").read_bytes()
    reselect(tmp_path, SelectionOptions(face_scale_px=1000.0))
    (tmp_path / "manifest.json").write_bytes(old)
    with pytest.raises(UsageError, match="duologue select"):
        Dataset(tmp_path).ids()
    reselect(tmp_path, SelectionOptions())
    assert len(Dataset(tmp_path).ids()) == 4


def test_options_are_plain() -> None:
    assert all(isinstance(value, (bool, int, float)) for value in asdict(SelectionOptions()).values())
    assert np.isfinite(list(map(float, asdict(SelectionOptions()).values()))).all()


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4, st.integers(-3, 8)), min_size=1, max_size=9))
def test_components_are_those_of_following_every_tie(rows: list[tuple[int, ...]]) -> None:
    """Against walking from row to row; 0 names no source and no person, a repeated row may be gone."""
    ids = [f"{index:032x}" for index in range(len(rows))]
    columns: dict[str, list[str]] = {
        "pair_id": ids,
        "video_id": [f"{row[0]:064x}" for row in rows],
        "source_id": [f"s{row[1]}" if row[1] else "" for row in rows],
        "a.person_id": [f"p{row[2]}" if row[2] else "" for row in rows],
        "b.person_id": [f"p{row[3]}" if row[3] else "" for row in rows],
        "duplicate_of": [f"{row[4]:032x}" if row[4] >= 0 else "" for row in rows],
    }

    def ties(k: int) -> set[str]:
        people = {f"person {columns[name][k]}" for name in ("a.person_id", "b.person_id") if columns[name][k]}
        others = {f"pair {key}" for key in (ids[k], columns["duplicate_of"][k]) if key}
        source = {f"source {columns['source_id'][k]}"} if columns["source_id"][k] else set()
        return {f"video {columns['video_id'][k]}", *people, *others, *source}

    expected = []
    for k in range(len(rows)):
        reached, grown = ties(k), True
        while grown:
            more = {tie for other in range(len(rows)) if ties(other) & reached for tie in ties(other)}
            grown, reached = not more <= reached, reached | more
        expected.append(min(tie.removeprefix("video ") for tie in reached if tie.startswith("video ")))
    assert connected_components(pa.table(columns)).to_pylist() == expected
