"""Opens untrusted media and measures it from its packets. Runs in the decoder child only: imports av and numpy.

Container headers guess (``nb_frames``, ``duration``, ``start_time``); packets and first decoded frames do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.stream import Discard, Disposition

from ..schemas.errors import BadInput
from .focal_length import metadata_focal_px

PROTOCOLS = "file,pipe"
# Demuxers that read one self-contained file. Playlists (hls, dash, concat, sdp, image sequences) name other files.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,gif,asf,ogg,wav,w64,aiff,mp3,aac,"
    "flac,ac3,eac3,nut,mxf,h264,hevc,av1,obu,ivf,m4v,rm,dv,wtv,gxf,y4m,yuv4mpegpipe,swf,nsv,amr,caf,au"
)
FIRST_FRAME_PACKETS = 600  # a stream that gives no picture in so many packets is not decodable
# IndexError: PyAV meets a stream that appeared in mid-file
DEMUX_ERRORS = (av.FFmpegError, EOFError, IndexError)
MAX_PACKETS = 50_000_000
_ROTATE_TOLERANCE_DEG = 1.0

Tick = Callable[[], None]


def open_media(path: str) -> Any:
    """Opens a local file with every other protocol and every playlist format refused.

    Raises:
        BadInput: ``unreadable`` for anything that is not one of :data:`FORMATS`.
    """
    try:
        return av.open(
            f"file:{path}",
            container_options={"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS},
            metadata_errors="replace",
        )
    except (av.FFmpegError, ValueError, EOFError) as error:
        raise BadInput("unreadable", f"not a readable media file ({_short(error)})") from error


def video_stream(container: Any) -> Any:
    """The largest real video stream (cover pictures do not count); the first of equals. None without one."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return max(streams, key=lambda s: (_coded_pixels(s), -s.index), default=None)


def _coded_pixels(stream: Any) -> int:
    return int(stream.width * stream.height) if stream.codec_context is not None else 0


def audio_stream(container: Any) -> Any:
    """The decodable stream marked default, else the first; None without one."""
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    return max(streams, key=lambda s: (bool(s.disposition & Disposition.default), -s.index), default=None)


def keep_only(container: Any, stream: Any) -> None:
    """Tells the demuxer to skip the data of all other streams."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    if stream.codec_context is None:
        raise BadInput("decode_failed", f"no decoder knows the {stream.type} stream's format")
    stream.codec_context.thread_count = 1


def seconds(ticks: int, base: Fraction) -> float:
    return ticks * base.numerator / base.denominator


def display_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Size with square pixels: the width is stretched by the sample aspect ratio where that is not 1."""
    ratio = float(aspect) if aspect else 1.0
    if not math.isfinite(ratio) or not 0.1 < ratio < 10 or abs(ratio - 1) < 0.01:
        return width, height
    return max(2, round(width * ratio)), height


