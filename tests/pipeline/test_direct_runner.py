"""The runner's workers end when the job does, whatever state they are in."""

from __future__ import annotations

import multiprocessing
import time
from concurrent import futures
from types import SimpleNamespace

import grpc
import pytest
from duologue.pipeline import direct_runner
from duologue.pipeline.direct_runner import _ForkedWorkerHandler


def test_a_worker_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_runner, "END_S", 0.1)
    stuck = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)
    stuck.start()
    logs = grpc.server(futures.ThreadPoolExecutor(1), options=direct_runner.PINGS_WELCOME)
    logs.start()
    _ForkedWorkerHandler.stop_worker(SimpleNamespace(_process=stuck, _logging=logs))
    assert stuck.exitcode is not None
    assert stuck.exitcode < 0  # by a signal
