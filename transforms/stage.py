"""How every stage runs in Beam: from the ledger if finished, else computed, recorded, counted; bad input becomes a row.

A stage is a small picklable object that builds its models when a worker first needs them. The transform around it
gives a retry-safe ParDo with outputs ``main``, ``rejects`` and ``tally``.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import apache_beam as beam
from apache_beam.metrics import Metrics

from ..schemas.errors import NO_ROOM, BadInput, UsageError
from ..schemas.records import Reject
from .storage import is_local, local_path
from .work import WorkStore, digest

LOG = logging.getLogger(__name__)
T = TypeVar("T")
MAIN, REJECTS, TALLY = "main", "rejects", "tally"


@dataclass(frozen=True)
class Subject:
    """What an element is about, for its reject row, its tally and the progress line."""

    video_id: str
    uri: str
    start_s: float
    end_s: float
    shot_index: int = -1
    source_id: str = ""

    @property
    def seconds(self) -> float:
        return max(0.0, self.end_s - self.start_s)


@dataclass(frozen=True)
class Tally:
    """One count for the funnel: ``items`` of ``seconds`` left ``stage`` with ``outcome`` ("kept" or a reason)."""

    stage: str
    outcome: str
    items: int
    seconds: float


class Stage(Protocol):
    """One stage of the flow.

    Attributes:
        name: the stage's name in the ledger, rejects and funnel.
        kinds: dataclasses that may be among the outputs (besides Reject).
    """

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> tuple[type, ...]: ...

    def identity(self, element: Any) -> tuple[Any, ...]:
        """What, besides the code's version, decides the outputs: ids, bounds, this stage's options."""

    def subject(self, element: Any) -> Subject: ...

    def run(self, element: Any, work: WorkStore) -> Sequence[Any]:
        """The outputs (Reject rows among them). Raises BadInput where the whole element is unusable."""


class Shared:
    """Heavy objects (models, warm decoder children), built once per worker process and used by one thread at a time.

    Native models are not re-entrant, and a worker may run several bundles at once: processes give the parallelism.
    """

    _lock = threading.RLock()
    _objects: dict[tuple[Any, ...], Any] = {}  # noqa: RUF012 - one table per process is the point

    @classmethod
    def get(cls, name: str, build: Callable[..., T], *arguments: Any) -> T:
        key = (os.getpid(), name, *arguments)
        with cls._lock:
            if key not in cls._objects:
                cls._objects[key] = build(*arguments)
            return cast(T, cls._objects[key])

    @classmethod
    @contextlib.contextmanager
    def exclusive(cls) -> Iterator[None]:
        with cls._lock:
            yield


# What a moment may have decided (a network, a busy machine, a fault since repaired), not the input: it stays out of the
# ledger, and the next run tries again.
PASSING = ("stage_failed", "fetch_failed", "decode_timeout")


class TooManyFailures(RuntimeError):
    """So large a share of a stage's items broke that the set-up, not the input, must be at fault."""


@dataclass(frozen=True)
class FailureLimit:
    """A worker gives up when at least ``least`` items, and more than ``share`` of those it saw, broke in one stage."""

    share: float = 0.2
    least: int = 10


class FailureWatch:
    """Counts what broke in this worker process (``stage_failed``: bad input never stops a job), and why."""

    def __init__(self, stage: str, limit: FailureLimit) -> None:
        self.stage = stage
        self.limit = limit
        self.seen = 0
        self.broken: Counter[str] = Counter()

    def note(self, outputs: Sequence[Any]) -> None:
        """Raises TooManyFailures with the commonest errors counted."""
        self.seen += 1
        self.broken.update(o.detail for o in outputs if isinstance(o, Reject) and o.reason == "stage_failed")
        count = self.broken.total()
        if count >= self.limit.least and count > self.limit.share * self.seen:
            common = "; ".join(f"{n} x {detail}" for detail, n in self.broken.most_common(3))
            raise TooManyFailures(f"{count} of {self.seen} items broke in stage {self.stage}: {common}")


