"""Worker processes of this machine, forked from a process that imports everything while the job is being built.

Beam's own (``direct_running_mode=multi_processing``) are started once the graph is ready, and each imports everything
anew: that was half of the time in which two workers did nothing yet.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Thread, current_thread, main_thread

_WORKER = f"{__package__}.worker"

_Waiting = tuple[BaseProcess, Connection]
_waiting: list[_Waiting] = []
_forking: list[Thread] = []


def start_importing(workers: int = 0) -> None:
    """Start the process that workers are forked from, if it is not running; best before anything large is imported.

    Args:
        workers: so many are forked as soon as that can be, and open their models while the job is being built.
    """
    multiprocessing.set_forkserver_preload([_WORKER])
    with _deaf():
        forkserver.ensure_running()
    if workers:
        _forking.append(Thread(target=_fork_ahead, args=(workers,), daemon=True))
        _forking[-1].start()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes started here ignore Ctrl-C, which goes to all of a terminal's: they end with this one, silently."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start_worker(environment: dict[str, str]) -> BaseProcess:
    """A process that serves one Beam harness until its job ends.

    Args:
        environment: variables that the harness reads, besides this process's.
    """
    while _forking:
        _forking.pop().join()
    process, pipe = _waiting.pop() if _waiting else _fork()
    pipe.send({**os.environ, **environment})
    return process


def _fork_ahead(workers: int) -> None:
    _waiting.extend(_fork() for _ in range(workers))


def _fork() -> _Waiting:
    start_importing()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    # A daemon: one that nobody asked for ends with this process.
    process = context.Process(target=_work, args=(theirs,), name="duologue worker", daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _work(pipe: Connection) -> None:
    worker = importlib.import_module(_WORKER)
    worker.warm()
    try:
        environment = pipe.recv()
    except EOFError:  # the main process was killed before it asked
        return
    os.environ.clear()
    os.environ.update(environment)
    worker.serve()
