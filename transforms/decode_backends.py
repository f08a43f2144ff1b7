"""The three ways to get frames out of a file: PyAV, decord, an ffmpeg pipe. Runs in the decoder child only.

Each is a source of ``(time, picture)`` in presentation order. A time is in seconds on the video clock; a picture is
a callable that converts to RGB only when the frame is wanted: thinned frames never pay for conversion. All three
end in libswscale with the same flags (bilinear, one thread), so that their frames are equal.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from ..schemas.errors import BadInput
from .demux import DEMUX_ERRORS, FORMATS, PROTOCOLS, Tick, keep_only, open_media, seconds, video_stream

UInt8 = npt.NDArray[np.uint8]
Picture = Callable[[], UInt8]
BACKENDS = ("pyav", "decord", "ffmpeg")

_SEEK_STEPS_S = (0.0, 2.0, 10.0, 60.0)  # how much earlier to try when a seek lands too late
_PIPE_MARGIN_S = 0.5
_PIPE_OFFSET_S = 64  # ffmpeg 5 drops a late transport stream's start from its time stamps unless they are offset
_END_SLACK_S = 0.5
_TURNS: dict[int, tuple[tuple[str, ...], ...]] = {  # clockwise degrees: filters of libavfilter
    0: (),
    90: (("transpose", "clock"),),
    180: (("hflip",), ("vflip",)),
    270: (("transpose", "cclock"),),
}
_DECORD_CONTAINERS = {"mov", "matroska"}


@dataclass(frozen=True)
class SourceRequest:
    """What a source decodes.

    Attributes:
        width, height: of the upright converted picture.
        rotation: clockwise degrees that make the stored picture upright.
        first_s: time of the first video frame; earlier frames (edit lists) are not presented.
        start_s: a source may skip frames before it, and must give all from it on.
        zero_s: container time of the video clock's zero.
        fast: skip the loop filter and average areas when shrinking (pyav only).
    """

    path: str
    width: int
    height: int
    rotation: int
    first_s: float
    start_s: float
    zero_s: float
    fast: bool
    max_pixels: int


class FrameSource(Protocol):
    """What every backend offers.

    Attributes:
        damage: once the frames have ended, what was broken; empty for a healthy file.
    """

    damage: str

    def frames(self, tick: Tick) -> Generator[tuple[float, Picture], None, None]: ...


def open_source(backend: str, request: SourceRequest) -> FrameSource:
    """Builds the named source; an unknown name is a programming error (options check it earlier)."""
    sources: dict[str, Callable[[SourceRequest], FrameSource]] = {
        "pyav": PyAVSource,
        "decord": DecordSource,
        "ffmpeg": PipeSource,
    }
    return sources[backend](request)


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
        return lambda: self._convert(self._turn(frame))

    def _convert(self, frame: Any) -> UInt8:
        width, height = self.request.width, self.request.height
        interpolation = "BILINEAR"
        if self._shrinker is not None and (width < frame.width or height < frame.height):
            interpolation = "AREA"
            if frame.format.name == "yuv420p":
                # Planes first: swscale has fast code for scaling alone and for converting alone, not for both at once.
                frame = self._shrinker.reformat(
                    frame, width=width, height=height, format="yuv420p", interpolation=interpolation, threads=1
                )
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=interpolation, threads=1
        )
        return _rgb_view(rgb)


class _Turn:
    """Turns stored pictures upright on their own planes, many times cheaper than turning RGB."""

    def __init__(self, rotation: int) -> None:
        self._filters = _TURNS[rotation]
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


def _rgb_view(frame: Any) -> UInt8:
    """[H, W, 3] view of an rgb24 frame's own memory; no copy."""
    plane = frame.planes[0]
    shape = (frame.height, frame.width, 3)
    view: UInt8 = np.ndarray(shape, np.uint8, buffer=plane, strides=(plane.line_size, 3, 1))
    return view


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
        if not set(container.split(",")) & _DECORD_CONTAINERS:
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


class PipeSource:
    """Decodes with the ffmpeg program; raw RGB with its times comes back through a pipe as NUT."""

    def __init__(self, request: SourceRequest) -> None:
        self.request = request
        self.damage = ""

    def frames(self, tick: Tick) -> Generator[tuple[float, Picture], None, None]:
        request = self.request
        with open_media(request.path) as container:  # the same format check for every backend
            index = video_stream(container).index
        read_fd, write_fd = os.pipe()
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(self._arguments(index), stdout=write_fd, stderr=errors)
            except FileNotFoundError as error:
                os.close(read_fd)
                raise BadInput("decode_failed", "the ffmpeg program is not installed") from error
            finally:
                os.close(write_fd)
            try:
                yield from self._packets(read_fd, tick)
                process.wait()
            finally:
                os.close(read_fd)
                process.kill()
                process.wait()
            errors.seek(0)
            text = errors.read(4096).decode(errors="replace").strip()
        self.damage = text.splitlines()[0][:200] if text else ""

    def _arguments(self, index: int) -> list[str]:
        import ffmpeg  # only this backend needs it

        request = self.request
        options: dict[str, Any] = {
            "protocol_whitelist": PROTOCOLS,
            "format_whitelist": FORMATS,
            "threads": 1,
            "noautorotate": None,
            "itsoffset": _PIPE_OFFSET_S,
        }
        start_s = request.start_s - _PIPE_MARGIN_S
        if start_s > request.first_s:
            options.update(noaccurate_seek=None, seek_timestamp=1, ss=f"{start_s + request.zero_s:.6f}")
        stream = ffmpeg.input(f"file:{request.path}", **options)[str(index)]
        for name, *values in _TURNS[request.rotation]:
            stream = stream.filter(name, *values)
        stream = stream.filter("scale", request.width, request.height, flags="bilinear").output(
            "pipe:1",
            format="nut",
            vcodec="rawvideo",
            pix_fmt="rgb24",
            vsync="passthrough",
            copyts=None,
            enc_time_base=-1,
            filter_threads=1,
            loglevel="error",
        )
        arguments: list[str] = ffmpeg.compile(stream, cmd=["ffmpeg", "-nostdin"])
        return arguments

    def _packets(self, read_fd: int, tick: Tick) -> Iterator[tuple[float, Picture]]:
        request = self.request
        shape = (request.height, request.width, 3)
        try:
            container = av.open(f"pipe:{read_fd}", format="nut", container_options={"protocol_whitelist": "pipe"})
        except (av.FFmpegError, EOFError) as error:
            raise BadInput("decode_failed", f"ffmpeg gave no frame ({type(error).__name__})") from error
        with container:
            base = Fraction(container.streams.video[0].time_base)
            for packet in container.demux(video=0):
                tick()
                if packet.pts is None or packet.size != shape[0] * shape[1] * 3:
                    continue
                ticks = packet.pts - round(_PIPE_OFFSET_S / base)
                yield seconds(ticks, base) - request.zero_s, self._picture(packet, shape)

    @staticmethod
    def _picture(packet: Any, shape: tuple[int, int, int]) -> Picture:
        return lambda: np.frombuffer(packet, np.uint8).reshape(shape)
