"""The steps whose cost depends on how many rows there are, each run in a process of its own that tells what it took."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from duologue import cli
from duologue.model.data import LoaderOptions, PairLoader
from duologue.pipeline.runners import beam_options, new_pipeline
from duologue.pipeline.sink import Target, WriteDataset
from duologue.schemas.dataset import Dataset
from duologue.schemas.finish import reselect
from duologue.schemas.selection import SelectionOptions
from duologue.schemas.verify import verify
from duologue.transforms.work import WorkStore

from .rows import CONFIG, FRAMES, read_done, rejects_of, store_rows, tallies_of, templates, write_done

CHUNK = 250


@dataclass(frozen=True)
class Cost:
    """Processor seconds, peak memory of the process and the memory it had before the step, MB."""

    cpu_s: float
    peak_mb: float
    before_mb: float


def prepare(folder: Path, pairs: int) -> None:
    """Finished rows in the work folder ``folder / "work"``; a smaller set takes the first of them."""
    made = templates(folder / "made")
    write_done(folder / "done.jsonl", store_rows(0, pairs, made, WorkStore(str(folder / "work"))))


def set_of(folder: Path, pairs: int) -> Path:
    """The data set of the first ``pairs`` rows."""
    return folder / f"set{pairs}"


def sink(folder: Path, pairs: int) -> None:
    """Near-duplicates, shards, rejects, selection, card and manifest, by Beam's local runner in one process."""
    out = str(set_of(folder, pairs))
    work = WorkStore(str(folder / "work"))
    target = Target(out, work, 512, CONFIG, "", "0", SelectionOptions(), landmarks=False)
    chunks = [(first, min(first + CHUNK, pairs)) for first in range(0, pairs, CHUNK)]
    done = str(folder / "done.jsonl")

    def rows(chunk: tuple[int, int]) -> Iterator[object]:
        return read_done(done, *chunk)

    def beside(of: Callable[[int], Sequence[object]]) -> beam.PTransform:
        return beam.FlatMap(lambda chunk: (one for number in range(*chunk) for one in of(number)))

    pipeline = new_pipeline(beam_options("DirectRunner", 1, [], False))
    parts = pipeline | "chunks" >> beam.Create(chunks) | beam.Reshuffle()
    kept = parts | "rows" >> beam.FlatMap(rows)
    rejects, tallies = parts | "rejects" >> beside(rejects_of), parts | "tallies" >> beside(tallies_of)
    (kept, rejects, tallies) | WriteDataset(target)
    state = str(pipeline.run().wait_until_finish())
    found = len(Dataset(out))
    if state != "DONE" or found != pairs:
        raise SystemExit(f"the sink ended as {state} with {found} of {pairs} pairs")


def select(folder: Path, pairs: int) -> None:
    """Other thresholds over finished rows."""
    reselect(set_of(folder, pairs), SelectionOptions(snr_db=8.0))


def report(folder: Path, pairs: int) -> None:
    if cli.main(["report", str(set_of(folder, pairs)), "--json"]):
        raise SystemExit("no report")


def check(folder: Path, pairs: int) -> None:
    """``duologue verify``: every byte, row and array."""
    found = verify(set_of(folder, pairs))
    if not found.sound or found.pairs != pairs:
        raise SystemExit(f"{found.pairs} pairs; {'; '.join(map(str, found.problems[:3]))}")


def loader(folder: Path, pairs: int) -> None:
    """The trainer's index of selected pairs, the plan of an epoch, and its first batch."""
    options = LoaderOptions(batch_size=8, window=FRAMES, split="train", workers=1)
    next(iter(PairLoader(set_of(folder, pairs), options)))


STEPS: dict[str, Callable[[Path, int], None]] = {
    "sink": sink, "select": select, "report": report, "verify": check, "loader": loader,
}  # fmt: skip


def cost_of(step: str, folder: Path, pairs: int) -> Cost:
    """Run one step in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measured, step, folder, pairs).result()


def prepared(folder: Path, pairs: int) -> None:
    """Run :func:`prepare` in a process of its own, so that what it holds does not stay."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(prepare, folder, pairs).result()


def _measured(step: str, folder: Path, pairs: int) -> Cost:
    sys.stdout = sys.stderr  # what a verb prints is not the benchmark's result
    gc.collect()
    before, begin = memory_mb(), time.process_time()
    with watched_memory() as peak:
        STEPS[step](folder, pairs)
    return Cost(time.process_time() - begin, peak[0], before)


def memory_mb() -> float:
    """Memory of this process, MB (2^20 bytes), mapped files apart: their pages are the system's to take back."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


@contextmanager
def watched_memory(every_s: float = 0.02) -> Iterator[list[float]]:
    """The largest :func:`memory_mb` seen while the block runs, in a list of one."""
    peak, stop = [memory_mb()], threading.Event()

    def watch() -> None:
        while not stop.wait(every_s):
            peak[0] = max(peak[0], memory_mb())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
        peak[0] = max(peak[0], memory_mb())


def folder_mb(folder: Path) -> float:
    """MB (10^6 bytes) of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


__all__ = ["STEPS", "Cost", "cost_of", "folder_mb", "prepared"]
