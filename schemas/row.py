"""One pair between its three forms: typed object, row of plain values and arrays, Arrow table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from . import pair as schema
from .audio import decode_audio
from .errors import UsageError
from .heads import FittedPair, HeadTrack, Relation
from .records import Backend, Turn
from .tracks import Float32

Row = dict[str, Any]
"""Column name -> plain value, or numpy array in the column's natural shape."""


@dataclass(frozen=True)
class Source:
    """Where a clip comes from (columns of the same names)."""

    video_id: str
    source_uri: str
    start_s: float
    end_s: float
    shot_index: int = 0
    source_id: str = ""
    license: str = ""
    attribution: str = ""
    origin: str = "curated"
    n_people: int = 2


@dataclass(frozen=True)
class Provenance:
    """What measured a row (columns of the same names; the head model's are in the fitted pair)."""

    config_hash: str
    code_version: str
    backends: tuple[Backend, ...] = ()


@dataclass(frozen=True)
class Voices:
    """Who speaks in a clip.

    Attributes:
        turns: on the video clock.
        speaking_a, speaking_b: [T] probability; NaN without audio.
        voice_a, voice_b: voice ids bound to the faces, "" where none.
        audio: FLAC or WAV file bytes (:func:`duologue.schemas.audio.encode_audio`), None without audio.
    """

    turns: tuple[Turn, ...]
    speaking_a: Float32
    speaking_b: Float32
    voice_a: str = ""
    voice_b: str = ""
    audio: bytes | None = None

    def samples(self) -> Float32:
        """[N] the clip's audio at 16 kHz, -1..1; empty without audio."""
        return np.zeros(0, np.float32) if self.audio is None else decode_audio(self.audio)


@dataclass(frozen=True)
class Pair:
    """One row of the data set with numpy arrays: two people in one clip, and everything measured on them.

    Attributes:
        scores: names of :data:`duologue.schemas.pair.SCORES`; what was not measured is NaN or missing.
        person_a, person_b: ids across shots and videos, "" where unknown.
        duplicate_of: pair_id of the earlier row that this one nearly repeats, or "".
    """

    pair_id: str
    source: Source
    fitted: FittedPair
    relation: Relation
    voices: Voices
    scores: Mapping[str, float]
    provenance: Provenance
    person_a: str = ""
    person_b: str = ""
    duplicate_of: str = ""


def pair_row(pair: Pair, *, quantise: bool = True) -> Row:
    """The row of a pair, ready for :func:`rows_to_table`.

    Args:
        quantise: round arrays to the step of their column (half the bytes on disk; errors far under the measurement's).

    Raises:
        ValueError: a score or layout name the schema does not have, or an array whose shape does not fit.
    """
    source, fitted, relation, voices = pair.source, pair.fitted, pair.relation, pair.voices
    row: Row = {
        "pair_id": pair.pair_id,
        **{name: getattr(source, name) for name in Source.__dataclass_fields__},
        "fps": fitted.fps,
        "n_frames": len(fitted.times),
        "width": fitted.width,
        "height": fitted.height,
        **_named("scores", schema.SCORES, pair.scores),
        **_named("layout", schema.LAYOUT, relation.layout),
        "layout.codes": list(relation.codes),
        "captions": list(relation.captions),
        "duplicate_of": pair.duplicate_of,
        "focal_px": fitted.focal_px,
        "focal_source": fitted.focal_source,
        "focal_log_sd": fitted.focal_log_sd,
        "head_model_id": fitted.head_model_id,
        "head_model_sha256": fitted.head_model_sha256,
        "head_model_tier": fitted.head_model_tier,
        "config_hash": pair.provenance.config_hash,
        "code_version": pair.provenance.code_version,
        "backends": [vars(backend) for backend in pair.provenance.backends],
        "turns": [vars(turn) for turn in voices.turns],
        "audio": None if voices.audio is None else {"bytes": voices.audio, "path": _audio_name(pair)},
        "mutual_gaze": relation.mutual_gaze,
        "distance_m": relation.distance_m,
        "relative_position_sd": relation.relative_position_sd,
        "camera_to_dyad": relation.camera_to_dyad,
    }
    for who, head, looking, speaking, voice, person in (
        ("a", fitted.a, relation.looking_a, voices.speaking_a, voices.voice_a, pair.person_a),
        ("b", fitted.b, relation.looking_b, voices.speaking_b, voices.voice_b, pair.person_b),
    ):
        given = {**vars(head), "looking": looking, "speaking": speaking, "voice_id": voice, "person_id": person}
        row |= {f"{who}.{name}": value for name, value in given.items()}
    _check_shapes(row)
    return {name: stored(schema.BY_NAME[name], row[name], quantise=quantise) for name in schema.BY_NAME}


