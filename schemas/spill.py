"""Rows that come in any order to shards, one shard in memory at a time: they wait on disk, by shard."""

from __future__ import annotations

from collections.abc import Iterator
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
        self._places: dict[str, int] = {}  # where in its shard's file each row begins

    def __len__(self) -> int:
        return len(self._places)

    def add(self, row: Row) -> bool:
        """Keep a row; False, and nothing kept, where its pair_id came before."""
        key = row["pair_id"]
        if key in self._places:
            return False
        table = rows_to_table([row])
        with self._path(shard_index(key, self._shards)).open("ab") as stream:
            self._places[key] = stream.tell()
            with pa.ipc.new_stream(stream, table.schema, options=_OPTIONS) as writer:
                writer.write_table(table)
        return True

    def write(self, files: Files) -> list[FileEntry]:
        """Every shard of the data set, empty ones too; what waited is deleted as it goes."""
        keys: list[list[str]] = [[] for _ in range(self._shards)]
        for key in sorted(self._places):
            keys[shard_index(key, self._shards)].append(key)
        entries = []
        for index, mine in enumerate(keys):
            path = self._path(index)
            places = [self._places[key] for key in mine]
            entries.append(write_shard(files, _rows(path, places), index, self._shards))
            path.unlink(missing_ok=True)
        return entries

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:05d}.arrows"


def _rows(path: Path, places: list[int]) -> Iterator[Row]:
    """The rows that begin at these places of a file of Arrow streams."""
    if not places:
        return
    with pa.OSFile(str(path)) as source:
        for place in places:
            source.seek(place)
            yield from table_to_rows(pa.ipc.open_stream(source).read_all())
