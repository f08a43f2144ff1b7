"""The work folder: finished pieces as content-hashed files, and the ledger that says which are finished.

What crosses a shuffle is ids, paths, scores and summaries. Arrays wait here. A ledger record is written after the
files it names, so that a record is a promise; a killed job restarts from its records.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from ..schemas.files import Files
from .storage import files_at, join

Arrays = Mapping[str, npt.NDArray[Any]]


def canonical_json(value: Any) -> str:
    """JSON with one spelling: sorted keys, no spaces, dataclasses as objects."""
    return json.dumps(as_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(*parts: Any) -> str:
    """32 hex digits that stand for the parts' canonical JSON."""
    text = "\x1f".join(canonical_json(part) for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]  # names of files may hold any byte


def pack(arrays: Arrays) -> bytes:
    """An npz with one spelling: names sorted, stored, zip times fixed by numpy. Object arrays are refused."""
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects")
    buffer = io.BytesIO()
    ordered: dict[str, Any] = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    np.savez(buffer, **ordered)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """What :func:`pack` wrote, read several times faster than by ``np.load``, which parses each header as Python."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            stored = archive.read(name)
            size = int.from_bytes(stored[8:10], "little")
            if stored[:8] != _NPY or not stored[10 : 10 + size].endswith(b"\n"):
                raise ValueError(f"work array {name} is damaged")
            kind, shape = _header(stored[10 : 10 + size])
            array = np.empty(shape, kind)
            array.reshape(-1).view(np.uint8)[:] = np.frombuffer(stored, np.uint8, offset=10 + size)
            arrays[name.removesuffix(".npy")] = array
    return arrays


_NPY = b"\x93NUMPY\x01\x00"  # the format's version that numpy writes wherever it can


@lru_cache(4096)
def _header(text: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape that a header of the npy format tells of a C-ordered array."""
    fields = ast.literal_eval(text.decode("latin-1"))
    kind = np.dtype(fields["descr"])
    if fields["fortran_order"] or kind.hasobject:
        raise ValueError(f"a work array is C-ordered and plain, not {fields}")
    return kind, fields["shape"]


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@dataclass(frozen=True)
class WorkStore:
    """Work files and ledger below one folder (``OUT/_work``), local or on any Beam filesystem."""

    root: str

    @property
    def files(self) -> Files:
        return files_at(self.root)

    def put(self, stage: str, key: str, data: bytes, suffix: str) -> str:
        """Write ``data`` under a name that holds its own hash; returns the name."""
        name = join(stage, f"{key}-{hashlib.sha256(data).hexdigest()[:16]}{suffix}")
        try:
            there = self.files.read_bytes(name) == data
        except FileNotFoundError:
            there = False
        if not there:
            self.files.write_bytes_atomic(name, data)
        return name

    def get(self, name: str) -> bytes:
        """Raises ValueError where the bytes are not the ones the name promises."""
        data = self.files.read_bytes(name)
        promised = name.rsplit("-", 1)[1].split(".", 1)[0]
        if hashlib.sha256(data).hexdigest()[:16] != promised:
            raise ValueError(f"work file {name} is damaged; delete it and run again")
        return data

    def put_arrays(self, stage: str, key: str, arrays: Arrays) -> str:
        return self.put(stage, key, pack(arrays), ".npz")

    def get_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        return unpack(self.get(name))

    def finished(self, stage: str, key: str, kinds: Mapping[str, type]) -> list[Any] | None:
        """The outputs recorded for ``key``; None where the piece is not finished, its record is damaged or what it
        wrote is gone."""
        try:
            lines = self.files.read_bytes(join("ledger", stage, f"{key}.json"))
        except FileNotFoundError:
            return None
        try:
            outputs = [_adapter(kinds[entry["kind"]]).validate_python(entry["value"]) for entry in json.loads(lines)]
        except (ValueError, KeyError, TypeError):
            return None
        return outputs if all(self.files.exists(name) for name in _written(stage, outputs)) else None

    def finish(self, stage: str, key: str, outputs: Iterable[Any]) -> None:
        """Record the outputs of ``key``; the files they name must have been written before."""
        entries = [{"kind": type(output).__name__, "value": as_plain(output)} for output in outputs]
        data = json.dumps(entries, sort_keys=True, separators=(",", ":"), allow_nan=True).encode()
        self.files.write_bytes_atomic(join("ledger", stage, f"{key}.json"), data)


def _written(stage: str, outputs: Iterable[Any]) -> Iterator[str]:
    """The work files that outputs of a stage name as their own, by the field names of ``elements.py``."""
    for output in outputs:
        names = [getattr(output, field, "") for field in ("file", "active", "landmarks", "voices")]
        names += [chunk.file for chunk in getattr(output, "sound", ())]
        # What an earlier stage wrote, that stage has looked after.
        yield from (name for name in names if name.split("/")[0] in (stage, "landmarks", "voices"))


def as_plain(value: Any) -> Any:
    """A dataclass as JSON values (fields only, nested dataclasses too)."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: as_plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {str(name): as_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value
