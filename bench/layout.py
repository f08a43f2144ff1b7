"""How should a pair's arrays lie in Parquet? Size and speed of the candidates, through the readers that people use.

    python bench/layout.py [--pairs 128] [--json]

Candidates: nested lists in natural shape, lists of fixed-size lists, flat lists, flat fixed-size lists, raw bytes, and
structs per person; float32, float32 rounded to the steps of the schema, float16; byte-stream split or plain; row-group
sizes. Motion is a random walk with measurement noise of the size that fits have, sound is noise of FLAC's usual size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from duologue.schemas import pair as schema
from duologue.schemas.row import column_arrays, nested_array

FRAMES, SHAPE, EXPRESSION = 250, 50, 50
AUDIO_BYTES = 180_000  # 10 s of speech at 16 kHz in FLAC
NOISE = {"expression": 0.05, "rotation": 0.004, "translation": 0.003, "head_centre": 0.003, "box": 1.0}
LAYOUTS = ("nested", "inner fixed", "flat", "flat fixed", "bytes", "struct")
ARRAYS = [c for c in schema.COLUMNS if c.shape and pa.types.is_floating(schema.leaf_type(c.type))]


@dataclass(frozen=True)
class Candidate:
    layout: str = "nested"
    numbers: str = "float32 rounded"
    split: bool = True
    group: int = 32


def arrays(count: int) -> list[dict[str, np.ndarray]]:
    """Arrays of ``count`` pairs: smooth motion plus the fit's noise, 3 % of frames not valid."""
    rng = np.random.default_rng(0)
    size = {"T": FRAMES, "S": SHAPE, "E": EXPRESSION}
    out = []
    for _ in range(count):
        row = {}
        for column in ARRAYS:
            shape = [size[axis] if axis in size else int(axis) for axis in column.shape]
            name = column.name.rpartition(".")[2]
            scale = NOISE.get(name, 0.002)
            value = np.cumsum(rng.normal(size=shape), axis=0) * scale * 2 + rng.normal(size=shape) * scale
            if column.masked:
                value[100:108] = np.nan
            row[column.name] = value
        out.append(row)
    return out


def table_of(rows: list[dict[str, np.ndarray]], candidate: Candidate, audio: list[bytes]) -> pa.Table:
    """The rows as an Arrow table in the candidate's layout."""
    kind = np.float16 if candidate.numbers == "float16" else np.float32
    leaf = pa.from_numpy_dtype(kind)
    columns: dict[str, Any] = {
        "pair_id": pa.array([f"{index:032x}" for index in range(len(rows))]),
        "scores.snr_db": pa.array(np.linspace(0, 30, len(rows), dtype=np.float32)),
    }
    for column in ARRAYS:
        values = [row[column.name] for row in rows]
        if candidate.numbers == "float32 rounded" and column.step:
            values = [np.rint(value / column.step) * column.step for value in values]
        columns[column.name] = _column([value.astype(kind) for value in values], leaf, candidate.layout)
    if candidate.layout == "struct":
        for who in ("a", "b"):
            names = [name for name in columns if name.startswith(f"{who}.")]
            parts = [columns.pop(name) for name in names]
            columns[who] = pa.StructArray.from_arrays(parts, [name[2:] for name in names])
    columns["audio"] = pa.array(audio, pa.binary())
    return pa.table(columns)


def _column(values: list[np.ndarray], leaf: pa.DataType, layout: str) -> pa.Array:
    if layout == "bytes":
        return pa.array([value.tobytes() for value in values], pa.binary())
    if layout in ("nested", "struct"):
        return nested_array(values, leaf)
    flat = pa.array(np.concatenate([value.ravel() for value in values]), leaf)
    size, shape = values[0].size, values[0].shape
    if layout == "flat fixed":
        return pa.FixedSizeListArray.from_arrays(flat, size)
    inner = flat
    if layout == "inner fixed":
        for axis in reversed(shape[1:]):
            inner = pa.FixedSizeListArray.from_arrays(inner, axis)
        size = shape[0]
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * size)
    return pa.ListArray.from_arrays(offsets, inner)


def write(table: pa.Table, path: Path, candidate: Candidate) -> None:
    """The table in the candidate's encoding."""
    leaves = [path for field in table.schema for path in _leaves(field.name, field.type)]
    floats = [leaf for leaf in leaves if leaf.split(".")[0] in ("a", "b") or leaf.split(".")[0] in _JOINT]
    split = [] if candidate.layout == "bytes" or not candidate.split else floats
    pq.write_table(
        table,
        path,
        compression={leaf: "none" if leaf == "audio" else "zstd" for leaf in leaves},
        use_dictionary=["pair_id"],
        use_byte_stream_split=split,
        row_group_size=candidate.group,
    )


_JOINT = tuple(column.name for column in schema.JOINT)


def _leaves(name: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(f"{name}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{name}.{field.name}", field.type)]
    return [name]


