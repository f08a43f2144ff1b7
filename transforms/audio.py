"""Sound of a video on the video clock: 16 kHz mono float32, decoded in the killable child."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.errors import BadInput, UsageError
from ..schemas.records import Video
from . import decode_process
from .decode_process import DONE, NEXT

Float32 = npt.NDArray[np.float32]
SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class AudioOptions:
    """Limits on the process that decodes.

    Attributes:
        max_window_s: the longest sound held in memory at once, in seconds (3600 s are 230 MB).
        progress_timeout_s: the child is killed after so long without progress, in seconds.
        memory_mb: address space of the child, in MiB; 350 of it are taken before the first file.
    """

    max_window_s: float = 3600.0
    progress_timeout_s: float = 60.0
    memory_mb: int = 4096


def read_audio(path: str, video: Video, start_s: float, end_s: float, options: AudioOptions | None = None) -> Float32:
    """Sound of [start_s, end_s) on the video clock.

    Channels are averaged; gaps between time stamps and everything outside the stream are zeros; damaged packets are
    silent.

    Returns:
        [round((end_s - start_s) * 16000)] float32, full scale 1; sample 0 stands at ``start_s`` (to half a sample).

    Raises:
        BadInput: ``no_audio``, ``unreadable``, ``decode_timeout`` or ``decode_failed``.
        UsageError: an empty span, or one longer than ``max_window_s``.
    """
    samples = round((end_s - start_s) * SAMPLE_RATE) if math.isfinite(end_s - start_s) else 0
    if samples < 1:
        raise UsageError(f"cannot read sound of [{start_s}, {end_s})")
    parts = list(_stream(path, video, start_s, end_s, samples, options or AudioOptions()))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _stream(
    path: str, video: Video, start_s: float, end_s: float, window: int, options: AudioOptions
) -> Iterator[Float32]:
    if window > options.max_window_s * SAMPLE_RATE:
        raise UsageError(f"{window / SAMPLE_RATE:g} s of sound at once is over the limit of {options.max_window_s:g} s")
    if not video.has_audio:
        raise BadInput("no_audio", "the file has no audio stream")
    child = decode_process.acquire()
    try:
        answers = child.request(
            "audio",
            options.progress_timeout_s,
            path=path,
            memory_mb=options.memory_mb,
            zero_s=video.clock_zero_s,
            start_s=start_s,
            end_s=end_s,
            window=window,
        )
        for kind, payload in answers:
            if kind == DONE:
                return
            yield np.frombuffer(bytearray(payload), np.float32)
            child.send(NEXT)
    finally:
        child.stop()
        decode_process.release(child)
