"""Reading a data-set folder: whatever the manifest names, nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import pair as schema
from .errors import UsageError
from .files import Files, as_files
from .manifest import FileEntry, read_manifest
from .records import Reject
from .reject import is_reject_table, table_to_rejects
from .row import Pair, Row, pair_from_row, table_to_rows
from .selection import selection_schema
from .shard import open_shard, read_table, shard_index, shard_name

SELECTION = "selection.parquet"


class Dataset:
    """A finished data set.

    Args:
        where: the folder, or a :class:`Files` on it.

    Raises:
        UsageError: no manifest, or one of another schema version.
    """

    def __init__(self, where: str | Path | Files) -> None:
        self.files = as_files(where)
        self.manifest = read_manifest(self.files)
        self.shards: tuple[FileEntry, ...] = self.manifest.of_kind("pairs")

    def __len__(self) -> int:
        """Pairs, selected or not."""
        return self.manifest.rows("pairs")

    def open(self, entry: FileEntry) -> pq.ParquetFile:
        """A named shard.

        Raises:
            UsageError: gone, or not of the size that the manifest says.
        """
        return open_named(self.files, entry)

    def _group(self, entry: FileEntry, shard: pq.ParquetFile, index: int, columns: Sequence[str] | None) -> pa.Table:
        try:
            table = shard.read_row_group(index, columns=None if columns is None else list(columns), use_threads=False)
            return _with_scores(table, columns)
        except (OSError, pa.ArrowException) as error:
            raise damaged(self.files, entry, error) from error

    def selection(self) -> pa.Table:
        """``selection.parquet``: pair_id, selected, reason, failing, split.

        Raises:
            UsageError: there is none, or it is not a selection that the manifest names.
        """
        entry = self.manifest.entry(SELECTION)
        if entry is None:
            raise UsageError(
                f"{self.files.root} has no {SELECTION}: 'duologue select {self.files.root} --defaults' makes it"
            )
        again = f"'duologue select {self.files.root} --defaults' makes it again"
        try:
            data = self.files.read_bytes(entry.path)
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise UsageError(f"{self.files.root}/{SELECTION} is not the one that the manifest names: {again}")
            table = read_table(data)
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{self.files.root}/{SELECTION} cannot be read ({_line(error)}): {again}") from error
        if not set(selection_schema().names) <= set(table.column_names):
            raise UsageError(f"{self.files.root}/{SELECTION} is not a selection: {again}")
        return table

    def ids(self, *, selected: bool = True, split: str | None = None) -> list[str]:
        """Pair ids, sorted.

        Args:
            selected: only rows that pass the thresholds.
            split: "train", "val" or "test"; None for all.
        """
        if not selected and split is None:
            return sorted(self.table(["pair_id"])["pair_id"].to_pylist())
        table = self.selection()
        keep = np.ones(table.num_rows, dtype=bool)
        if selected:
            keep &= table["selected"].to_numpy(zero_copy_only=False)
        if split is not None:
            keep &= np.array(table["split"].to_pylist(), dtype=object) == split
        return sorted(table["pair_id"].filter(pa.array(keep)).to_pylist())

    def groups(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Row groups in order of shard and row, with only the named columns read from disk."""
        _check_columns(columns)
        for entry in self.shards:
            shard = self.open(entry)
            for index in range(shard.metadata.num_row_groups):
                yield self._group(entry, shard, index, columns)

    def table(self, columns: Sequence[str]) -> pa.Table:
        """The named columns of every pair; what scores and provenance are read with."""
        _check_columns(columns)
        tables = list(self.groups(columns))
        if tables:
            return pa.concat_tables(tables)
        fields = [schema.pair_schema().field(name) for name in columns]
        return pa.schema(fields).empty_table()

    def rows(self, columns: Sequence[str] | None = None, ids: Iterable[str] | None = None) -> Iterator[Row]:
        """Rows as dicts, arrays as numpy.

        Args:
            columns: to read; None for all. ``pair_id`` is always read.
            ids: only these pairs; row groups that hold none of them are not read beyond their ids.
        """
        wanted = None if ids is None else set(ids)
        names = None if columns is None else ["pair_id", *(name for name in columns if name != "pair_id")]
        _check_columns(names)
        for entry in self.shards:
            shard = self.open(entry)
            for index in range(shard.metadata.num_row_groups):
                keep = None
                if wanted is not None:
                    keys = self._group(entry, shard, index, ["pair_id"])["pair_id"].to_pylist()
                    keep = [position for position, key in enumerate(keys) if key in wanted]
                    if not keep:
                        continue
                table = self._group(entry, shard, index, names)
                yield from table_to_rows(table if keep is None else table.take(keep))

    def pairs(self, *, selected: bool = True, split: str | None = None) -> Iterator[Pair]:
        """Typed pairs, every column, in order of shard and row."""
        ids = None if not selected and split is None else self.ids(selected=selected, split=split)
        for row in self.rows(ids=ids):
            yield pair_from_row(row)

    def pair(self, pair_id: str) -> Pair:
        """One pair, selected or not; an unambiguous beginning of an id is enough.

        Raises:
            UsageError: no such pair, or several that begin so.
        """
        for entry in self._likely_first(pair_id):
            shard = self.open(entry)
            for index in range(shard.metadata.num_row_groups):
                keys = self._group(entry, shard, index, ["pair_id"])["pair_id"].to_pylist()
                if pair_id in keys:
                    table = self._group(entry, shard, index, None).slice(keys.index(pair_id), 1)
                    return pair_from_row(next(table_to_rows(table)))
        found = [key for key in self.ids(selected=False) if key.startswith(pair_id)] if pair_id else []
        if len(found) == 1:
            return self.pair(found[0])
        raise UsageError(
            f"{self.files.root} has {'no pair' if not found else f'{len(found)} pairs that begin with'} {pair_id}"
        )

    def _likely_first(self, pair_id: str) -> list[FileEntry]:
        name = shard_name(shard_index(pair_id, max(len(self.shards), 1)), max(len(self.shards), 1))
        return sorted(self.shards, key=lambda entry: (entry.path != name, entry.path))

    def rejects(self) -> list[Reject]:
        """Everything that a hard gate stopped."""
        return [reject for shard in self.reject_shards() for reject in shard]

    def reject_shards(self) -> Iterator[list[Reject]]:
        """The same, one shard at a time.

        Raises:
            UsageError: a shard is gone, damaged or of something else.
        """
        for entry in self.manifest.of_kind("rejects"):
            try:
                table = read_table(self.files.read_bytes(entry.path))
            except (OSError, pa.ArrowException) as error:
                raise damaged(self.files, entry, error) from error
            if not is_reject_table(table):
                raise UsageError(f"{self.files.root}/{entry.path} is not a reject table")
            yield table_to_rejects(table)


