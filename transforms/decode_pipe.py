"""Frames by the ffmpeg program, as RGB that equals PyAV's: it too ends in libswscale (bilinear, one thread)."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from ..schemas.errors import BadInput
from .decode_source import TURNS, Picture, SourceRequest
from .demux import FORMATS, PROTOCOLS, Tick, open_media, seconds, video_stream

_MARGIN_S = 0.5
_OFFSET_S = 64  # ffmpeg 5 drops a late transport stream's start from its time stamps unless they are offset


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
            "itsoffset": _OFFSET_S,
        }
        start_s = request.start_s - _MARGIN_S
        if start_s > request.first_s:
            options.update(noaccurate_seek=None, seek_timestamp=1, ss=f"{start_s + request.zero_s:.6f}")
        stream = ffmpeg.input(f"file:{request.path}", **options)[str(index)]
        for name, *values in TURNS[request.rotation]:
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
                ticks = packet.pts - round(_OFFSET_S / base)
                yield seconds(ticks, base) - request.zero_s, self._picture(packet, shape)

    @staticmethod
    def _picture(packet: Any, shape: tuple[int, int, int]) -> Picture:
        return lambda: np.frombuffer(packet, np.uint8).reshape(shape)
