"""The decoder child: a process of its own that opens hostile files, so that a hang or crash costs one file.

It is started by :mod:`.decode_process`, imports numpy and av and nothing heavier, serves one request at a time over
a socket, writes frames into a shared ring, and dies with its parent. Requests are JSON; answers are one kind byte
and plain bytes: nothing here is ever unpickled.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import resource
import select
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import av
import numpy as np

from ..schemas.errors import BadInput
from .audio_decode import mono_16k
from .decode_decord import DecordSource
from .decode_pipe import PipeSource
from .decode_pyav import PyAVSource
from .decode_source import FrameSource, Picture, SourceRequest
from .demux import measure
from .planar import FORMATS, Planes

T = TypeVar("T")
READY, TICK, FRAME, AUDIO, RESULT, ERROR, DONE = b"H", b"T", b"F", b"A", b"R", b"E", b"D"
NEXT, STOP = b"N", b"S"
# time in seconds, slot; kind of pixels (0 RGB, k planes of FORMATS[k - 1]), colour space and range of planes
FRAME_HEADER = struct.Struct("<dIBBB")
SOURCES: dict[str, Callable[[SourceRequest], FrameSource]] = {
    "pyav": PyAVSource,
    "decord": DecordSource,
    "ffmpeg": PipeSource,
}
HEARTBEAT_S = 0.5
_RATE_TIE = 1e-4  # of a bin: nearer by less than this is no nearer


def select_frames(
    frames: Iterator[tuple[float, T]], start_s: float, end_s: float, rate: float, origin_s: float
) -> Iterator[tuple[float, T]]:
    """Frames of [start_s, end_s) in rising time, at most one per bin of ``1 / rate`` seconds.

    Bin ``k`` is centred on ``origin_s + k / rate`` and keeps the frame nearest to its centre (the earlier of two
    equals), so the choice depends on the frames' times alone: pieces give the frames that the whole gives.

    Args:
        rate: bins a second; 0 keeps every frame.
    """
    last_s = -np.inf
    kept: tuple[float, T] | None = None
    kept_bin, kept_off = 0, 0.0
    for time_s, picture in frames:
        if time_s <= last_s:
            continue
        last_s = time_s
        if not rate:
            if time_s >= end_s:
                return
            if time_s >= start_s:
                yield time_s, picture
            continue
        place = (time_s - origin_s) * rate
        index = int(np.floor(place + 0.5 + _RATE_TIE))
        off = abs(place - index)
        if kept is not None and index == kept_bin:
            if off < kept_off - _RATE_TIE:
                kept, kept_off = (time_s, picture), off
            continue
        if kept is not None and start_s <= kept[0] < end_s:
            yield kept
        if time_s >= end_s and (index - 0.5) / rate + origin_s >= end_s:
            return
        kept, kept_bin, kept_off = (time_s, picture), index, off
    if kept is not None and start_s <= kept[0] < end_s:
        yield kept


class Stopped(Exception):
    """The parent wants no more of this request."""


class Child:
    """One request after another until the socket closes."""

    def __init__(self, connection: Connection, ring_fd: int) -> None:
        self._connection = connection
        self._poll = select.poll()  # Connection.poll builds a selector at every call
        self._poll.register(connection.fileno(), select.POLLIN)
        self._ring_fd = ring_fd
        self._ring: mmap.mmap | None = None
        self._said = time.monotonic()
        self._free = 0
        self._freed_at_once = 1

    def serve(self) -> None:
        handlers = {"probe": self._probe, "frames": self._frames, "audio": self._audio}
        self._send(READY)
        while True:
            try:
                message = self._connection.recv_bytes()
            except EOFError:
                return
            if message in (NEXT, STOP):  # sent while the last answer was on its way
                continue
            request = json.loads(message)
            limit = int(request["memory_mb"]) << 20
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            try:
                handlers[request["do"]](request)
            except BadInput as error:
                self._fail(error.reason, error.detail, clean=True)
            except Stopped:
                self._send(DONE, b"{}")
            except Exception as error:  # whatever a hostile file provokes is that file's failure
                if isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM:
                    self._fail("decode_failed", f"needs more than the limit of {request['memory_mb']} MiB of memory")
                else:
                    self._fail("decode_failed", f"{type(error).__name__}: {error}")

    def _send(self, kind: bytes, payload: bytes = b"") -> None:
        self._connection.send_bytes(kind + payload)
        self._said = time.monotonic()

    def _tick(self) -> None:
        if time.monotonic() - self._said > HEARTBEAT_S:
            self._send(TICK)
            while self._poll.poll(0):
                self._wait_for_parent()

    def _fail(self, reason: str, detail: str, clean: bool = False) -> None:
        self._send(ERROR, json.dumps({"reason": reason, "detail": detail, "clean": clean}).encode())

    def _wait_for_parent(self) -> None:
        """Takes one message: slots are free again, or the request is over."""
        if self._connection.recv_bytes() == STOP:
            raise Stopped
        self._free += self._freed_at_once

    def _probe(self, request: dict[str, Any]) -> None:
        facts = measure(request["path"], request["max_duration_s"], request["max_pixels"], self._tick)
        self._send(RESULT, json.dumps(facts).encode())

    def _slots(self, count: int, size: int) -> list[np.ndarray]:
        whole = os.fstat(self._ring_fd).st_size
        if self._ring is None or len(self._ring) != whole:
            self._ring = mmap.mmap(self._ring_fd, whole)
        return [np.ndarray(size, np.uint8, buffer=self._ring, offset=i * size) for i in range(count)]

    def _frames(self, request: dict[str, Any]) -> None:
        slots = self._slots(request["slots"], request["height"] * request["width"] * 3)
        start_s, end_s, rate = request["start_s"], request["end_s"], request["thin_rate"]
        origin_s = request["first_s"]
        bin_s = (np.floor((start_s - origin_s) * rate + 0.5) - 0.5) / rate + origin_s - 1e-3 if rate else start_s
        source = SOURCES[request["backend"]](
            SourceRequest(
                path=request["path"],
                width=request["width"],
                height=request["height"],
                rotation=request["rotation"],
                first_s=origin_s,
                start_s=min(bin_s, start_s),
                zero_s=request["zero_s"],
                fast=request["fast"],
                max_pixels=request["max_pixels"],
            ),
        )
        self._free, self._freed_at_once = len(slots), request["freed_at_once"]
        sent = 0
        told: list[bytes] = []  # headers of frames that the parent does not know of yet: a message costs two switches

        def tell() -> None:
            if told:
                self._send(FRAME, b"".join(told))
                told.clear()

        try:
            with closing(source.frames(self._tick)) as decoded:
                counted = self._counted(decoded, request["max_frames"])
                for time_s, picture in select_frames(counted, start_s, end_s, rate, origin_s):
                    while self._free == 0 or (not told and self._poll.poll(0)):
                        tell()
                        self._wait_for_parent()
                    slot = sent % len(slots)
                    told.append(FRAME_HEADER.pack(time_s, slot, *_fill(slots[slot], picture())))
                    self._free -= 1
                    sent += 1
                    if len(told) == self._freed_at_once or time.monotonic() - self._said > HEARTBEAT_S:
                        tell()
        finally:
            tell()
        self._send(DONE, json.dumps({"damage": source.damage, "frames": sent}).encode())

    @staticmethod
    def _counted(frames: Iterator[tuple[float, Picture]], limit: int) -> Iterator[tuple[float, Picture]]:
        for count, frame in enumerate(frames):
            if count >= limit:
                raise BadInput("too_large", f"more than {limit} frames")
            yield frame

    def _audio(self, request: dict[str, Any]) -> None:
        """Sends each window whole; the parent asks for the next one, so at most one is held on each side."""
        start_s, end_s, window = request["start_s"], request["end_s"], request["window"]
        held = np.empty(window, np.float32)
        fill = 0
        for piece in mono_16k(request["path"], request["zero_s"], start_s, end_s, self._tick):
            while piece.size:
                take = min(piece.size, window - fill)
                held[fill : fill + take] = piece[:take]
                fill, piece = fill + take, piece[take:]
                if fill == window:
                    self._send(AUDIO, held.tobytes())
                    self._wait_for_parent()
                    fill = 0
        if fill:
            self._send(AUDIO, held[:fill].tobytes())
            self._wait_for_parent()
        self._send(DONE, b"{}")


def _fill(slot: np.ndarray, pixels: np.ndarray | Planes) -> tuple[int, int, int]:
    """Put a frame into a slot; what its header says of it."""
    if isinstance(pixels, Planes):
        pixels.write(slot)
        return 1 + FORMATS.index(pixels.colour.form), pixels.colour.space, pixels.colour.range
    np.copyto(slot.reshape(pixels.shape), pixels)
    return 0, 0, 0


def _die_with_parent(lifeline: int, parent: int) -> None:
    """Ends this process and what it started as soon as the parent is gone.

    A thread, because decoding releases the GIL even where it hangs. (The kernel's parent-death signal follows the
    *thread* that started the child, which in a Beam worker ends long before the process.)
    """
    while True:
        readable, _, _ = select.select([lifeline], [], [], 1.0)
        if readable or os.getppid() != parent:
            os.killpg(0, signal.SIGKILL)


def main(socket_fd: int, ring_fd: int, lifeline_fd: int, parent: int) -> None:
    """Entry point of the child; the arguments are inherited file descriptors and the parent's process id."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)
    threading.Thread(target=_die_with_parent, args=(lifeline_fd, parent), daemon=True).start()
    Child(Connection(socket_fd), ring_fd).serve()
