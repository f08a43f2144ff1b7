"""Rows that were taken down leave a run before anything is told from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from ..schemas.takedown import Takedown, read_takedowns, row_taken_down
from ..transforms.storage import files_at
from ..transforms.work import WorkStore
from .rows import row_from_bytes


class DropTakenDown(beam.DoFn):
    """Finished rows (with their work file in ``file``) -> those that may be written.

    It stands before the search for duplicates: a row must not count as the repeat of one that is gone. People are known
    only in the finished row, which is read where something was taken down.
    """

    def __init__(self, out: str, work: WorkStore) -> None:
        self.out = out
        self.work = work
        self._takedowns: tuple[Takedown, ...] = ()

    def start_bundle(self) -> None:
        self._takedowns = read_takedowns(files_at(self.out))

    def process(self, done: Any) -> Iterator[Any]:
        if not self._takedowns or not row_taken_down(self._takedowns, row_from_bytes(self.work.get(done.file))):
            yield done
