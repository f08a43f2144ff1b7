"""The file: H.264 and AAC in mp4, on one clock."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from .scenario import Scenario
from .voices import SAMPLE_RATE

UInt8 = npt.NDArray[np.uint8]
AUDIO_RATE = 48000  # of the file; speech is made at 16 kHz


def _set_rotation(path: Path, clockwise: int) -> None:
    """Write a display matrix into the video track's header (ISO/IEC 14496-12, tkhd), as phones do."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd")
    if at < 0 or data[at + 4] != 0:
        raise RuntimeError(f"{path}: no version-0 track header to turn")
    one = 1 << 16
    c, s = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    for k, value in enumerate((c * one, s * one, 0, -s * one, c * one, 0, 0, 0, 1 << 30)):
        begin = at + 44 + 4 * k
        data[begin : begin + 4] = (value & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(bytes(data))


class Writer:
    """Muxes frames and sound; time zero is the first frame and the first sample."""

    def __init__(self, path: Path, scenario: Scenario) -> None:
        self._out = av.open(str(path), "w", format="mp4")
        rate = Fraction(scenario.fps).limit_denominator(1001)
        self._video = self._out.add_stream("libx264", rate=rate)
        size = (scenario.width, scenario.height) if scenario.rotate % 180 == 0 else (scenario.height, scenario.width)
        self._video.width, self._video.height = size
        self._video.pix_fmt = "yuv420p"
        self._path, self._rotate = path, scenario.rotate
        self._video.codec_context.thread_count = 1  # more threads change the bytes
        self._video.options = {"crf": str(scenario.crf), "preset": "superfast", "threads": "1"}
        self._video.codec_context.time_base = 1 / rate
        self._audio = self._out.add_stream("aac", rate=AUDIO_RATE, layout="mono") if scenario.audio else None
        if self._audio is not None:
            self._audio.bit_rate = 96000
        self._rate = float(rate)

    def frame(self, image: UInt8, time_s: float) -> None:
        if self._rotate:  # stored turned back, so that a player that obeys shows it upright
            image = np.ascontiguousarray(np.rot90(image, self._rotate // 90))
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        picture.pts = round(time_s * self._rate)
        self._out.mux(self._video.encode(picture))

    def sound(self, samples16: npt.NDArray[np.float32]) -> None:
        if self._audio is None:
            return
        wave = resample_poly(samples16.astype(np.float64), AUDIO_RATE // SAMPLE_RATE, 1).astype(np.float32)
        wave = np.clip(wave, -1.0, 1.0)
        for start in range(0, len(wave), 1024):
            block = wave[start : start + 1024]
            packet = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="fltp", layout="mono")
            packet.sample_rate, packet.pts, packet.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
            self._out.mux(self._audio.encode(packet))
        self._out.mux(self._audio.encode(None))

    def close(self) -> None:
        self._out.mux(self._video.encode(None))
        self._out.close()
        if self._rotate:
            _set_rotation(self._path, self._rotate)
