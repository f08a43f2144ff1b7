"""One Parquet shard: which rows it holds, and bytes that depend on nothing but the rows."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from . import pair as schema
from .files import Files
from .row import Row, rows_to_table

ROWS_PER_SHARD = 512
ROWS_PER_GROUP = 32  # about 8 MB of 10 s clips: a shuffling loader holds a few groups, a scan reads long runs
ZSTD_LEVEL = 3


def shard_count(rows: int, rows_per_shard: int = ROWS_PER_SHARD) -> int:
    """How many shards a data set of ``rows`` gets; at least one."""
    return max(1, -(-rows // rows_per_shard))


def shard_index(row_id: str, count: int) -> int:
    """Which of ``count`` shards a row lies in: from its id alone."""
    return int(hashlib.sha256(row_id.encode()).hexdigest()[:16], 16) % count


def shard_name(index: int, count: int, table: str = "pairs") -> str:
    """Name below the data set's root, e.g. ``pairs/pairs-00003-of-00016.parquet``."""
    if not 0 <= index < count:
        raise ValueError(f"shard {index} of {count}")
    return f"{table}/{table}-{index:05d}-of-{count:05d}.parquet"


def shard_bytes(
    rows: Iterable[Row],
    columns: Sequence[schema.Column] = schema.COLUMNS,
    arrow: pa.Schema | None = None,
    rows_per_group: int = ROWS_PER_GROUP,
) -> bytes:
    """A shard of pair rows (:func:`duologue.schemas.row.pair_row`), read one row group at a time.

    Args:
        rows: in strictly rising order of pair_id.
        columns, arrow: of another table than pairs (``landmarks/``).

    Raises:
        ValueError: rows out of order or repeated.
    """
    stream = io.BytesIO()
    arrow = schema.pair_schema() if arrow is None else arrow
    with pq.ParquetWriter(stream, arrow, **_writer_options(columns)) as writer:
        for group in _groups(rows, rows_per_group):
            writer.write_table(rows_to_table(group, columns, arrow), row_group_size=rows_per_group)
    return stream.getvalue()


def _groups(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    group: list[Row] = []
    last = ""
    for row in rows:
        if row["pair_id"] <= last:
            raise ValueError(f"pair {row['pair_id']} after {last}: rows must rise by pair_id")
        last = row["pair_id"]
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def table_bytes(table: pa.Table) -> bytes:
    """A small table (rejects, selection) as Parquet bytes; deterministic."""
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", compression_level=ZSTD_LEVEL, write_page_checksum=True)
    return stream.getvalue()


def read_table(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of :func:`table_bytes`."""
    return pq.read_table(io.BytesIO(data), columns=None if columns is None else list(columns))


def open_shard(files: Files, name: str, *, check: bool = False) -> pq.ParquetFile:
    """A shard for reading: mapped where the folder is local, fetched whole elsewhere.

    Args:
        check: hold every page read against its checksum.
    """
    if "://" not in files.root:
        return pq.ParquetFile(f"{files.root}/{name}", memory_map=True, page_checksum_verification=check)
    return pq.ParquetFile(io.BytesIO(files.read_bytes(name)), page_checksum_verification=check)


def _writer_options(columns: Sequence[schema.Column]) -> dict[str, object]:
    """Writer options per Parquet leaf: floats byte-stream-split and zstd, texts dictionary and zstd, FLAC as it is."""
    split: list[str] = []
    dictionary: list[str] = []
    compression: dict[str, str] = {}
    for column in columns:
        for path in leaf_paths(column.name, column.type):
            compression[path] = "none" if path == "audio.bytes" else "zstd"
            if column.shape and pa.types.is_floating(schema.leaf_type(column.type)):
                split.append(path)
            elif path != "audio.bytes" and column.name not in ("pair_id", "audio"):
                dictionary.append(path)
    return {
        "compression": compression,
        "compression_level": {path: ZSTD_LEVEL for path, codec in compression.items() if codec == "zstd"},
        "use_dictionary": dictionary,
        "use_byte_stream_split": split,
        "write_statistics": [column.name for column in columns if not pa.types.is_nested(column.type)],
        "write_page_index": True,
        "write_page_checksum": True,
    }


def leaf_paths(name: str, kind: pa.DataType) -> list[str]:
    """Parquet's dotted paths of the leaves of a column."""
    if pa.types.is_list(kind):
        return leaf_paths(f"{name}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [path for field in kind for path in leaf_paths(f"{name}.{field.name}", field.type)]
    return [name]
