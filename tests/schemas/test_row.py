"""A pair survives the way to disk and back; what does not fit is refused by name."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pytest
from duologue.schemas import pair as schema
from duologue.schemas.errors import UsageError
from duologue.schemas.row import (
    Pair,
    column_arrays,
    nested_array,
    pair_from_row,
    pair_row,
    rows_to_table,
    table_to_rows,
)
from duologue.tests.dataset_factory import make_pair, without_audio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def back(pair: Pair, *, quantise: bool) -> Pair:
    return pair_from_row(next(table_to_rows(rows_to_table([pair_row(pair, quantise=quantise)]))))


def assert_same(first: object, second: object, tolerance: float = 0.0) -> None:
    for field in fields(first):  # type: ignore[arg-type]
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        if isinstance(ours, np.ndarray):
            assert ours.shape == theirs.shape, field.name
            assert ours.dtype == theirs.dtype, field.name
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=field.name)
        elif isinstance(ours, float):
            assert theirs == pytest.approx(ours, rel=1e-6), field.name
        elif field.name == "layout":
            both = [{k: v for k, v in side.items() if not np.isnan(v)} for side in (ours, theirs)]
            assert both[1] == pytest.approx(both[0])
        elif hasattr(ours, "__dataclass_fields__"):
            assert_same(ours, theirs, tolerance)
        elif field.name != "scores":
            assert ours == theirs, field.name


@pytest.mark.parametrize(
    "pair", [make_pair(1), without_audio(make_pair(2)), make_pair(3, frames=1)], ids=["full", "silent", "one frame"]
)
def test_round_trip_without_rounding_is_exact(pair: Pair) -> None:
    again = back(pair, quantise=False)
    assert_same(pair, again)
    for name, value in again.scores.items():
        assert value == pytest.approx(pair.scores.get(name, float("nan")), rel=1e-6, nan_ok=True)


def test_rounding_stays_within_half_a_step() -> None:
    pair, again = make_pair(1), back(make_pair(1), quantise=True)
    for name in ("expression", "rotation", "translation", "gaze", "box", "confidence"):
        step = schema.BY_NAME[f"a.{name}"].step
        gap = np.nanmax(np.abs(getattr(pair.fitted.a, name) - getattr(again.fitted.a, name)))
        assert 0 < gap <= step / 2 + 1e-6, name
    # Rounding to a step keeps an angle to 0.002 degrees and a position to 0.03 mm.
    assert schema.BY_NAME["a.rotation"].step < np.radians(0.002)
    assert schema.BY_NAME["a.translation"].step < 4e-5


def test_rounding_twice_changes_nothing() -> None:
    once = back(make_pair(1), quantise=True)
    assert_same(once, back(once, quantise=True))


def test_samples_are_the_sound() -> None:
    pair = back(make_pair(1), quantise=True)
    samples = pair.voices.samples()
    assert samples.dtype == np.float32
    assert len(samples) == 48_000
    assert 0.1 < samples.std() < 0.2
    assert len(without_audio(pair).voices.samples()) == 0


def test_unmeasured_scores_are_null_not_nan() -> None:
    row = pair_row(make_pair(1, scores={"snr_db": float("nan")}))
    assert row["scores.snr_db"] is None
    assert row["scores.music_share"] is None
    assert rows_to_table([row])["scores.snr_db"].null_count == 1


def test_unknown_score_is_refused() -> None:
    with pytest.raises(ValueError, match="loudnes"):
        pair_row(make_pair(1, scores={"loudnes": 1.0}))


def test_wrong_length_is_refused() -> None:
    pair = make_pair(1)
    a = replace(pair.fitted.a, gaze=pair.fitted.a.gaze[:-1])
    with pytest.raises(ValueError, match=r"a\.gaze: shape \(74, 3\)"):
        pair_row(replace(pair, fitted=replace(pair.fitted, a=a)))


def test_two_expression_sizes_in_one_row_are_refused() -> None:
    pair = make_pair(1)
    b = replace(pair.fitted.b, expression=pair.fitted.b.expression[:, :-1])
    with pytest.raises(ValueError, match=r"b\.expression"):
        pair_row(replace(pair, fitted=replace(pair.fitted, b=b)))


_ARRAYS = hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.just(2), st.just(3)))


@given(st.lists(_ARRAYS, min_size=1, max_size=5), st.data())
def test_nested_arrays_round_trip(arrays: list[np.ndarray], data: st.DataObject) -> None:
    column = nested_array(arrays, pa.float32())
    if not any(np.isnan(array).any() for array in arrays):
        assert column.to_pylist() == [array.tolist() for array in arrays]
    start = data.draw(st.integers(0, len(arrays)))
    got = column_arrays(column.slice(start), ("T", "2", "3"))
    assert len(got) == len(arrays) - start
    for ours, theirs in zip(arrays[start:], got, strict=True):
        assert ours.shape[0] == theirs.shape[0]
        np.testing.assert_array_equal(ours.reshape(-1), theirs.reshape(-1))


def test_ragged_and_null_arrays_are_refused() -> None:
    kind = pa.list_(pa.list_(pa.float32()))
    with pytest.raises(ValueError, match="ragged"):
        column_arrays(pa.array([[[1.0, 2.0], [3.0]]], kind), ("T", "2"))
    with pytest.raises(ValueError, match="null"):
        column_arrays(pa.array([[[1.0, 2.0]], None], kind), ("T", "2"))
    with pytest.raises(ValueError, match="null"):
        column_arrays(pa.array([[[1.0, None]]], kind), ("T", "2"))


def test_projection_reads_what_is_there() -> None:
    table = rows_to_table([pair_row(make_pair(seed)) for seed in (1, 2)]).select(["pair_id", "a.gaze"])
    rows = list(table_to_rows(table))
    assert [set(row) for row in rows] == [{"pair_id", "a.gaze"}] * 2
    assert rows[1]["a.gaze"].shape == (75, 3)


def test_a_row_of_another_version_is_one_line() -> None:
    row = next(table_to_rows(rows_to_table([pair_row(make_pair(1))])))
    del row["a.scale"]
    with pytest.raises(UsageError, match=r"lacks a\.scale"):
        pair_from_row(row)


@pytest.mark.parametrize("key", ["../../../evil", "A" * 32, "", f"{'a' * 32}/x"])
def test_an_id_that_would_name_another_file_is_no_pair(key: str) -> None:
    with pytest.raises(UsageError, match="is not 32 hex digits"):
        pair_from_row(pair_row(make_pair(1)) | {"pair_id": key})


def test_one_deviation_for_all_axes_is_read_as_three_equal_ones() -> None:
    row = pair_row(make_pair())
    table = rows_to_table([row])
    for who in "ab":
        place = table.column_names.index(f"{who}.rotation_sd")
        older = nested_array([row[f"{who}.rotation_sd"][:, 1]], pa.float32())
        table = table.set_column(place, f"{who}.rotation_sd", older)
    read = next(table_to_rows(table))
    for who in "ab":
        np.testing.assert_array_equal(read[f"{who}.rotation_sd"], row[f"{who}.rotation_sd"][:, [1, 1, 1]])
