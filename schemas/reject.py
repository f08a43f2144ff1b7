"""The reject table: what a hard gate stopped before fitting, where and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import pyarrow as pa

from .pair import CLOCK, SCHEMA_VERSION
from .records import REASONS, Reject

_FIELDS: tuple[tuple[str, pa.DataType, str, str], ...] = (
    ("video_id", pa.string(), "", "sha256 of the file's content; empty where it could not be read"),
    ("uri", pa.string(), "", "where the video was read"),
    ("stage", pa.string(), "", "the stage that stopped it"),
    ("reason", pa.string(), "", "code: " + "; ".join(f"{code} ({text})" for code, text in REASONS.items())),
    ("detail", pa.string(), "", "what decided, for a person"),
    ("start_s", pa.float64(), "s", "start of what was stopped"),
    ("end_s", pa.float64(), "s", "end of what was stopped"),
    ("shot_index", pa.int32(), "", "which shot; -1 for the whole video"),
    ("source_id", pa.string(), "", "as the input manifest says"),
)
REJECTS_PER_SHARD = 100_000
REJECTS_MAY_LACK = ("source_id",)  # it came later: a table without it is read as if no source had an id


def reject_schema() -> pa.Schema:
    """The Arrow schema of ``rejects/*.parquet``."""
    fields = []
    for name, kind, unit, meaning in _FIELDS:
        meta = {"description": meaning} | ({"unit": unit, "frame": CLOCK} if unit else {})
        fields.append(pa.field(name, kind, metadata=meta))
    meta = {"duologue.table": "rejects", "duologue.schema_version": str(SCHEMA_VERSION)}
    return pa.schema(fields, metadata=meta)


def reject_table(rejects: Iterable[Reject]) -> pa.Table:
    """Rejects as a table, in an order that depends on their content alone; exact repeats are kept once."""
    key = tuple(name for name, *_ in _FIELDS)
    rows = sorted(
        {tuple(asdict(reject)[name] for name in key) for reject in rejects},
        key=lambda row: (row[1], row[0], row[5], row[6], *map(str, row)),
    )
    for row in rows:
        if row[3] not in REASONS:
            raise ValueError(f"unknown reject reason {row[3]!r}")
    columns = zip(*rows, strict=True) if rows else ((),) * len(key)
    arrays = [pa.array(values, kind) for values, (_, kind, _, _) in zip(columns, _FIELDS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=reject_schema())


def is_reject_table(table: pa.Table) -> bool:
    expected = reject_schema()
    lacking = [name for name in REJECTS_MAY_LACK if name not in table.column_names]
    return bool(table.schema.equals(pa.schema([field for field in expected if field.name not in lacking])))


def table_to_rejects(table: pa.Table) -> list[Reject]:
    """The rows of a reject table."""
    return [Reject(**row) for row in table.to_pylist()]
