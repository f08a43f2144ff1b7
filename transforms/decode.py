"""Frames of a video on the video clock, decoded in a child process that can be killed.

with read_frames(path, video, start_s=10.0, end_s=20.0, longest_side=None, max_fps=30.0) as reader:
    for frame in reader:
        use(frame.time_s, frame.rgb)  # rgb is valid until the next iteration
reader.damage  # what was broken, "" for a healthy file
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from ..schemas.records import Video
from . import decode_process
from .decode_process import DONE, NEXT, DecoderChild, close, warm
from .planar import FORMATS, Colour, Converter, PlanarPicture

__all__ = [
    "DecodeOptions",
    "Frame",
    "FrameReader",
    "check_decoder",
    "close",
    "for_scan",
    "output_size",
    "read_frames",
    "thinning_rate",
    "warm",
]

BACKENDS = ("pyav", "decord", "ffmpeg")
_FRAME_HEADER = struct.Struct("<dIBBB")  # of decode_child, which cannot be imported without its decoder
RING_BYTES = 96 << 20
_SLACK = 1.05  # 29.97 and 30.3 frames a second are "at most 30"


@dataclass(frozen=True)
class DecodeOptions:
    """How frames are decoded, and the limits on a hostile file.

    Attributes:
        backend: "pyav", "decord" or "ffmpeg"; equal frames.
        fast: no loop filter, planes shrunk by area averaging before conversion (pyav only): a third cheaper on small
            frames, pixels differ a little.
        slots: most frames in the shared ring; the decoder runs so many frames ahead. Large frames get fewer
            (:func:`ring_slots`).
        progress_timeout_s: the child is killed after so long without progress, in seconds.
        memory_mb: address space of the child, in MiB; 350 of it are taken before the first file.
        max_frames: decoded frames in one read.
        max_pixels: of a coded frame.
    """

    backend: str = "pyav"
    fast: bool = False
    slots: int = 32
    progress_timeout_s: float = 60.0
    memory_mb: int = 4096
    max_frames: int = 5_000_000
    max_pixels: int = 8192 * 4320

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UsageError(f"unknown decoder {self.backend!r}; choose one of {', '.join(BACKENDS)}")
        if self.fast and self.backend != "pyav":
            raise UsageError(f"fast decoding needs the pyav decoder, not {self.backend}")
        if self.slots < 2:
            raise UsageError("the decoder's ring needs at least 2 slots")


def check_decoder(options: DecodeOptions) -> None:
    """Raises UsageError where the decoder is not installed: every video would be told to be broken."""
    module = {"pyav": "av", "decord": "decord", "ffmpeg": "ffmpeg"}[options.backend]
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"decoder {options.backend!r} needs the Python package {module}, which is not installed")
    if options.backend == "ffmpeg" and shutil.which("ffmpeg") is None:
        raise UsageError("decoder 'ffmpeg' needs the ffmpeg program, which is not installed")


def for_scan(options: DecodeOptions) -> DecodeOptions:
    """The same decoder at its cheapest, for frames on which only cuts and faces are looked for."""
    return replace(options, fast=True) if options.backend == "pyav" else options


class Frame:
    """One decoded frame, upright, with square pixels; read-only, valid until the next one is asked for or the reader
    is closed: copy what must live longer.

    Attributes:
        time_s: presentation time in seconds on the video clock.
        pixels: what RGB parts are cut from: the decoder's planes, or an RGB array, in shared memory.
    """

    def __init__(self, time_s: float, pixels: PlanarPicture | npt.NDArray[np.uint8]) -> None:
        self.time_s = time_s
        self.pixels = pixels

    @cached_property
    def rgb(self) -> npt.NDArray[np.uint8]:
        """[H, W, 3] uint8 of the whole frame; from planes it is converted once, into memory of its own."""
        if isinstance(self.pixels, np.ndarray):
            return self.pixels
        rgb = self.pixels.rgb()
        rgb.flags.writeable = False
        return rgb


class FrameReader:
    """Iterates once over the frames of one read. Made by :func:`read_frames`.

    Attributes:
        damage: what was broken in the file, known once iteration has ended; "" for a healthy file. Damaged frames
            are left out, not guessed.
        width, height: of the frames.
    """

    def __init__(self, child: DecoderChild, request: dict[str, object], options: DecodeOptions) -> None:
        self._child = child
        self._options = options
        self.width = int(str(request["width"]))
        self.height = int(str(request["height"]))
        self.damage = ""
        self._slots = child.ring(int(str(request["slots"])), self.height * self.width * 3)
        self._converter = Converter()
        self._answers = child.request("frames", options.progress_timeout_s, **request)
        self._iterator = self._frames()

    def __iter__(self) -> Iterator[Frame]:
        return self._iterator

    def _frames(self) -> Iterator[Frame]:
        at_once, count = freed_at_once(len(self._slots)), 0
        for kind, payload in self._answers:
            if kind == DONE:
                self.damage = str(json.loads(payload)["damage"])
                return
            for time_s, slot, kind_of, space, range_ in _FRAME_HEADER.iter_unpack(payload):
                memory = self._slots[slot]
                if kind_of:
                    colour = Colour(FORMATS[kind_of - 1], space, range_)
                    yield Frame(time_s, PlanarPicture(memory, self.width, self.height, colour, self._converter))
                else:
                    yield Frame(time_s, memory.reshape(self.height, self.width, 3))
                count += 1
                if count % at_once == 0:
                    self._child.send(NEXT)

    def close(self) -> None:
        """Stops decoding; safe to call at any time. Frames are invalid from here on."""
        self._child.stop()
        self._slots = []


def freed_at_once(slots: int) -> int:
    """Frames after which the decoder is told that their slots are free.

    It then decodes as many in a row: switching between decoder and reader at every frame, each finds its caches full
    of the other's data.
    """
    return slots // 2


def ring_slots(most: int, frame_bytes: int) -> int:
    """Frames in the ring: ``most``, or as many as ``RING_BYTES`` hold, but not under 8 for that."""
    return min(most, max(8, RING_BYTES // frame_bytes))


def output_size(video: Video, longest_side: int | None) -> tuple[int, int]:
    """(width, height) of delivered frames: the upright size, shrunk to ``longest_side`` where that is smaller."""
    longest = max(video.width, video.height)
    if longest_side is None or longest <= longest_side:
        return video.width, video.height
    scale = longest_side / longest
    return max(1, round(video.width * scale)), max(1, round(video.height * scale))


def thinning_rate(video: Video, max_fps: float) -> float:
    """Bins a second of which one frame each is kept; 0 keeps every frame.

    A source of more than ``max_fps`` (5 % slack) is thinned to an integer fraction of its mean rate, so that a
    constant rate stays constant (50 -> 25, 59.94 -> 29.97). A variable rate with a low mean is kept whole but for
    bursts of over twice ``max_fps``.
    """
    if video.mean_fps > max_fps * _SLACK:
        return video.mean_fps / math.ceil(video.mean_fps / (max_fps * _SLACK))
    return 2.0 * max_fps if video.variable_rate else 0.0


@contextmanager
def read_frames(
    path: str,
    video: Video,
    *,
    start_s: float,
    end_s: float,
    longest_side: int | None = None,
    max_fps: float = 30.0,
    options: DecodeOptions | None = None,
) -> Iterator[FrameReader]:
    """Opens a read of every frame with ``start_s <= time < end_s``, thinned to about ``max_fps`` a second.

    Which frames are kept depends on their times alone: neighbouring reads give what one long read gives.

    Args:
        path: a local file; ``video`` are its facts from :func:`duologue.transforms.probe.probe`.
        start_s, end_s: seconds on the video clock.
        longest_side: frames are shrunk in the decoder to this many pixels (None: full size).

    Raises:
        BadInput: while iterating: ``decode_timeout``, ``decode_failed``, ``too_large`` or ``unreadable``.
        UsageError: an empty span.
    """
    options = options or DecodeOptions()
    if not (math.isfinite(start_s) and math.isfinite(end_s) and start_s < end_s and max_fps > 0):
        raise UsageError(f"cannot read frames of [{start_s}, {end_s}) at {max_fps} a second")
    width, height = output_size(video, longest_side)
    slots = ring_slots(options.slots, 3 * width * height)
    request: dict[str, object] = {
        "path": path,
        "backend": options.backend,
        "fast": options.fast,
        "slots": slots,
        "freed_at_once": freed_at_once(slots),
        "memory_mb": options.memory_mb,
        "max_frames": options.max_frames,
        "max_pixels": options.max_pixels,
        "width": width,
        "height": height,
        "rotation": video.rotation,
        "zero_s": video.clock_zero_s,
        "first_s": video.video_offset_s,
        "start_s": start_s,
        "end_s": end_s,
        "thin_rate": thinning_rate(video, max_fps),
    }
    child = decode_process.acquire()
    try:
        reader = FrameReader(child, request, options)
        try:
            yield reader
        finally:
            reader.close()
    finally:
        decode_process.release(child)
