"""The models that worked on the rows of a data set, counted without holding what every row says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

BackendCounts = Counter[tuple[str, str, str, str]]  # (stage, name, weights sha256, licence) -> rows
PARTS = ("stage", "name", "weights_sha256", "license")


def count_backends(tables: Iterable[pa.Table]) -> BackendCounts:
    """How many rows each model worked on, from the column ``backends``; one table is held at a time."""
    found: BackendCounts = Counter()
    for table in tables:
        parts = table["backends"].combine_chunks().flatten()
        columns = [parts.field(name) for name in PARTS]
        groups = pa.Table.from_arrays(columns, names=list(PARTS)).group_by(list(PARTS)).aggregate([([], "count_all")])
        for group in groups.to_pylist():
            found[group["stage"], group["name"], group["weights_sha256"], group["license"]] += group["count_all"]
    return found
