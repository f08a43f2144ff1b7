"""Rows that come in any order to shards, one shard in memory at a time: they wait on disk, sorted by shard."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from .files import Files
from .finish import write_shard
from .manifest import FileEntry
from .row import Row, rows_to_table, table_to_rows
from .shard import shard_index

_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


class Spill:
    """Rows of one data set on their way to ``shards`` shards.

    Args:
        folder: an empty one, for the rows that wait; the caller deletes it.
    """

    def __init__(self, folder: str | Path, shards: int) -> None:
        self._folder, self._shards = Path(folder), shards
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, row: Row) -> bool:
        """Keep a row; False, and nothing kept, where its pair_id came before."""
        key = row["pair_id"]
        if key in self._seen:
            return False
        self._seen.add(key)
        table = rows_to_table([row])
        with (
            self._path(shard_index(key, self._shards)).open("ab") as stream,
            pa.ipc.new_stream(stream, table.schema, options=_OPTIONS) as writer,
        ):
            writer.write_table(table)
        return True

    def write(self, files: Files) -> list[FileEntry]:
        """Every shard of the data set, empty ones too; what waited is deleted as it goes."""
        entries = []
        for index in range(self._shards):
            path = self._path(index)
            rows = sorted(_rows(path), key=lambda row: str(row["pair_id"])) if path.exists() else []
            entries.append(write_shard(files, rows, index, self._shards))
            path.unlink(missing_ok=True)
        return entries

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:05d}.arrows"


def _rows(path: Path) -> list[Row]:
    """The rows of a file of Arrow streams, one after the other."""
    rows: list[Row] = []
    with pa.OSFile(str(path)) as source:
        while source.tell() < source.size():
            rows += table_to_rows(pa.ipc.open_stream(source).read_all())
    return rows