def _audio_name(pair: Pair) -> str:
    assert pair.voices.audio is not None
    return f"{pair.pair_id}.{'wav' if pair.voices.audio[:4] == b'RIFF' else 'flac'}"


def _named(prefix: str, known: Mapping[str, object], given: Mapping[str, float]) -> Row:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{prefix} the pair schema does not have: {', '.join(unknown)}")
    return {f"{prefix}.{name}": _number(given.get(name, math.nan)) for name in known}


def _number(value: float) -> float | None:
    """A score as stored: what is not finite was not measured, and is null."""
    return float(value) if math.isfinite(value) else None


def _check_shapes(row: Row) -> None:
    sizes: dict[str, int] = {"T": int(row["n_frames"])}
    for name in schema.ARRAYS:
        expected = schema.BY_NAME[name].shape
        actual = np.shape(row[name])
        # S and E may differ between data sets, not between the two people of a row.
        want = tuple(
            int(axis) if axis.isdigit() else sizes.setdefault(axis, size)
            for axis, size in zip(expected, actual, strict=False)
        )
        if len(actual) != len(expected) or want != actual:
            raise ValueError(f"{name}: shape {actual}, the schema says [{', '.join(expected)}] with {sizes}")


def stored(column: schema.Column, value: Any, *, quantise: bool = True) -> Any:
    """A value as its column holds it: arrays rounded to the column's step and of its type."""
    if not column.shape:
        return value
    kind = schema.leaf_type(column.type).to_pandas_dtype()
    array = np.asarray(value)
    if quantise and column.step:
        array = np.rint(array.astype(np.float64) / column.step) * column.step + 0.0  # + 0.0 turns -0 into 0
    return np.ascontiguousarray(array, dtype=kind)


def rows_to_table(
    rows: Sequence[Row], columns: Sequence[schema.Column] = schema.COLUMNS, arrow: pa.Schema | None = None
) -> pa.Table:
    """Rows to one Arrow table, in the order given.

    Args:
        columns, arrow: of another table than pairs (``landmarks/``).
    """
    arrays = []
    for column in columns:
        lacking = column.name in schema.MAY_LACK
        values: list[Any] = [row.get(column.name) if lacking else row[column.name] for row in rows]
        if column.shape:
            arrays.append(nested_array(values, schema.leaf_type(column.type)))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=schema.pair_schema() if arrow is None else arrow)


def nested_array(arrays: Sequence[np.ndarray], leaf: pa.DataType) -> pa.ListArray:
    """N numpy arrays of one rank to an Arrow array of N nested lists, without a Python loop over values."""
    if not arrays:
        raise ValueError("no rows")
    if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        raise ValueError(f"rows of different shapes: {sorted({array.shape[1:] for array in arrays})}")
    flat = np.concatenate([array.reshape(-1) for array in arrays])
    out: pa.Array = pa.array(flat, leaf)
    rank = arrays[0].ndim
    for axis in range(rank - 1, -1, -1):
        # One list per index of the axes before this one, each as long as this axis.
        counts = [math.prod(array.shape[:axis]) for array in arrays]
        lengths = np.repeat([array.shape[axis] for array in arrays], counts)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        out = pa.ListArray.from_arrays(pa.array(offsets), out)
    return out


