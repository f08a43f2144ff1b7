"""Every column of every table, from the schemas themselves: ``python -m duologue.schemas.column_table``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pyarrow as pa

from .landmarks import landmark_schema
from .pair import pair_schema
from .reject import reject_schema
from .selection import selection_schema
from .voice_tracks import voice_schema

_HEAD = """# Columns

Every column of a data set, as the Parquet metadata of its field has it; this page is written by
`python -m duologue.schemas.column_table`. `T` is a clip's number of frames, `S` and `E` are the head model's identity
and expression coefficients. Columns of person b are those of person a under `b.`. Arrays are rounded to the step.

Frames: *camera* is x right, y down, z forward; *model* is the head model's, +x the subject's left, +y up, +z out of the
face; *image* is pixels of the upright image, centres at integers; *video clock* starts at the container's earliest
presentation time.
"""
_TABLES: dict[str, Callable[[], pa.Schema]] = {
    "pairs": pair_schema, "selection": selection_schema, "rejects": reject_schema, "landmarks": landmark_schema,
    "voices": voice_schema,
}  # fmt: skip


def column_page() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for name, schema in _TABLES.items():
        where = f"{name}.parquet" if name == "selection" else f"{name}/*.parquet"
        lines = [f"## `{where}`", "", "| column | holds | type | unit | frame | step, validity |", "|---" * 6 + "|"]
        lines += [_line(field) for field in schema() if not field.name.startswith("b.")]
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def _line(field: pa.Field) -> str:
    meta = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    frame = meta.get("frame", "").partition(":")[0]
    rest = "; ".join(_rest(meta))
    cells = (f"`{field.name}`", meta.get("description", ""), _type(field.type, meta), meta.get("unit", ""), frame, rest)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _rest(meta: dict[str, str]) -> Iterator[str]:
    if "step" in meta:
        yield f"{float(meta['step']):.2g}"
    if "validity" in meta:
        yield meta["validity"]


def _type(kind: pa.DataType, meta: dict[str, str]) -> str:
    if "shape" in meta:
        return f"{meta['dtype']}[{', '.join(json.loads(meta['shape']))}]"
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type, {})}"
    if pa.types.is_struct(kind):
        return f"{{{', '.join(part.name for part in kind)}}}"
    return str(kind)


if __name__ == "__main__":
    print(column_page(), end="")