class StageFn(beam.DoFn):
    """Runs one stage on one element. See the module."""

    def __init__(self, stage: Stage, work: WorkStore, code_version: str, limit: FailureLimit, retries: int = 1) -> None:
        self.stage = stage
        self.work = work
        self.code_version = code_version
        self.retries = retries
        self._counters: dict[str, Any] = {}
        self._watch = FailureWatch(stage.name, limit)

    def setup(self) -> None:
        """Spares the worker's garbage collector from looking through all that importing left, again and again."""
        if gc.get_freeze_count() == 0:
            gc.freeze()

    def process(self, element: Any) -> Iterator[Any]:
        stage = self.stage
        try:
            key = digest(stage.name, self.code_version, *stage.identity(element))
        except Exception as error:
            failed = [self._failed(element, error)]
            self._watch.note(failed)
            yield from self._emit(failed, 0.0)
            return
        kinds = {kind.__name__: kind for kind in (*stage.kinds, Reject)}
        outputs = self.work.finished(stage.name, key, kinds)
        fresh = outputs is None
        wall, cpu = time.monotonic(), time.process_time()
        if outputs is None:
            with Shared.exclusive():
                outputs = self._compute(element)
            self._watch.note(outputs)
            if not any(isinstance(o, Reject) and o.reason in PASSING for o in outputs):
                self.work.finish(stage.name, key, outputs)
        seconds = stage.subject(element).seconds
        report_progress(self.work, stage.name, seconds, time.monotonic() - wall, time.process_time() - cpu, fresh)
        yield from self._emit(outputs, seconds)

    def _compute(self, element: Any) -> list[Any]:
        stage = self.stage
        for attempt in range(self.retries + 1):
            try:
                return list(stage.run(element, self.work))
            except BadInput as bad:
                if bad.reason != "fetch_failed" or attempt == self.retries:
                    return [reject(stage.subject(element), stage.name, bad.reason, bad.detail)]
            except (MemoryError, KeyboardInterrupt, SystemExit, UsageError):
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    raise
                # One bad element must not cost the job; the failure is counted, and too many abort it.
                failed = self._failed(element, error)
                if attempt == self.retries:
                    return [failed]
        raise AssertionError("unreachable")

    def _failed(self, element: Any, error: Exception) -> Reject:
        name, subject = self.stage.name, self.stage.subject(element)
        LOG.warning("%s failed on %s [%.1f s]: %s", name, subject.uri, subject.start_s, error)
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(where.filename)}:{where.lineno}"
        return reject(subject, name, "stage_failed", f"{type(error).__name__}: {error} ({place})")

    def _emit(self, outputs: Sequence[Any], seconds: float) -> Iterator[Any]:
        name = self.stage.name
        kept = 0
        for output in outputs:
            if isinstance(output, Reject):
                self._count(output.reason)
                yield beam.pvalue.TaggedOutput(REJECTS, output)
                span = max(0.0, output.end_s - output.start_s)
                yield beam.pvalue.TaggedOutput(TALLY, Tally(name, output.reason, 1, span))
            else:
                kept += 1
                yield output
        if kept:
            self._count("kept")
            yield beam.pvalue.TaggedOutput(TALLY, Tally(name, "kept", kept, self._kept_seconds(outputs, seconds)))

    def _kept_seconds(self, outputs: Sequence[Any], seconds: float) -> float:
        kept = [o for o in outputs if not isinstance(o, Reject)]
        spans = [o.end_s - o.start_s for o in kept if isinstance(getattr(o, "end_s", None), float)]
        return float(sum(spans)) if spans else seconds

    def _count(self, outcome: str) -> None:
        if outcome not in self._counters:
            self._counters[outcome] = Metrics.counter(f"duologue.{self.stage.name}", outcome)
        self._counters[outcome].inc()


def reject(subject: Subject, stage: str, reason: str, detail: str = "") -> Reject:
    """A reject row; what is not UTF-8 in names and messages stands as escapes, since Arrow stores nothing else."""
    uri, detail = (text.encode("utf-8", "backslashreplace").decode() for text in (subject.uri, detail))
    part = (subject.start_s, subject.end_s, subject.shot_index)
    return Reject(subject.video_id, uri, stage, reason, detail, *part, subject.source_id)


@dataclass(frozen=True)
class StageOutputs:
    main: beam.PCollection
    rejects: beam.PCollection
    tally: beam.PCollection


class RunStage(beam.PTransform):
    """Apply a stage to a collection: a dict with ``main``, ``rejects`` and ``tally``.

    Args:
        hints: Beam resource hints of the ParDo (``min_ram``, ``accelerator``).
    """

    def __init__(self, stage: Stage, work: WorkStore, code_version: str, limit: FailureLimit, **hints: str) -> None:
        super().__init__()
        self.stage = stage
        self.work = work
        self.code_version = code_version
        self.limit = limit
        self.hints = hints

    def expand(self, elements: beam.PCollection) -> StageOutputs:
        step = beam.ParDo(StageFn(self.stage, self.work, self.code_version, self.limit))
        if self.hints:
            step = step.with_resource_hints(**self.hints)
        out = elements | self.stage.name >> step.with_outputs(REJECTS, TALLY, main=MAIN)
        return StageOutputs(out[MAIN], out[REJECTS], out[TALLY])


def report_progress(work: WorkStore, stage: str, media_s: float, wall_s: float, cpu_s: float, fresh: bool) -> None:
    """Append one line to this process's progress file (local work folders only; elsewhere Beam's metrics serve).

    ``cpu_s`` is this process's alone; what its decoder child spent is in ``wall_s``.
    """
    if not is_local(work.root):
        return
    folder = local_path(work.root) / "progress"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{os.getpid()}.tsv").open("a") as stream:
        stream.write(f"{stage}\t{media_s:.3f}\t{wall_s:.4f}\t{cpu_s:.4f}\t{int(fresh)}\n")