def to_numpy(column: pa.ChunkedArray, shape: tuple[str, ...], layout: str, kind: type) -> list[np.ndarray]:
    """A column of any layout as one numpy array a row, as a loader needs it."""
    if layout in ("nested", "struct"):
        return column_arrays(column, shape)
    out: list[np.ndarray] = []
    for chunk in column.chunks:
        if layout == "bytes":
            out += [np.frombuffer(value.as_buffer(), kind) for value in chunk]
            continue
        inner = chunk.flatten()
        while not pa.types.is_floating(inner.type):
            inner = inner.flatten()
        out += list(inner.to_numpy(zero_copy_only=False).reshape(len(chunk), -1))
    return out


def read_all(path: Path, candidate: Candidate) -> float:
    """Every array of every pair to numpy, one thread."""
    kind = np.float16 if candidate.numbers == "float16" else np.float32
    shard, total = pq.ParquetFile(path, memory_map=True), 0.0
    for index in range(shard.metadata.num_row_groups):
        group = shard.read_row_group(index, use_threads=False)
        if candidate.layout == "struct":
            for who in ("a", "b"):
                struct = group[who].combine_chunks()
                for position, field in enumerate(struct.type):
                    group = group.append_column(f"{who}.{field.name}", struct.field(position))
        for column in ARRAYS:
            values = to_numpy(group[column.name], column.shape, candidate.layout, kind)
            total += float(values[0].reshape(-1)[0])
    return total


def best(function: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest run."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def through_readers(path: Path, candidate: Candidate, count: int) -> dict[str, float]:
    """Milliseconds a pair for what users do: a filter on a score, one array column."""
    import duckdb
    import polars

    rotation = "a.rotation" if candidate.layout == "struct" else '"a.rotation"'
    duck = duckdb.connect()
    duck.execute("set threads = 1")
    loads = {
        "pyarrow_score": lambda: pq.read_table(path, columns=["pair_id", "scores.snr_db"]),
        "pyarrow_rotation": lambda: pq.read_table(path, columns=["a.rotation"], use_threads=False),
        "duckdb_score": lambda: duck.sql(f"select avg(\"scores.snr_db\") from '{path}'").fetchall(),
        "duckdb_rotation": lambda: duck.sql(f"select {rotation} from '{path}'").to_arrow_table(),
        "polars_score": lambda: (
            polars.scan_parquet(path).filter(polars.col("scores.snr_db") > 5).select("pair_id").collect()
        ),
        "polars_rotation": lambda: (
            polars.scan_parquet(path).select(polars.col("a").struct.field("rotation")).collect()
            if candidate.layout == "struct"
            else polars.scan_parquet(path).select("a.rotation").collect()
        ),
    }  # fmt: skip
    out = {}
    for name, load in loads.items():
        try:
            out[name] = best(load) / count * 1e3
        except duckdb.Error:
            out[name] = float("nan")  # DuckDB 2.0 does not read byte-stream-split float16
    return out


def random_row(path: Path, count: int) -> float:
    """One pair, all columns: what a viewer or a shuffling loader without a buffer pays."""
    shard = pq.ParquetFile(path, memory_map=True)
    groups = shard.metadata.num_row_groups
    return best(lambda: shard.read_row_group(groups // 2, use_threads=False))


def measure(
    candidate: Candidate, rows: list[dict[str, np.ndarray]], audio: list[bytes], folder: Path
) -> dict[str, Any]:
    """One candidate, written and read."""
    table, path, count = table_of(rows, candidate, audio), folder / "layout.parquet", len(rows)
    wrote = best(lambda: write(table, path, candidate))
    return {
        **vars(candidate),
        "kb_per_pair_without_audio": round(path.stat().st_size / count / 1e3 - AUDIO_BYTES / 1e3, 1),
        "write_ms": round(wrote / count * 1e3, 3),
        "read_all_ms": round(best(lambda: read_all(path, candidate)) / count * 1e3, 3),
        "one_row_ms": round(random_row(path, count) * 1e3, 2),
        **{
            f"{name}_ms": None if value != value else round(value, 4)
            for name, value in through_readers(path, candidate, count).items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    rng = np.random.default_rng(1)
    rows, audio = arrays(options.pairs), [rng.bytes(AUDIO_BYTES) for _ in range(options.pairs)]
    candidates = [Candidate(layout=layout) for layout in LAYOUTS]
    candidates += [Candidate(numbers=numbers) for numbers in ("float32", "float16")]
    candidates += [Candidate(split=False), Candidate(numbers="float32", split=False)]
    candidates += [Candidate(group=group) for group in (8, 128)]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        measure(candidates[0], rows, audio, Path(folder))  # imports and caches
        for candidate in candidates:
            results.append(measure(candidate, rows, audio, Path(folder)))
            if not options.json:
                print("  ".join(f"{key}={value}" for key, value in results[-1].items()), flush=True)
    raw = sum(value.size for value in rows[0].values()) * 4 / 1e3
    print(json.dumps({"raw_float32_kb_per_pair": round(raw, 1), "pairs": options.pairs, "candidates": results}))


if __name__ == "__main__":
    main()
