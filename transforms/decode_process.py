"""The parent's side of the decoder child: starting, warm reuse, time limits, killing.

One idle child is kept warm per process (a start costs about a third of a second of imports); another is started
when a second file is read at the same time. A child is replaced after :data:`RECYCLE_AFTER` requests and after any
failure that was not a plain verdict on the file. The ring lives in an anonymous memory file: it has no name that
could be left behind.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.errors import BadInput

RECYCLE_AFTER = 200
_IDLE_KEPT = 1
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
# Values of decode_child, which cannot be imported here without importing the decoder.
READY, TICK, ERROR, DONE, RESULT = b"H", b"T", b"E", b"D", b"R"
NEXT, STOP = b"N", b"S"
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc otherwise gives each frame's memory back to the kernel: page faults cost a fifth of the decoding
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
_BOOT = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
importlib.import_module(sys.argv[2]).main(*map(int, sys.argv[3:]))
"""


class DecoderChild:
    """A running child. Not for two threads at once: take one with :func:`acquire`."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # poll() bounds the wait for an answer; this bounds a child that stops in the middle of one
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(_START_TIMEOUT_S), 0))
        lifeline_read, self._lifeline = os.pipe()
        self._ring_fd = _anonymous_file()
        self._ring: mmap.mmap | None = None
        self.served = 0
        self.busy = self.broken = False
        environment = {**os.environ, **_ENVIRONMENT}
        fds = (theirs.fileno(), self._ring_fd, lifeline_read)
        module = f"{__package__}.decode_child"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(sys.path), module, *map(str, fds), str(os.getpid())],
                pass_fds=fds,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(lifeline_read)
        self._connection = Connection(ours.detach())
        self._poll = select.poll()  # Connection.poll builds a selector at every call
        self._poll.register(self._connection.fileno(), select.POLLIN)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        kind, _ = self._receive(_START_TIMEOUT_S)
        if kind != READY:
            raise RuntimeError(f"the decoder child did not start: {kind!r}")

    def ring(self, slots: int, step: int) -> list[npt.NDArray[np.uint8]]:
        """Read-only views of ``slots`` parts of ``step`` bytes in the shared ring, which never shrinks."""
        if os.fstat(self._ring_fd).st_size < step * slots:
            os.ftruncate(self._ring_fd, step * slots)
        size = os.fstat(self._ring_fd).st_size
        if self._ring is None or len(self._ring) != size:
            self._ring = mmap.mmap(self._ring_fd, size, access=mmap.ACCESS_READ)
        return [np.ndarray(step, np.uint8, buffer=self._ring, offset=i * step) for i in range(slots)]

    def request(self, do: str, timeout_s: float, **values: Any) -> Iterator[tuple[bytes, bytes]]:
        """Sends one request and yields its answers ``(kind, payload)``; the last one is of kind ``D`` or ``R``.

        Raises:
            BadInput: what the child found; ``decode_timeout`` after ``timeout_s`` without a sign of progress;
                ``decode_failed`` if it died.
        """
        self.served += 1
        self.busy = True
        self.send(json.dumps({"do": do, **values}).encode())
        while True:
            kind, payload = self._receive(timeout_s)
            if kind == TICK:
                continue
            if kind == ERROR:
                error = json.loads(payload)
                self.busy, self.broken = False, not error["clean"]
                raise BadInput(str(error["reason"]), str(error["detail"]))
            if kind in (DONE, RESULT):
                self.busy = False
                yield kind, payload
                return
            yield kind, payload

    def send(self, message: bytes) -> None:
        try:
            self._connection.send_bytes(message)
        except OSError as error:
            raise self._death() from error

    def stop(self) -> None:
        """Ends the request under way, if any; the child is killed if it does not answer in time."""
        if not self.busy or self.broken:
            return
        try:
            self.send(STOP)
            while True:
                kind, _ = self._receive(_STOP_TIMEOUT_S)
                if kind in (DONE, ERROR, RESULT):
                    self.busy = False
                    return
        except BadInput:
            self.broken = True

    def _receive(self, timeout_s: float) -> tuple[bytes, bytes]:
        try:
            if not self._poll.poll(1e3 * timeout_s):
                self.kill()
                raise BadInput("decode_timeout", f"no progress in {timeout_s:g} s")
            message = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._death() from error
        return message[:1], message[1:]

    def _death(self) -> BadInput:
        self.broken = True
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return BadInput("decode_failed", f"the decoder process died ({how})")

    def alive(self) -> bool:
        return not (self.broken or self.busy) and self._process.poll() is None

    def kill(self) -> None:
        """Kills the child and everything it started, and lets go of its ring."""
        self.broken = True
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, 9)
            except ProcessLookupError:
                self._process.kill()
        self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Closes this process's handles only."""
        for fd in (self._lifeline, self._ring_fd):
            if fd >= 0:
                os.close(fd)
        self._lifeline = self._ring_fd = -1
        self._ring = None  # unmapped once no frame view is held
        self._connection.close()


def _anonymous_file() -> int:
    """A memory file without a name that the child cannot shrink under our feet; a deleted file elsewhere."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("duologue-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return fd
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


_lock = threading.Lock()
_idle: list[DecoderChild] = []


def acquire() -> DecoderChild:
    """Takes a warm child, or starts one. Give it back with :func:`release`."""
    while True:
        with _lock:
            child = _idle.pop() if _idle else None
        if child is None:
            break
        if child.alive():
            return child
        child.kill()
    child = DecoderChild()
    try:
        child.wait_ready()
    except BadInput as error:
        child.kill()
        raise RuntimeError(f"the decoder child could not be started: {error.detail}") from error
    return child


def release(child: DecoderChild) -> None:
    """Keeps a healthy child warm for the next file; ends any other."""
    if child.alive() and child.served < RECYCLE_AFTER:
        with _lock:
            if len(_idle) < _IDLE_KEPT:
                _idle.append(child)
                return
    child.kill()


def warm() -> None:
    """Starts this process's child now, so that the first file does not wait for it."""
    release(acquire())


def close() -> None:
    """Ends the idle children of this process; the next read starts a new one."""
    with _lock:
        children = list(_idle)
        _idle.clear()
    for child in children:
        child.kill()


def _after_fork() -> None:
    """A forked process must not talk to its parent's children."""
    global _lock
    _lock = threading.Lock()
    for child in _idle:
        child.forget()
    _idle.clear()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close)
