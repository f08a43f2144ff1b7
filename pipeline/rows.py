"""A finished pair row as it waits in the work folder for its shard: one row as an Arrow stream."""

from __future__ import annotations

import pyarrow as pa

from ..schemas.row import Row, rows_to_table, table_to_rows


def row_bytes(row: Row) -> bytes:
    """One pair row as an Arrow stream: what waits in the work folder for its shard."""
    table = rows_to_table([row])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def row_from_bytes(data: bytes) -> Row:
    return next(table_to_rows(pa.ipc.open_stream(data).read_all()))
