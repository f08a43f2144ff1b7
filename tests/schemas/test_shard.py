"""Shards: bytes from the rows alone, encodings as chosen, membership from ids."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from duologue.schemas import pair as schema
from duologue.schemas.files import LocalFiles
from duologue.schemas.finish import write_pairs
from duologue.schemas.row import pair_row
from duologue.schemas.shard import (
    ROWS_PER_GROUP,
    open_shard,
    shard_bytes,
    shard_count,
    shard_index,
    shard_name,
    table_bytes,
)
from duologue.tests.dataset_factory import make_pairs
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    return sorted((pair_row(pair) for pair in make_pairs(ROWS_PER_GROUP + 3, frames=5)), key=lambda row: row["pair_id"])


def test_bytes_do_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    pairs = make_pairs(8, frames=5)
    first = write_pairs(tmp_path / "a", pairs, shards=3)
    shuffled = random.Random(1).sample(pairs, len(pairs))
    second = write_pairs(tmp_path / "b", shuffled, shards=3)
    assert first == second
    assert sum(entry.rows for entry in first) == 8
    assert [entry.path for entry in first] == [shard_name(index, 3) for index in range(3)]


def test_same_rows_same_bytes(rows: list[dict[str, object]]) -> None:
    assert shard_bytes(rows) == shard_bytes(iter(rows))


def test_rows_must_rise(rows: list[dict[str, object]]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        shard_bytes([rows[1], rows[0]])
    with pytest.raises(ValueError, match="must rise"):
        shard_bytes([rows[0], rows[0]])


def test_groups_and_encodings(rows: list[dict[str, object]]) -> None:
    shard = pq.ParquetFile(io.BytesIO(shard_bytes(rows)))
    meta = shard.metadata
    assert [meta.row_group(index).num_rows for index in range(meta.num_row_groups)] == [ROWS_PER_GROUP, 3]
    assert shard.schema_arrow.equals(schema.pair_schema())
    for field in schema.pair_schema():
        assert field.metadata.items() <= shard.schema_arrow.field(field.name).metadata.items()
    columns = {meta.row_group(0).column(i).path_in_schema: meta.row_group(0).column(i) for i in range(meta.num_columns)}
    gaze = columns["a.gaze.list.element.list.element"]
    assert "BYTE_STREAM_SPLIT" in gaze.encodings
    assert gaze.compression == "ZSTD"
    assert columns["audio.bytes"].compression == "UNCOMPRESSED"
    assert columns["scores.snr_db"].statistics.has_min_max


def test_a_flipped_bit_is_noticed(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    data = bytearray(shard_bytes(rows))
    meta = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(0)
    column = next(
        meta.column(i) for i in range(meta.num_columns) if meta.column(i).path_in_schema.startswith("a.expression")
    )
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 4
    (tmp_path / "x.parquet").write_bytes(data)
    shard = open_shard(LocalFiles(tmp_path), "x.parquet", check=True)
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        shard.read()


def test_a_flipped_bit_of_a_plain_table_is_noticed(tmp_path: Path) -> None:
    data = bytearray(table_bytes(pa.table({"n": pa.array(range(1000))})))
    data[200] ^= 1
    (tmp_path / "t.parquet").write_bytes(data)
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        open_shard(LocalFiles(tmp_path), "t.parquet", check=True).read()


def test_an_empty_shard_has_the_schema() -> None:
    shard = pq.ParquetFile(io.BytesIO(shard_bytes([])))
    assert shard.metadata.num_rows == 0
    assert shard.schema_arrow.equals(schema.pair_schema())


@given(st.integers(1, 10_000), st.integers(1, 2_000))
def test_shard_count_holds_all_rows(rows: int, per_shard: int) -> None:
    count = shard_count(rows, per_shard)
    assert (count - 1) * per_shard < rows <= count * per_shard


@given(st.lists(st.uuids(), min_size=200, max_size=200, unique=True))
def test_membership_is_even(ids: list[object]) -> None:
    counts = [0] * 4
    for key in ids:
        counts[shard_index(str(key), 4)] += 1
    assert min(counts) > 15


def test_shard_names() -> None:
    assert shard_name(3, 16) == "pairs/pairs-00003-of-00016.parquet"
    with pytest.raises(ValueError, match="shard 2 of 2"):
        shard_name(2, 2)
