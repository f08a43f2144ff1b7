"""Optional ``landmarks/`` shards: the measured tracks of each pair, from which another head model can be fitted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import pyarrow as pa

from .errors import UsageError
from .files import Files
from .manifest import FileEntry, put_beside
from .pair import CLOCK, IMAGE, INT, REAL, SCHEMA_VERSION, SINGLE, TEXT, Column
from .records import METADATA_LOG_SD, Focal
from .row import Row, stored
from .shard import shard_bytes, shard_name
from .tracks import ClipTracks, FaceTrack

ROWS_PER_GROUP = 4  # what a refit reads and works through at a time: about 5 MB of 10 s clips, 14 MB unpacked


def _lists(leaf: pa.DataType, rank: int) -> pa.DataType:
    for _ in range(rank):
        leaf = pa.list_(leaf)
    return leaf


def _track_columns(who: str) -> tuple[Column, ...]:
    return (
        Column(f"{who}.track_id", TEXT, f"face track of {who} within the shot"),
        Column(
            f"{who}.landmarks", _lists(SINGLE, 3), "FaceMesh points with irises; z is depth, smaller is nearer",
            "px", IMAGE, ("K", "478", "3"), 2.0**-5,
        ),
        Column(f"{who}.box", _lists(SINGLE, 2), "face box x0, y0, x1, y1", "px", IMAGE, ("K", "4"), 2.0**-4),
        Column(f"{who}.valid", pa.list_(pa.bool_()), "landmarks were measured on this very frame", shape=("K",)),
        Column(f"{who}.confidence", _lists(SINGLE, 1), "landmark reliability 0..1", "", "", ("K",)),
        Column(f"{who}.sharpness", _lists(SINGLE, 1), "variance of the Laplacian on the face crop", "", "", ("K",)),
        Column(f"{who}.identity", _lists(SINGLE, 1), "appearance descriptor, L2-normalised", "", "", ("D",)),
    )  # fmt: skip


COLUMNS: tuple[Column, ...] = (
    Column("pair_id", TEXT, "the pair; rows lie in the shard of the same number as in pairs/"),
    Column("video_id", TEXT, "sha256 of the video file's content"),
    Column("shot_index", INT, "which shot of the video"),
    Column("start_s", REAL, "start of the clip", "s", CLOCK),
    Column("end_s", REAL, "end of the clip", "s", CLOCK),
    Column("width", INT, "width of the upright image", "px", IMAGE),
    Column("height", INT, "height of the upright image", "px", IMAGE),
    Column("focal_px", REAL, "focal length where it is known", "px", IMAGE, nullable=True),
    Column("focal_source", TEXT, "who says so: user or metadata", nullable=True),
    Column("focal_log_sd", REAL, "standard deviation of its logarithm", nullable=True),
    Column("times", pa.list_(REAL), "of the K measured frames, the source's own; context beyond the clip included", "s",
           CLOCK, ("K",)),
    *_track_columns("a"),
    *_track_columns("b"),
)  # fmt: skip
LANDMARKS_MAY_LACK = ("focal_source", "focal_log_sd")  # they came later: without them a focal length is the file's own
BY_NAME = {column.name: column for column in COLUMNS}


@cache
def landmark_schema() -> pa.Schema:
    """The Arrow schema of ``landmarks/*.parquet``."""
    meta = {"duologue.table": "landmarks", "duologue.schema_version": str(SCHEMA_VERSION)}
    return pa.schema([column.field() for column in COLUMNS], metadata=meta)


def landmark_row(pair_id: str, tracks: ClipTracks) -> Row:
    """A clip's measured tracks as a row; landmarks are rounded to 1/32 pixel."""
    row: Row = {"pair_id": pair_id}
    row |= {name: getattr(tracks, name) for name in ("video_id", "shot_index", "start_s", "end_s", "width", "height")}
    known = tracks.focal
    row |= {f"focal_{name}": known and getattr(known, name) for name in ("px", "source", "log_sd")}
    row["times"] = tracks.times  # never crops: no pixels of a face are stored
    for who, track in (("a", tracks.a), ("b", tracks.b)):
        row |= {f"{who}.{name}": value for name, value in vars(track).items()}
    return {column.name: stored(column, row[column.name]) for column in COLUMNS}


def tracks_from_row(row: Row) -> ClipTracks:
    """The tracks of :func:`landmark_row` (read with ``table_to_rows(table, landmarks.BY_NAME)``).

    Raises:
        UsageError: columns are missing: another version wrote the row.
    """
    missing = [name for name in BY_NAME if name not in row and name not in LANDMARKS_MAY_LACK]
    if missing:
        raise UsageError(
            f"landmarks of {row.get('pair_id', '?')} lack {', '.join(missing)}: written by another version"
        )
    parts = [name for name in FaceTrack.__dataclass_fields__ if f"a.{name}" in BY_NAME]
    a, b = (FaceTrack(**{name: row[f"{who}.{name}"] for name in parts}) for who in ("a", "b"))
    names = ("video_id", "shot_index", "start_s", "end_s", "width", "height", "times")
    known = None
    if row["focal_px"] is not None:
        source, log_sd = row.get("focal_source"), row.get("focal_log_sd")
        known = Focal(row["focal_px"], source or "metadata", METADATA_LOG_SD if log_sd is None else log_sd)
    return ClipTracks(**{name: row[name] for name in names}, a=a, b=b, focal=known)


def rounded(tracks: ClipTracks) -> ClipTracks:
    """The tracks as a landmark row holds them. What is fitted first is fitted on these, so that a later fit sees the
    same numbers to the last bit."""
    stored_ones = tracks_from_row(landmark_row("", tracks))
    a = replace(stored_ones.a, crops=tracks.a.crops, gaze=tracks.a.gaze)
    b = replace(stored_ones.b, crops=tracks.b.crops, gaze=tracks.b.gaze)
    return replace(stored_ones, a=a, b=b)


def write_landmark_shard(files: Files, rows: Iterable[Row], index: int, count: int) -> FileEntry:
    """Write the landmark shard beside pair shard ``index`` of ``count``; rows rise by pair_id."""
    number = 0

    def counted() -> Iterable[Row]:
        nonlocal number
        for row in rows:
            number += 1
            yield row

    data = shard_bytes(counted(), COLUMNS, landmark_schema(), ROWS_PER_GROUP)
    return put_beside(files, shard_name(index, count, "landmarks"), data, "landmarks", number)
