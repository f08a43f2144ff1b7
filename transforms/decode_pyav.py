"""Frames by PyAV, the default: their planes as they are where that is possible, else RGB by libswscale."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np
from av.video.reformatter import VideoReformatter

from .decode_source import TURNS, Picture, SourceRequest, UInt8
from .demux import DEMUX_ERRORS, Tick, keep_only, open_media, seconds, video_stream
from .planar import FORMATS, Colour, Planes, plane_views, rgb_view

_SEEK_STEPS_S = (0.0, 2.0, 10.0, 60.0)  # how much earlier to try when a seek lands too late
_END_SLACK_S = 0.5


class PyAVSource:
    """Demuxes and decodes with PyAV, one thread.

    Frames that the decoder flags as corrupt, and those predicted from a packet that failed, are not delivered;
    delivery resumes at the next key frame.
    """

    def __init__(self, request: SourceRequest) -> None:
        self.request = request
        self.damage = ""
        self._turn = _Turn(request.rotation)
        self._reformatter = VideoReformatter()
        self._shrinker = VideoReformatter() if request.fast else None

    def frames(self, tick: Tick) -> Generator[tuple[float, Picture], None, None]:
        with open_media(self.request.path) as container:
            stream = video_stream(container)
            keep_only(container, stream)
            options = {"max_pixels": str(self.request.max_pixels)}
            if self.request.fast:
                options["skip_loop_filter"] = "all"
            stream.codec_context.options = options
            yield from self._decode(container, stream, self._packets(container, stream), tick)

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """Packets from the key frame at or before the start; re-seeks where an index lands too late."""
        request = self.request
        base = Fraction(stream.time_base)
        for back_s in _SEEK_STEPS_S:
            target_s = request.start_s - back_s
            if target_s <= request.first_s + 0.5:
                break
            want = int((target_s + request.zero_s) / base)
            try:
                container.seek(want, stream=stream, backward=True)
                packets = container.demux(stream)
                head = next(packets)
            except (av.FFmpegError, StopIteration):
                continue
            when = head.pts if head.pts is not None else head.dts
            if head.is_keyframe and when is not None and seconds(when, base) - request.zero_s <= request.start_s:
                yield head
                yield from packets
                return
        if request.start_s > request.first_s + 0.5:
            container.seek(-(2**62), stream=stream, backward=True)
        yield from container.demux(stream)

    def _decode(
        self, container: Any, stream: Any, packets: Iterator[Any], tick: Tick
    ) -> Iterator[tuple[float, Picture]]:
        base = Fraction(stream.time_base)
        broken = flushed = False
        last_s = -np.inf
        while not flushed:
            try:
                packet = next(packets, None)
                tick()
                if packet is not None and packet.is_corrupt and packet.size:
                    broken = True
                    self._note(f"damaged packet after {max(last_s, 0):.3f} s")
                    continue
                flushed = packet is None or packet.size == 0
                decoded = stream.codec_context.decode(packet)
            except DEMUX_ERRORS as error:
                broken = True
                self._note(f"{type(error).__name__} after {max(last_s, 0):.3f} s")
                continue
            for frame in decoded:
                when = frame.pts if frame.pts is not None else frame.dts
                if when is None:
                    continue
                time_s = seconds(when, base) - self.request.zero_s
                broken = (broken or frame.is_corrupt) and not (frame.key_frame and not frame.is_corrupt)
                if broken:
                    if time_s >= self.request.start_s:
                        self._note(f"frames damaged from {time_s:.3f} s")
                    continue
                last_s = time_s
                yield time_s, self._picture(frame)
        self._check_end(container, stream, last_s)

    def _check_end(self, container: Any, stream: Any, last_s: float) -> None:
        """Notes a file that ends well before its header says (a truncated copy, a lying header)."""
        promised = _promised_end(container, stream)
        if promised is None or not np.isfinite(last_s):
            return
        promised -= self.request.zero_s
        if promised - last_s > _END_SLACK_S + 2.0 / float(stream.average_rate or 10):
            self._note(f"ends at {last_s:.3f} s, its header promises {promised:.3f} s")

    def _note(self, text: str) -> None:
        self.damage = self.damage or text

    def _picture(self, frame: Any) -> Picture:
        return lambda: self._pixels(self._turn(frame))

    def _pixels(self, frame: Any) -> UInt8 | Planes:
        width, height = self.request.width, self.request.height
        interpolation = "BILINEAR"
        if self._shrinker is not None and (width < frame.width or height < frame.height):
            interpolation = "AREA"
            if frame.format.name == "yuv420p":
                # Planes first: swscale has fast code for scaling alone and for converting alone, not for both at once.
                frame = self._shrinker.reformat(
                    frame, width=width, height=height, format="yuv420p", interpolation=interpolation, threads=1
                )
        form = frame.format.name
        if (frame.width, frame.height) == (width, height) and form in FORMATS and not (width % 2 or height % 2):
            one, two, three = plane_views(frame)
            return Planes((one, two, three), Colour(form, int(frame.colorspace), int(frame.color_range)))
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=interpolation, threads=1
        )
        return rgb_view(rgb)


class _Turn:
    """Turns stored pictures upright on their own planes, many times cheaper than turning RGB."""

    def __init__(self, rotation: int) -> None:
        self._filters = TURNS[rotation]
        self._graph: Any = None
        self._format: tuple[int, int, str] | None = None

    def __call__(self, frame: Any) -> Any:
        if not self._filters:
            return frame
        form = (frame.width, frame.height, frame.format.name)
        if form != self._format:
            self._graph, self._format = self._build(*form), form
        self._graph.push(frame)
        return self._graph.pull()

    def _build(self, width: int, height: int, pixel_format: str) -> Any:
        graph = av.filter.Graph()
        graph.threads = 1
        last = graph.add_buffer(width=width, height=height, format=pixel_format, time_base=Fraction(1, 1000))
        for name, *values in self._filters:
            step = graph.add(name, *values)
            last.link_to(step)
            last = step
        last.link_to(graph.add("buffersink"))
        graph.configure()
        return graph


def _promised_end(container: Any, stream: Any) -> float | None:
    """End of the video stream in container time by its header; None where that does not speak of this stream."""
    if stream.duration and stream.start_time is not None:
        return seconds(stream.start_time + stream.duration, Fraction(stream.time_base))
    if len(container.streams) == 1 and container.duration:
        return float((container.start_time or 0) + container.duration) / 1e6
    hours, _, rest = str(stream.metadata.get("DURATION", "")).partition(":")  # Matroska's per-track tag
    minutes, _, secs = rest.partition(":")
    try:
        return int(hours) * 3600 + int(minutes) * 60 + float(secs)
    except ValueError:
        return None