class RowsById:
    """Full rows by id, for a caller that asks in the stored order of another data set with these ids.

    The last row group is kept: data sets of equal ids lie in equal order, so that each group is read once.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._places: dict[str, tuple[int, int]] = {}
        for shard, entry in enumerate(dataset.shards):
            opened = dataset.open(entry)
            for group in range(opened.metadata.num_row_groups):
                for key in dataset._group(entry, opened, group, ["pair_id"])["pair_id"].to_pylist():
                    self._places[key] = (shard, group)
        self._held: tuple[int, int] = (-1, -1)
        self._rows: dict[str, Row] = {}

    def __contains__(self, pair_id: str) -> bool:
        return pair_id in self._places

    def __call__(self, pair_id: str) -> Row:
        place = self._places[pair_id]
        if place != self._held:
            entry = self._dataset.shards[place[0]]
            table = self._dataset._group(entry, self._dataset.open(entry), place[1], None)
            self._rows = {row["pair_id"]: row for row in table_to_rows(table)}
            self._held = place
        return self._rows[pair_id]


def open_named(files: Files, entry: FileEntry) -> pq.ParquetFile:
    """A shard that a manifest names; raises as :meth:`Dataset.open`."""
    try:
        shard = open_shard(files, entry.path)
    except (OSError, pa.ArrowInvalid) as error:
        raise damaged(files, entry, error) from error
    if shard.metadata.num_rows != entry.rows:
        raise UsageError(
            f"{files.root}/{entry.path} has {shard.metadata.num_rows} rows, the manifest says {entry.rows}"
        )
    return shard


def damaged(files: Files, entry: FileEntry, error: BaseException) -> UsageError:
    """What to tell where a named file cannot be read."""
    return UsageError(f"{files.root}/{entry.path} cannot be read ({_line(error)}): see 'duologue verify'")


def _with_scores(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """The table with nulls for the scores asked for that its version did not measure yet."""
    wanted = schema.BY_NAME if columns is None else columns
    for name in schema.MAY_LACK:
        if name in wanted and name not in table.column_names:
            field = schema.pair_schema().field(name)
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table if columns is None else table.select([n for n in columns if n in table.column_names])


def _check_columns(columns: Sequence[str] | None) -> None:
    unknown = [name for name in columns or () if name not in schema.BY_NAME]
    if unknown:
        raise UsageError(f"no such column: {', '.join(unknown)}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
