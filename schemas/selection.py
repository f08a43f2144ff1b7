"""Thresholds over stored scores: which pairs are worth training on, and which split each lies in.

Nothing is deleted: ``selection.parquet`` names every pair, and applying other thresholds touches no pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .errors import UsageError
from .pair import SCHEMA_VERSION, pair_schema
from .tracks import Bool

SPLITS = ("train", "val", "test")
Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SelectionOptions:
    """Thresholds; each reads stored scores only. A pair is selected when it passes all of them.

    Attributes:
        min_duration_s: shortest clip, seconds.
        valid_share: smallest share of frames measured, of the worse person.
        face_scale_px: smallest median face scale, pixels per 63 mm, of the smaller face.
        yaw_deg: 95 % of frames have a |yaw| that, with one standard deviation of it on top, is up to this, degrees, of
            the more turned person. Rows without that deviation (earlier versions, imports) are judged by |yaw|.
        residual: largest median fit residual, fraction of face scale, of the worse person.
        sound: apply the thresholds on speech; False for geometry-only data sets.
        speech_share: smallest share of the clip with speech.
        bound_share: smallest share of the speech bound to one of the two faces.
        snr_db: smallest speech-to-noise ratio; a clip without a pause to measure noise in passes.
        av_offset_s: largest |audio minus video offset| left after correction, seconds; passes where none could be told.
        av_offset_confidence: smallest confidence at which an offset counts as told.
        duplicates: keep rows that nearly repeat an earlier one.
        val_share, test_share: expected share of connected components in the val and test splits.
        split_seed: another value draws other splits.
    """

    min_duration_s: float = 3.0
    valid_share: float = 0.9
    face_scale_px: float = 24.0
    yaw_deg: float = 76.0
    residual: float = 0.09
    sound: bool = True
    speech_share: float = 0.3
    bound_share: float = 0.8
    snr_db: float = 5.0
    av_offset_s: float = 0.04
    av_offset_confidence: float = 0.9
    duplicates: bool = False
    val_share: float = 0.05
    test_share: float = 0.05
    split_seed: int = 0

    def __post_init__(self) -> None:
        if not (self.val_share >= 0 and self.test_share >= 0 and self.val_share + self.test_share <= 1):
            raise UsageError("val_share and test_share must be at least 0 and together at most 1")
        bad = [name for name, value in asdict(self).items() if isinstance(value, float) and not np.isfinite(value)]
        if bad:
            raise UsageError(f"{', '.join(bad)} must be a finite number")


DEFAULTS = SelectionOptions()

# What selection reads: no array, no audio.
SELECTION_COLUMNS = (
    "pair_id", "video_id", "source_id", "a.person_id", "b.person_id", "duplicate_of", "n_people", "start_s", "end_s",
    "scores.valid_a", "scores.valid_b", "scores.face_scale_a", "scores.face_scale_b", "scores.yaw95_a",
    "scores.yaw95_b", "scores.yaw_bound_a", "scores.yaw_bound_b", "scores.residual_a", "scores.residual_b",
    "scores.speech_share", "scores.bound_share",
    "scores.snr_db", "scores.av_offset_s", "scores.av_offset_confidence",
)  # fmt: skip


def selection_schema() -> pa.Schema:
    """The Arrow schema of ``selection.parquet``, thresholds excluded (they are added per data set)."""
    texts = {
        "pair_id": (pa.string(), "the pair"),
        "selected": (pa.bool_(), "passes every threshold"),
        "reason": (pa.string(), "the first threshold that fails; empty where selected"),
        "failing": (pa.list_(pa.string()), "every threshold that fails"),
        "split": (pa.string(), "train, val or test, by component"),
        "component": (pa.string(), "pairs that share a video, source, person or duplicate have one component"),
    }
    return pa.schema([pa.field(name, kind, metadata={"description": text}) for name, (kind, text) in texts.items()])


def select(table: pa.Table, options: SelectionOptions = DEFAULTS) -> pa.Table:
    """Apply thresholds and draw splits.

    Args:
        table: :data:`SELECTION_COLUMNS` of every pair of the data set.

    Returns:
        One row a pair, by pair_id; the options are in the schema metadata as JSON.
    """
    table = table.select(list(SELECTION_COLUMNS)).sort_by("pair_id")
    checks = _checks(table, options)
    fails = np.stack([~passed for passed in checks.values()], axis=1)  # [N, thresholds]
    fine, names = ~fails.any(axis=1), pa.array(list(checks), pa.string())
    row, threshold = np.nonzero(fails)
    ends = np.searchsorted(row, np.arange(table.num_rows + 1)).astype(np.int32)
    failing = pa.ListArray.from_arrays(pa.array(ends), names.take(pa.array(threshold)))
    reason = pc.if_else(pa.array(fine), "", names.take(pa.array(fails.argmax(axis=1))))
    components = connected_components(table)
    drawn = [split_of(component, options) for component in components.dictionary.to_pylist()]
    splits = pa.array(drawn, pa.string()).take(components.indices)
    meta = {
        "duologue.table": "selection",
        "duologue.schema_version": str(SCHEMA_VERSION),
        "duologue.selection": json.dumps(asdict(options), sort_keys=True),
    }
    schema = selection_schema().with_metadata(meta)
    ids = table["pair_id"].combine_chunks()
    columns = [ids, pa.array(fine), reason, failing, splits, components.cast(pa.string())]
    return pa.Table.from_arrays(columns, schema=schema)


def _checks(table: pa.Table, options: SelectionOptions) -> dict[str, Bool]:
    """Which pairs pass each threshold, in the order in which a failing one becomes the reason."""
    alone = table["n_people"].to_numpy() == 1

    def score(name: str) -> Values:
        return np.asarray(table[f"scores.{name}"].to_numpy(), dtype=np.float64)

    def worst(name: str, pick: Callable[[Values, Values], Values], otherwise: str = "") -> Values:
        a, b = (score(f"{name}_{who}") for who in "ab")
        if otherwise:
            c, d = (score(f"{otherwise}_{who}") for who in "ab")
            a, b = np.where(np.isnan(a), c, a), np.where(np.isnan(b), d, b)
        return np.where(alone, a, pick(a, b))  # np.minimum and np.maximum pass NaN on: unmeasured fails

    duration = table["end_s"].to_numpy() - table["start_s"].to_numpy()
    checks: dict[str, Bool] = {
        "min_duration_s": duration >= options.min_duration_s - 1e-6,
        "valid_share": worst("valid", np.minimum) >= options.valid_share - 1e-6,
        "face_scale_px": worst("face_scale", np.minimum) >= options.face_scale_px,
        "yaw_deg": worst("yaw_bound", np.maximum, otherwise="yaw95") <= options.yaw_deg,
        "residual": worst("residual", np.maximum) <= options.residual,
    }
    if options.sound:
        snr, offset = score("snr_db"), np.abs(score("av_offset_s"))
        told = score("av_offset_confidence") >= options.av_offset_confidence
        checks["speech_share"] = score("speech_share") >= options.speech_share - 1e-6
        checks["bound_share"] = score("bound_share") >= options.bound_share - 1e-6
        checks["snr_db"] = np.isnan(snr) | (snr >= options.snr_db)
        checks["av_offset_s"] = ~(told & (offset > options.av_offset_s + 1e-6))
    if not options.duplicates:
        checks["duplicates"] = np.array([not other for other in table["duplicate_of"].to_pylist()], dtype=bool)
    return checks


def threshold_names(options: SelectionOptions) -> tuple[str, ...]:
    """The thresholds that these options apply, in the order in which a failing one becomes the reason."""
    nothing = pa.schema([pair_schema().field(name) for name in SELECTION_COLUMNS]).empty_table()
    return tuple(_checks(nothing, options))


def connected_components(table: pa.Table) -> pa.DictionaryArray:
    """Component of each row: rows that share a video, a source, a person or a duplicate, directly or through others.

    A component is named by its smallest video id, so that it keeps its name (and split) when clips are added to it.
    """
    columns = {
        name: table[name].combine_chunks()
        for name in ("pair_id", "video_id", "source_id", "a.person_id", "b.person_id", "duplicate_of")
    }
    videos = columns["video_id"].dictionary_encode()
    groups = [_members(columns["video_id"]), _members(columns["source_id"])]
    groups += [_members(columns["a.person_id"], columns["b.person_id"])]
    groups += [_members(columns["pair_id"], columns["duplicate_of"])]
    label = _joined(groups, table.num_rows)
    order = pc.array_sort_indices(videos.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    smallest = np.full(table.num_rows, len(order), np.int64)
    np.minimum.at(smallest, label, rank[videos.indices.to_numpy()])
    found, place = np.unique(smallest[label], return_inverse=True)
    names = videos.dictionary.take(pa.array(order[found]))
    return pa.DictionaryArray.from_arrays(pa.array(place.astype(np.int32)), names)


def _members(*columns: pa.Array) -> tuple[Indices, Indices]:
    """(row, group) of every text of columns that name groups of one kind; "" names none."""
    codes = pa.concat_arrays(columns).dictionary_encode()
    rows = np.tile(np.arange(len(columns[0])), len(columns))
    known = pc.fill_null(pc.not_equal(pa.concat_arrays(columns), ""), False).to_numpy(zero_copy_only=False)
    return rows[known], codes.indices.fill_null(0).to_numpy()[known].astype(np.int64)


def _joined(groups: Sequence[tuple[Indices, Indices]], count: int) -> Indices:
    """[count] the least row that each row is joined to by groups, through any number of others.

    Every row takes the least label of its groups, and then its label's own, until nothing changes.
    """
    label = np.arange(count)
    while True:
        before = label.copy()
        for rows, codes in groups:
            if len(rows):
                least = np.full(int(codes.max()) + 1, count)
                roots = label[rows]
                np.minimum.at(least, codes, roots)
                np.minimum.at(label, rows, least[codes])
                np.minimum.at(label, roots, least[codes])  # or a chain would take a pass for each of its links
        label = label[label]
        if (label == before).all():
            return label


def split_of(component: str, options: SelectionOptions) -> str:
    """The split of a component, from its name and the seed alone."""
    digest = hashlib.sha256(f"{options.split_seed}|{component}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < options.test_share:
        return "test"
    return "val" if place < options.test_share + options.val_share else "train"


def selection_options(selection: pa.Table) -> SelectionOptions:
    """The options that a selection table was made with."""
    meta = selection.schema.metadata or {}
    try:
        return SelectionOptions(**json.loads(meta[b"duologue.selection"]))
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError("the selection table does not say its thresholds") from error


def changed(options: SelectionOptions, settings: Sequence[str]) -> SelectionOptions:
    """Options with ``name=value`` settings applied (values as YAML writes them: 0.2, true).

    Raises:
        UsageError: unknown name, or a value of the wrong type.
    """
    values = asdict(options)
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().removeprefix("selection.").removeprefix("select.")
        if not equals and name in values:
            raise UsageError(f"--set {setting}: give it a value, as {name}={values[name]}")
        if name not in values:
            near = get_close_matches(name, values, n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else f"expected NAME=VALUE with a name of {', '.join(values)}"
            raise UsageError(f"--set {setting}: {hint}")
        kind = type(values[name])
        try:
            if kind is bool:
                values[name] = {"true": True, "false": False}[text.strip().lower()]
            else:
                values[name] = kind(text)
        except (KeyError, ValueError) as error:
            wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
            raise UsageError(f"--set {setting}: {name} must be {wanted}") from error
    return SelectionOptions(**values)


def summary(selection: pa.Table) -> dict[str, object]:
    """Counts for people: pairs, selected, by first reason, by split (selected only)."""
    chosen = selection["selected"]
    reasons, splits = _counted(selection["reason"]), _counted(selection["split"].filter(chosen))
    return {
        "pairs": len(chosen),
        "selected": int(pc.sum(chosen).as_py() or 0),
        "reasons": dict(sorted(((k, n) for k, n in reasons.items() if k), key=lambda item: (-item[1], item[0]))),
        "splits": {name: splits.get(name, 0) for name in SPLITS},
    }


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    return {found["values"]: found["counts"] for found in pc.value_counts(column).to_pylist()}