def column_arrays(column: pa.Array | pa.ChunkedArray, shape: tuple[str, ...]) -> list[np.ndarray]:
    """A nested-list column to one numpy array a row, in its natural shape, sharing Arrow's memory.

    Args:
        shape: the column's symbolic shape (:attr:`Column.shape`); its length is the rank.

    Raises:
        ValueError: a row is null, or its lists are not all of one length (a ragged array).
    """
    if isinstance(column, pa.ChunkedArray):
        return [array for chunk in column.chunks for array in column_arrays(chunk, shape)]
    if column.null_count:
        raise ValueError("null array")
    starts = column.offsets.to_numpy()
    inner = column.flatten()
    sizes: list[int] = []  # of the axes after the first, equal in all rows of a data set
    for _ in shape[1:]:
        if inner.null_count:
            raise ValueError("null inside an array")
        lengths = np.diff(inner.offsets.to_numpy())
        sizes.append(int(lengths[0]) if lengths.size else 0)
        if (lengths != sizes[-1]).any():
            raise ValueError("ragged array")
        inner = inner.flatten()
    if inner.null_count:
        raise ValueError("null inside an array")
    values = inner.to_numpy(zero_copy_only=False).reshape(int(starts[-1] - starts[0]), *sizes)
    bounds = (starts - starts[0]).tolist()  # a sliced column's offsets do not begin at 0, its flattened values do
    return [values[first:last] for first, last in pairwise(bounds)]


def _read_array(values: pa.ChunkedArray, column: schema.Column) -> list[np.ndarray]:
    """One array a row; what an older version stored once for all axes (`schema.ONE_FOR_ALL_AXES`) stands for each."""
    if values.type == schema.ONE_FOR_ALL_AXES.get(column.name):
        return [np.repeat(array[:, None], 3, axis=1) for array in column_arrays(values, column.shape[:1])]
    return column_arrays(values, column.shape)


def table_to_rows(table: pa.Table, known: Mapping[str, schema.Column] = schema.BY_NAME) -> Iterator[Row]:
    """Rows of a table with any subset of the ``known`` columns; arrays as numpy, the rest as Python values."""
    names = [name for name in table.column_names if name in known]
    columns: dict[str, list[Any]] = {}
    for name in names:
        column = known[name]
        if column.shape:
            try:
                columns[name] = _read_array(table[name], column)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        else:
            columns[name] = table[name].to_pylist()
    for index in range(table.num_rows):
        yield {name: columns[name][index] for name in names}


def pair_from_row(row: Row) -> Pair:
    """The typed pair of a row with every column (as :func:`table_to_rows` yields them).

    Raises:
        UsageError: columns are missing: another version wrote the row; or an id that is none, and would name a file.
    """
    missing = [name for name in schema.BY_NAME if name not in row and name not in schema.MAY_LACK]
    if missing:
        raise UsageError(f"pair {row.get('pair_id', '?')} lacks {', '.join(missing)}: written by another version")
    if not schema.PAIR_ID.fullmatch(row["pair_id"]):
        raise UsageError(f"pair_id {row['pair_id']!r} is not 32 hex digits: see 'duologue verify'")
    times = row["start_s"] + np.arange(row["n_frames"]) / row["fps"]
    heads = {
        who: HeadTrack(**{name: row[f"{who}.{name}"] for name in HeadTrack.__dataclass_fields__}) for who in ("a", "b")
    }
    fitted = FittedPair(
        times=times,
        **{name: row[name] for name in FittedPair.__dataclass_fields__ if name not in ("times", "a", "b")},
        a=heads["a"],
        b=heads["b"],
    )
    relation = Relation(
        camera_to_dyad=row["camera_to_dyad"],
        distance_m=row["distance_m"],
        relative_position_sd=row["relative_position_sd"],
        looking_a=row["a.looking"],
        looking_b=row["b.looking"],
        mutual_gaze=row["mutual_gaze"],
        layout={name: _float(row[f"layout.{name}"]) for name in schema.LAYOUT},
        codes=tuple(row["layout.codes"]),
        captions=tuple(row["captions"]),
    )
    voices = Voices(
        turns=tuple(Turn(**turn) for turn in row["turns"]),
        speaking_a=row["a.speaking"],
        speaking_b=row["b.speaking"],
        voice_a=row["a.voice_id"],
        voice_b=row["b.voice_id"],
        audio=None if row["audio"] is None else row["audio"]["bytes"],
    )
    return Pair(
        pair_id=row["pair_id"],
        source=Source(**{name: row[name] for name in Source.__dataclass_fields__}),
        fitted=fitted,
        relation=relation,
        voices=voices,
        scores={name: _float(row.get(f"scores.{name}")) for name in schema.SCORES},
        provenance=Provenance(
            row["config_hash"], row["code_version"], tuple(Backend(**backend) for backend in row["backends"])
        ),
        person_a=row["a.person_id"],
        person_b=row["b.person_id"],
        duplicate_of=row["duplicate_of"],
    )


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)
