"""Small media files with known content, written at test time with PyAV.

The picture says what time it is: frame ``i`` carries ``i`` as eight black or white cells in its top row and is white
in the middle while the beep sounds; a red square marks the upper left corner of the upright image.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FLASH_S = 0.1
CELLS = 8


@dataclass
class Movie:
    """What to write.

    Attributes:
        times: presentation times of the frames in seconds; default is a constant rate.
        video_late_s, audio_late_s: shift of a whole stream.
        rotate: clockwise degrees a player must turn the stored picture by (a display matrix is written).
        flashes: times (stream-relative seconds) at which picture flashes and sound beeps for 0.1 s.
        aspect: width of a stored pixel over its height.
        first_channel_only: the beep is in the first channel, the others are silent.
        audio_gap: (from, to) seconds of the sound that are left out; later samples keep their time.
    """

    width: int = 160
    height: int = 96
    fps: float = 25.0
    seconds: float = 4.0
    times: Sequence[float] | None = None
    gop: int = 12
    b_frames: int = 2
    codec: str = "libx264"
    video: bool = True
    audio: bool = True
    audio_rate: int = 48000
    audio_layout: str = "stereo"
    audio_codec: str = "aac"
    tone_hz: float = 1000.0
    video_late_s: float = 0.0
    audio_late_s: float = 0.0
    rotate: int = 0
    flashes: Sequence[float] = (1.0, 2.6)
    aspect: float = 1.0
    first_channel_only: bool = False
    audio_gap: tuple[float, float] | None = None
    bt709: bool = False
    options: dict[str, str] = field(default_factory=dict)

    def frame_times(self) -> list[float]:
        if self.times is not None:
            return list(self.times)
        return [i / self.fps for i in range(round(self.seconds * self.fps))]


def upright_picture(index: int, flash: bool, width: int, height: int) -> np.ndarray:
    """[H, W, 3] uint8: a gradient with the frame's number, a corner mark and the flash."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([60 + 80 * x / width, 60 + 80 * y / height, np.full((height, width), 90.0)], -1)
    cell_w, cell_h = width // CELLS, height // 6
    for bit in range(CELLS):
        value = 235.0 if index >> bit & 1 else 20.0
        picture[height // 4 : height // 4 + cell_h, bit * cell_w : (bit + 1) * cell_w] = value
    picture[: height // 6, : width // 6] = (220, 30, 30)
    picture[height // 2 :, width // 4 : 3 * width // 4] = 245.0 if flash else 15.0
    return picture.round().astype(np.uint8)


def read_number(rgb: np.ndarray) -> int:
    """The frame number drawn by :func:`upright_picture` (modulo 256)."""
    height, width = rgb.shape[:2]
    y = height // 4 + height // 12
    return sum(
        1 << bit for bit in range(CELLS) if rgb[y - 2 : y + 2, int((bit + 0.5) * (width // CELLS)), :].mean() > 128
    )


def is_flash(rgb: np.ndarray) -> bool:
    height, width = rgb.shape[:2]
    return bool(rgb[int(0.6 * height) : int(0.9 * height), int(0.4 * width) : int(0.6 * width)].mean() > 128)


def beep_track(movie: Movie, rate: int) -> np.ndarray:
    """[n] float32: the tone during each flash, silence elsewhere."""
    t = np.arange(round(movie.seconds * rate)) / rate
    on = np.zeros(t.size, bool)
    for flash in movie.flashes:
        on |= (t >= flash) & (t < flash + FLASH_S)
    return (0.5 * np.sin(2 * np.pi * movie.tone_hz * t) * on).astype(np.float32)


def write_movie(path: Path, movie: Movie) -> Path:
    """Writes the movie; the container follows from the suffix."""
    base = Fraction(1, 90000 if movie.codec != "mpeg4" else round(movie.fps))
    packets: list[tuple[float, av.Packet]] = []
    with av.open(str(path), "w", options=movie.options) as out:
        if movie.video:
            stream = out.add_stream(movie.codec, rate=Fraction(movie.fps).limit_denominator(1001))
            turned = movie.rotate % 180 != 0
            stream.width, stream.height = (movie.height, movie.width) if turned else (movie.width, movie.height)
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = base
            stream.time_base = base
            stream.codec_context.gop_size = movie.gop
            stream.codec_context.max_b_frames = movie.b_frames
            stream.codec_context.thread_count = 1
            if movie.aspect != 1.0:
                stream.codec_context.sample_aspect_ratio = Fraction(movie.aspect).limit_denominator(100)
            if movie.codec == "libx264":
                stream.options = {"preset": "veryfast", "crf": "12", "bf": str(movie.b_frames), "g": str(movie.gop)}
            for index, time_s in enumerate(movie.frame_times()):
                flash = any(f - 1e-6 <= time_s < f + FLASH_S - 1e-6 for f in movie.flashes)
                picture = np.rot90(upright_picture(index, flash, movie.width, movie.height), movie.rotate // 90)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709" if movie.bt709 else None)
                if movie.bt709:
                    frame.colorspace = stream.codec_context.colorspace = 1
                frame.pts = round((time_s + movie.video_late_s) / base)
                frame.time_base = base
                packets += [(float(p.dts * p.time_base), p) for p in stream.encode(frame)]
            packets += [(float(p.dts * p.time_base), p) for p in stream.encode(None)]
        if movie.audio:
            packets += _audio_packets(out, movie)
        for _, packet in sorted(packets, key=lambda item: item[0]):
            out.mux(packet)
    if movie.rotate:
        _set_rotation(path, movie.rotate)
    return path


def _audio_packets(out: av.container.OutputContainer, movie: Movie) -> list[tuple[float, av.Packet]]:
    stream = out.add_stream(movie.audio_codec, rate=movie.audio_rate, layout=movie.audio_layout)
    rate = stream.codec_context.sample_rate
    context = stream.codec_context
    context.open()
    mono = beep_track(movie, rate)
    channels = len(context.layout.channels)
    size = context.frame_size or 1024
    packets: list[tuple[float, av.Packet]] = []
    kind = context.format.name.rstrip("p")
    for begin in range(0, mono.size - size + 1, size):
        if movie.audio_gap and movie.audio_gap[0] <= begin / rate < movie.audio_gap[1]:
            continue
        block = np.repeat(mono[None, begin : begin + size], channels, 0)
        if movie.first_channel_only:
            block[1:] = 0.0
        if kind != "flt":
            bits = {"s16": 15, "s32": 31}[kind]
            block = (block.astype(np.float64) * (2**bits - 1)).round().astype(f"int{bits + 1}")
        if not context.format.is_planar:
            block = block.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), context.format.name, movie.audio_layout)
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = begin + round(movie.audio_late_s * rate)
        packets += [(float(p.dts * p.time_base), p) for p in stream.encode(frame)]
    return packets + [(float(p.dts * p.time_base), p) for p in stream.encode(None)]


def _set_rotation(path: Path, clockwise: int) -> None:
    """Writes the display matrix into an mp4's video track header (tkhd), as phones do."""
    data = bytearray(path.read_bytes())
    one = 1 << 16
    c, s = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    matrix = [c * one, s * one, 0, -s * one, c * one, 0, 0, 0, 1 << 30]
    at = data.find(b"tkhd")
    if at < 0 or data[at + 4] != 0:
        raise ValueError("no version-0 track header to turn")
    begin = at + 4 + 40
    for i, value in enumerate(matrix):
        data[begin + 4 * i : begin + 4 * i + 4] = (value & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(bytes(data))


def write_cover_song(path: Path) -> Path:
    """Sound with a cover picture: an mp4 whose only video stream is an attached picture."""
    sound, cover = path.with_suffix(".m4a"), path.with_suffix(".png")
    write_movie(sound, Movie(video=False, seconds=1.0))
    picture = av.VideoFrame.from_ndarray(upright_picture(0, False, 64, 48), format="rgb24")
    picture.save(str(cover))
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(sound), "-i", str(cover), "-map", "0", "-map", "1"]
    command += ["-c", "copy", "-disposition:v:0", "attached_pic", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def truncate(path: Path, share: float, to: Path) -> Path:
    """The first ``share`` of a file's bytes."""
    data = path.read_bytes()
    to.write_bytes(data[: int(len(data) * share)])
    return to


def damage(path: Path, begin: float, end: float, to: Path) -> Path:
    """A copy with the bytes from ``begin`` to ``end`` (shares of its length) overwritten by fixed noise."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * begin), int(len(data) * end)
    data[first:last] = np.random.default_rng(0).integers(0, 256, last - first, np.uint8).tobytes()
    to.write_bytes(bytes(data))
    return to
