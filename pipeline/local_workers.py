"""Worker processes of this machine, forked from a process that imports everything while the job is being built.

Beam's own (``direct_running_mode=multi_processing``) are started once the graph is ready, and each imports everything
anew: that was half of the time in which two workers did nothing yet.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess

_WORKER = f"{__package__}.worker"


def start_importing() -> None:
    """Start the process that workers are forked from, if it is not running; best before anything large is imported."""
    multiprocessing.set_forkserver_preload([_WORKER])
    forkserver.ensure_running()


def start_worker(environment: dict[str, str]) -> BaseProcess:
    """Fork a process that serves one Beam harness until its job ends.

    Args:
        environment: variables that the harness reads, besides this process's.
    """
    start_importing()
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_work, args=({**os.environ, **environment},), name="duologue worker")
    process.start()
    return process


def _work(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    importlib.import_module(_WORKER).serve()
