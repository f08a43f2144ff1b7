"""Optional ``voices/`` shards: the sound of each person of a pair alone, where speech separation was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache

import pyarrow as pa

from .files import Files
from .manifest import FileEntry, put_beside
from .pair import AUDIO, CLOCK, REAL, SAMPLE_RATE, SCHEMA_VERSION, TEXT, Column
from .row import Row
from .shard import shard_bytes, shard_name

COLUMNS: tuple[Column, ...] = (
    Column("pair_id", TEXT, "the pair; rows lie in the shard of the same number as in pairs/"),
    Column("video_id", TEXT, "sha256 of the video file's content"),
    Column("start_s", REAL, "start of the clip", "s", CLOCK),
    Column("end_s", REAL, "end of the clip", "s", CLOCK),
    Column("residual_share", REAL, "of the mixture's energy in neither track", "share", nullable=True),
    Column("a.audio", AUDIO, "16 kHz mono FLAC of a alone; null where no source was a's", nullable=True),
    Column("b.audio", AUDIO, "16 kHz mono FLAC of b alone; null where no source was b's", nullable=True),
)
BY_NAME = {column.name: column for column in COLUMNS}


@cache
def voice_schema() -> pa.Schema:
    """The Arrow schema of ``voices/*.parquet``; HF ``datasets`` reads from it that both are Audio features."""
    feature = {"sampling_rate": SAMPLE_RATE, "_type": "Audio"}
    meta = {
        "duologue.table": "voices",
        "duologue.schema_version": str(SCHEMA_VERSION),
        "huggingface": json.dumps({"info": {"features": {"a.audio": feature, "b.audio": feature}}}),
    }
    return pa.schema([column.field() for column in COLUMNS], metadata=meta)


def voice_row(
    pair_id: str,
    video_id: str,
    start_s: float,
    end_s: float,
    a: bytes | None,
    b: bytes | None,
    residual_share: float | None,
) -> Row:
    """A row of ``voices/``. a, b: bytes of a FLAC file, None without a track."""
    row: Row = {"pair_id": pair_id, "video_id": video_id, "start_s": start_s, "end_s": end_s}
    row["residual_share"] = residual_share
    for who, data in (("a", a), ("b", b)):
        row[f"{who}.audio"] = None if data is None else {"bytes": data, "path": f"{pair_id}.{who}.flac"}
    return row


def write_voice_shard(files: Files, rows: Iterable[Row], index: int, count: int) -> FileEntry:
    """Write the shard of separated voices beside pair shard ``index`` of ``count``; rows rise by pair_id."""
    kept = list(rows)
    data = shard_bytes(kept, COLUMNS, voice_schema())
    return put_beside(files, shard_name(index, count, "voices"), data, "voices", len(kept))
