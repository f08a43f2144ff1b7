"""The progress line of a local run: per stage, hours done of hours found, rate against real time, ETA."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from .funnel import STAGES

INTERVAL_S = 2.0
LOG_INTERVAL_S = 300.0
# Stage -> the stage whose output it works through: what was found for it to do.
BEFORE = {"scan": "probe", "fit": "evidence", "score": "fit"}


@dataclass
class StageProgress:
    media_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    items: int = 0
    resumed: int = 0


class ProgressReader:
    """Sums the workers' progress files (``OUT/_work/progress/<pid>.tsv``); each line is read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages: dict[str, StageProgress] = {}
        self._read: dict[Path, int] = {}

    def read(self) -> dict[str, StageProgress]:
        """The sums with what was written since the last call."""
        for path in sorted(self.folder.glob("*.tsv")):
            with path.open("rb") as stream:
                stream.seek(self._read.get(path, 0))
                whole, end, _ = stream.read().rpartition(b"\n")  # a line being written may be cut short
            self._read[path] = self._read.get(path, 0) + len(whole) + len(end)
            for line in whole.decode().splitlines():
                parts = line.split("\t")
                if len(parts) != 5:  # two lines that a kill ran together
                    continue
                stage, media_s, wall_s, cpu_s, fresh = parts
                entry = self.stages.setdefault(stage, StageProgress())
                entry.media_s += float(media_s)
                entry.wall_s += float(wall_s)
                entry.cpu_s += float(cpu_s)
                entry.items += 1
                entry.resumed += fresh == "0"
        return self.stages


class ProgressLine:
    """Draws the current stage on one line of a terminal; on a pipe a line when a stage begins, and how far it is every
    five minutes.

    Args:
        folder: where workers append their progress.
        found: stage -> seconds of media that were found for it to do, where that is known before it starts.
    """

    def __init__(self, folder: Path, out: TextIO, found: Mapping[str, float] | None = None) -> None:
        self.found = found or {}
        self.reader = ProgressReader(folder)
        self.out = out
        self._current = ""
        self._entered = time.monotonic()
        self._logged = 0.0

    def draw(self) -> None:
        stages = self.reader.read()
        seen = [stage for stage in (*STAGES, *self.found) if stage in stages]
        if not seen:
            return
        stage = seen[-1]
        done = stages[stage].media_s
        if stage != self._current:
            self._current, self._entered = stage, time.monotonic()
            if not self.out.isatty():
                print(f"  {stage} ...", file=self.out, flush=True)
                self._logged = self._entered
        elif not self.out.isatty() and time.monotonic() - self._logged >= LOG_INTERVAL_S:
            self._logged = time.monotonic()
            print("  " + self.line(stage, stages, done), file=self.out, flush=True)
        if self.out.isatty():
            self.out.write("\r\x1b[K" + self.line(stage, stages, done))
            self.out.flush()

    def line(self, stage: str, stages: dict[str, StageProgress], done: float) -> str:
        elapsed = max(1e-3, time.monotonic() - self._entered)
        rate = done / elapsed
        text = f"{stage:<7} {hours(done)}"
        total = self.found.get(stage, 0.0)
        if BEFORE.get(stage) in stages:
            total = stages[BEFORE[stage]].media_s
        if total > done > 0:
            text += f" of {hours(total)}  {rate:.1f}x real time  ETA {clock((total - done) / rate)}"
        elif rate > 0:
            text += f"  {rate:.1f}x real time"
        resumed = stages[stage].resumed
        return text + (f"  ({resumed} from an earlier run)" if resumed else "")

    def finish(self) -> None:
        if self.out.isatty():
            self.out.write("\r\x1b[K")
            self.out.flush()


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds:.1f} s"


def clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


@contextmanager
def progress_line(folder: Path, out: TextIO = sys.stderr, found: Mapping[str, float] | None = None) -> Iterator[None]:
    """Draw the progress of the workers every two seconds while the block runs."""
    for stale in folder.glob("*.tsv"):
        stale.unlink()
    stop = threading.Event()
    line = ProgressLine(folder, out, found)

    def loop() -> None:
        while not stop.wait(INTERVAL_S):
            line.draw()

    thread = threading.Thread(target=loop, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        line.finish()
