"""How two data sets differ: rows met by id or clip, values held against tolerances that a user would call equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import pair as schema
from .dataset import Dataset, RowsById
from .files import Files
from .row import Row

# By unit of the column: what two machines with other processors may differ by. Arrays: half a step is added.
TOLERANCES: dict[str, float] = {
    "rad": 0.005, "m": 0.005, "px": 0.25, "s": 0.001, "sd": 0.05, "deg": 0.5, "share": 0.01, "face scale": 0.002,
    "px/63mm": 0.25, "dB": 0.1, "dBFS": 0.1, "1/s": 1e-6, "": 0.01,
}  # fmt: skip
_FRAMES_PER_ODD_ONE = 250  # one frame in so many begun may lie outside: at the edge of validity, where a blink begins
_SHORT = 25  # frames: no clip so short has an odd one
_CLIP = ("video_id", "start_s", "end_s")
_APART = ("pair_id", "duplicate_of", "config_hash", "code_version", "backends", "source_uri", "audio")


@dataclass
class ColumnDifference:
    """A column that differs: in how many rows, and by how much at most."""

    rows: int = 0
    largest: float = 0.0
    example: str = ""


@dataclass
class Difference:
    """Result of :func:`diff`. ``provenance`` says what the two were measured with, where that differs."""

    pairs: int = 0
    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)
    columns: dict[str, ColumnDifference] = field(default_factory=dict)
    provenance: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not (self.only_first or self.only_second or self.columns)


def diff(first: str | Path | Files, second: str | Path | Files, *, scale: float = 1.0) -> Difference:
    """Compare two data sets row by row, whatever their shards and order.

    Rows of one id meet; the others meet by clip (same video, same bounds), several of one clip in the order of their
    sources and ids.

    Args:
        scale: multiplies every tolerance; 0 asks for equal values. Otherwise one frame of a clip in 250 begun may lie
            outside, in all of its columns; none of clips under 25 frames.
    """
    a, b = Dataset(first), Dataset(second)
    out = Difference()
    for name in ("config_hash", "code_version", "head_model_id"):
        if getattr(a.manifest, name) != getattr(b.manifest, name):
            out.provenance.append(f"{name}: {getattr(a.manifest, name)} / {getattr(b.manifest, name)}")
    ours, theirs = (data.table(["pair_id", "source_uri", *_CLIP]).to_pylist() for data in (a, b))
    met = meet(ours, theirs)
    out.only_first = sorted({row["pair_id"] for row in ours} - met.keys())
    out.only_second = sorted({row["pair_id"] for row in theirs} - set(met.values()))
    fetch = RowsById(b)
    for row in a.rows():
        if row["pair_id"] in met:
            out.pairs += 1
            _compare(row, fetch(met[row["pair_id"]]), scale, out)
    return out


def meet(ours: Sequence[Row], theirs: Sequence[Row]) -> dict[str, str]:
    """Which row of one data set is which of another: pair id -> pair id."""
    met = {key: key for key in {row["pair_id"] for row in ours} & {row["pair_id"] for row in theirs}}
    waiting: dict[tuple[str, int, int], list[str]] = {}
    for row in sorted((r for r in theirs if r["pair_id"] not in met), key=_order):
        waiting.setdefault(_clip(row), []).append(row["pair_id"])
    for row in sorted((r for r in ours if r["pair_id"] not in met), key=_order):
        if waiting.get(_clip(row)):
            met[row["pair_id"]] = waiting[_clip(row)].pop(0)
    return met


def _order(row: Row) -> tuple[str, str]:
    return row["source_uri"], row["pair_id"]


def _clip(row: Row) -> tuple[str, int, int]:
    return row["video_id"], round(row["start_s"] * 1000), round(row["end_s"] * 1000)


def _compare(ours: Row, theirs: Row, scale: float, out: Difference) -> None:
    worst: dict[str, float] = {}
    odd: dict[str, NDArray[np.bool_]] = {}  # of columns with frames, the frames outside
    for column in schema.COLUMNS:
        if column.name in _APART and not (column.name in ("audio",) and scale == 0):
            continue
        x, y = ours.get(column.name), theirs.get(column.name)
        away = value_difference(column, x, y, scale)
        if away is not None:
            worst[column.name] = away
            if column.shape[:1] == ("T",) and x is not None and y is not None and np.shape(x) == np.shape(y):
                outside = _gap(x, y) > _allowed(column, scale)
                odd[column.name] = np.asarray(outside.reshape(len(x), -1).any(axis=1))
    if odd and scale:
        frames = np.logical_or.reduce(list(odd.values()))
        if len(frames) >= _SHORT and frames.sum() <= -(-len(frames) // _FRAMES_PER_ODD_ONE):
            worst = {name: away for name, away in worst.items() if name not in odd}
    for name, away in worst.items():
        found = out.columns.setdefault(name, ColumnDifference(example=ours["pair_id"]))
        found.rows += 1
        found.largest = max(found.largest, away)


def _allowed(column: schema.Column, scale: float) -> float:
    return scale * (TOLERANCES.get(column.unit, 0.01) + column.step / 2)


def _gap(ours: Any, theirs: Any) -> NDArray[np.float64]:
    """How far apart; infinitely where only one is known."""
    x, y = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    gap = np.abs(x - y)
    return np.where(np.isnan(x) & np.isnan(y), 0.0, np.where(np.isnan(gap), np.inf, gap))


def value_difference(column: schema.Column, ours: Any, theirs: Any, scale: float) -> float | None:
    """How far two values of a column are apart where that is beyond the tolerance; None where they count as equal.

    Texts, lengths, and numbers known on one side only are infinitely far apart.
    """
    allowed = _allowed(column, scale)
    if column.name == "turns":
        return _turns_difference(ours, theirs, allowed)
    if not column.shape and not isinstance(ours, float):
        return None if ours == theirs else float("inf")
    if ours is None or theirs is None:
        return None if ours is theirs else float("inf")
    if np.shape(ours) != np.shape(theirs):
        return float("inf")
    worst = float(_gap(ours, theirs).max(initial=0.0))
    return worst if worst > allowed else None


def _turns_difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], allowed: float) -> float | None:
    if [(t["speaker"], t["face"]) for t in ours] != [(t["speaker"], t["face"]) for t in theirs]:
        return float("inf")
    gaps = [abs(x[name] - y[name]) for x, y in zip(ours, theirs, strict=True) for name in ("start_s", "end_s")]
    worst = max(gaps, default=0.0)
    return worst if worst > allowed else None


def difference_lines(found: Difference) -> Iterator[str]:
    """The result for people, one line each."""
    yield from (f"measured differently: {line}" for line in found.provenance)
    for label, ids in (("first", found.only_first), ("second", found.only_second)):
        if ids:
            shown = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
            yield f"{len(ids)} pair(s) only in the {label}: {shown}"
    for name, column in found.columns.items():
        size = "" if np.isinf(column.largest) else f" by up to {column.largest:.4g}"
        unit = f" {schema.BY_NAME[name].unit}".rstrip() if size else ""
        yield f"{name} differs in {column.rows} of {found.pairs} pairs{size}{unit}, e.g. {column.example}"
