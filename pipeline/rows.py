"""A finished row as it waits in the work folder for its shard: one row as an Arrow stream."""

from __future__ import annotations

import pyarrow as pa

from ..schemas import landmarks, voice_tracks
from ..schemas.row import Row, rows_to_table, table_to_rows


def row_bytes(row: Row) -> bytes:
    """One pair row as an Arrow stream: what waits in the work folder for its shard."""
    return _stream(rows_to_table([row]))


def row_from_bytes(data: bytes) -> Row:
    return next(table_to_rows(pa.ipc.open_stream(data).read_all()))


def landmark_row_bytes(row: Row) -> bytes:
    """The same for a row of ``landmarks/``, compressed: landmarks are most of a run's bytes."""
    table = rows_to_table([row], landmarks.COLUMNS, landmarks.landmark_schema())
    return _stream(table, pa.ipc.IpcWriteOptions(compression="zstd"))


def landmark_row_from_bytes(data: bytes) -> Row:
    return next(table_to_rows(pa.ipc.open_stream(data).read_all(), landmarks.BY_NAME))


def voice_row_bytes(row: Row) -> bytes:
    """The same for a row of ``voices/``."""
    return _stream(rows_to_table([row], voice_tracks.COLUMNS, voice_tracks.voice_schema()))


def voice_row_from_bytes(data: bytes) -> Row:
    return next(table_to_rows(pa.ipc.open_stream(data).read_all(), voice_tracks.BY_NAME))


def _stream(table: pa.Table, options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
