"""Frames by decord, as RGB that equals PyAV's: it too ends in libswscale (bilinear, one thread)."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.errors import BadInput
from .decode_source import Picture, SourceRequest, UInt8
from .demux import Tick, keep_only, open_media, seconds, video_stream

_CONTAINERS = {"mov", "matroska"}


class DecordSource:
    """Decodes with decord, frame by frame (its batches cost gigabytes at 1080p).

    decord counts from its own zero and has given wrong frames on broken indices; so the times are those of the
    packets, matched one to one with decord's own list, and a mismatch is an error. Refused are files whose edit list
    hides frames (its indices are then shifted by their number) and containers without a frame index (from a
    transport stream it returned other frames than asked for).
    """

    def __init__(self, request: SourceRequest) -> None:
        self.request = request
        self.damage = ""

    def frames(self, tick: Tick) -> Generator[tuple[float, Picture], None, None]:
        request = self.request
        container, times, header_start_s = self._packet_times(tick)
        if not set(container.split(",")) & _CONTAINERS:
            raise BadInput("decode_failed", f"the decord decoder is not trusted with {container} files; use pyav")
        import decord  # only this backend needs it

        try:
            reader = decord.VideoReader(
                request.path, ctx=decord.cpu(0), width=request.width, height=request.height, num_threads=1
            )
            own = np.asarray(reader.get_frame_timestamp(list(range(len(reader)))))[:, 0].astype(np.float64)
        except (decord.DECORDError, RuntimeError) as error:
            raise BadInput("decode_failed", f"decord cannot open it: {str(error).splitlines()[0]}") from error
        same = len(own) == len(times) and np.all(np.abs(own + header_start_s - times) < 1e-3 + 1e-6 * np.abs(times))
        if not same:
            raise BadInput(
                "decode_failed", f"decord lists {len(own)} frames, the file holds {len(times)}, or at other times"
            )
        for index, container_s in enumerate(times):
            time_s = float(container_s) - request.zero_s
            if time_s < max(request.start_s, request.first_s) - 1e-6:
                continue
            tick()
            yield time_s, self._picture(reader, index)

    def _packet_times(self, tick: Tick) -> tuple[str, npt.NDArray[np.float64], float]:
        with open_media(self.request.path) as container:
            stream = video_stream(container)
            keep_only(container, stream)
            base = Fraction(stream.time_base)
            ticks = []
            for packet in container.demux(stream):
                tick()
                if packet.is_discard:
                    raise BadInput("decode_failed", "the decord decoder does not follow edit lists; use pyav")
                when = packet.pts if packet.pts is not None else packet.dts
                if packet.size and when is not None:
                    ticks.append(when)
            start_s = seconds(stream.start_time or 0, base)
            name = str(container.format.name)
        return name, np.array([seconds(t, base) for t in sorted(ticks)], np.float64), start_s

    @staticmethod
    def _picture(reader: Any, index: int) -> Picture:
        def read() -> UInt8:
            try:
                rgb: UInt8 = reader[index].asnumpy()
            except RuntimeError as error:
                raise BadInput("decode_failed", f"decord, frame {index}: {str(error).splitlines()[0]}") from error
            return rgb

        return read