class _StreamClock:
    """First frame, last end and all presentation times of one stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.base = Fraction(stream.time_base)
        self.times: list[int] = []
        self.first_packet: int | None = None
        self.last_end: int | None = None
        self.last_duration = 0
        self.first_frame: Any = None
        self.packets = 0
        self.error = ""

    def add(self, packet: Any, keep_times: bool) -> None:
        self.packets += 1
        if self.first_frame is None and self.packets <= FIRST_FRAME_PACKETS:
            try:
                for frame in packet.decode():
                    self.first_frame = frame
                    break
            except (av.FFmpegError, ValueError) as error:
                self.error = self.error or _short(error)
        when = packet.pts if packet.pts is not None else packet.dts
        if when is None or packet.size == 0 or packet.is_discard or packet.is_corrupt:
            return
        end = when + (packet.duration or 0)
        self.first_packet = when if self.first_packet is None else min(self.first_packet, when)
        if self.last_end is None or end >= self.last_end:
            self.last_end, self.last_duration = end, packet.duration or 0
        if keep_times:
            self.times.append(when)

    def flush(self) -> None:
        if self.first_frame is None and 0 < self.packets <= FIRST_FRAME_PACKETS:
            try:
                self.first_frame = next(iter(self.stream.codec_context.decode(None)), None)
            except (av.FFmpegError, ValueError) as error:
                self.error = self.error or _short(error)

    def start_s(self) -> float | None:
        """Time of the first presented frame or sample: decoders drop edit-list lead-in and codec priming."""
        frame = self.first_frame
        if frame is not None and frame.pts is not None:
            return seconds(frame.pts, Fraction(frame.time_base))
        return None if self.first_packet is None else seconds(self.first_packet, self.base)

    def end_s(self, spare_s: float = 0.0) -> float | None:
        if self.last_end is None:
            return None
        return seconds(self.last_end, self.base) + (0.0 if self.last_duration else spare_s)


def measure(path: str, max_duration_s: float, max_pixels: int, tick: Tick) -> dict[str, Any]:
    """Facts of a file, from one pass over its packets.

    Args:
        max_duration_s: longer files are refused as soon as that is known.
        max_pixels: larger pictures are refused before anything is decoded.
        tick: called for each packet, so that the parent sees progress.

    Returns:
        JSON values for :class:`duologue.schemas.records.Video`; times on the video clock, ``clock_zero_s`` in
        container time.

    Raises:
        BadInput: ``unreadable``, ``no_video``, ``too_large`` or ``decode_failed``.
    """
    with open_media(path) as container:
        picture = video_stream(container)
        sound = audio_stream(container)
        if picture is None:
            raise BadInput("no_video", f"{container.format.name} file without a video stream")
        if picture.codec_context is None:
            raise BadInput("decode_failed", "no decoder knows the video stream's format")
        if _coded_pixels(picture) > max_pixels:
            raise BadInput("too_large", f"{picture.width}x{picture.height} is over {max_pixels} pixels")
        clocks = {
            s.index: _StreamClock(s)
            for s in container.streams
            if s.type in ("video", "audio")
            and s.codec_context is not None
            and not s.disposition & Disposition.attached_pic
        }
        for stream in container.streams:
            if stream.index in clocks:
                stream.codec_context.thread_count = 1
            else:
                stream.discard = Discard.all
        picture.codec_context.options = {"max_pixels": str(max_pixels)}
        damage = _read_packets(container, clocks, picture.index, max_duration_s, tick)
        return _facts(container, clocks, picture, sound, max_pixels, damage)


def _read_packets(
    container: Any, clocks: dict[int, _StreamClock], video_index: int, max_duration_s: float, tick: Tick
) -> str:
    video = clocks[video_index]
    packets = 0
    damage = ""
    try:
        for packet in container.demux([c.stream for c in clocks.values()]):
            packets += 1
            tick()
            clocks[packet.stream_index].add(packet, packet.stream_index == video_index)
            if video.first_packet is not None and video.last_end is not None:
                length_s = seconds(video.last_end - video.first_packet, video.base)
                if length_s > max_duration_s:
                    raise BadInput("too_large", f"longer than {max_duration_s:g} s")
            if packets > MAX_PACKETS:
                raise BadInput("too_large", f"more than {MAX_PACKETS} packets")
    except DEMUX_ERRORS as error:
        damage = _short(error)
    for clock in clocks.values():
        clock.flush()
    return damage


def _facts(
    container: Any, clocks: dict[int, _StreamClock], picture: Any, sound: Any, max_pixels: int, damage: str
) -> dict[str, Any]:
    video = clocks[picture.index]
    if not video.times:
        raise BadInput("unreadable", f"the video stream holds no packet {damage}")
    frame = video.first_frame
    if frame is None:
        raise BadInput("decode_failed", f"no {picture.codec_context.name} frame could be decoded {video.error}")
    if frame.width * frame.height > max_pixels:
        raise BadInput("too_large", f"{frame.width}x{frame.height} is over {max_pixels} pixels")
    starts = {i: s for i, c in clocks.items() if (s := c.start_s()) is not None}
    zero = min(starts.values())
    first = starts[picture.index]
    times = np.unique(np.asarray(video.times, np.int64)) * float(video.base)
    times = times[times >= first - 1e-6]
    gaps = np.diff(times)
    median = float(np.median(gaps)) if gaps.size else 0.0
    uneven = np.abs(gaps - median) > max(0.1 * median, 1.01 * float(video.base))
    ends = [e for c in clocks.values() if (e := c.end_s(median)) is not None]
    width, height = display_size(frame.width, frame.height, picture.sample_aspect_ratio)
    rotation = clockwise_rotation(frame)
    if rotation % 180:
        width, height = height, width
    if sound is not None and sound.index not in starts:
        sound = None  # a declared stream that never holds a packet is no sound
    return {
        "container": container.format.name,
        "video_codec": picture.codec_context.name,
        "audio_codec": sound.codec_context.name if sound is not None else "",
        "clock_zero_s": zero,
        "video_offset_s": first - zero,
        "audio_offset_s": starts[sound.index] - zero if sound is not None else None,
        "duration_s": max(ends) - zero,
        "width": width,
        "height": height,
        "rotation": rotation,
        "focal_px": metadata_focal_px({**container.metadata, **picture.metadata}, width, height),
        "mean_fps": gaps.size / float(times[-1] - times[0]) if gaps.size else 0.0,
        "variable_rate": bool(gaps.size and np.count_nonzero(uneven) > 0.01 * gaps.size),
    }


def clockwise_rotation(frame: Any) -> int:
    """Clockwise degrees (0, 90, 180, 270) that make a decoded frame upright, from its display matrix.

    Angles that are no multiple of 90 degrees are not applied (0); mirrored display matrices are not un-mirrored.
    """
    angle = -float(frame.rotation) % 360.0
    nearest = round(angle / 90.0) * 90
    return nearest % 360 if abs(angle - nearest) <= _ROTATE_TOLERANCE_DEG else 0


def _short(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{type(error).__name__}: {text}"[:200]
