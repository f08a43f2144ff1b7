"""Decodes sound onto the video clock: any rate and layout to 16 kHz mono. Runs in the decoder child only.

The grid is fixed: source sample ``i`` stands at ``i / rate`` seconds of the clock and output sample ``j`` at
``j / 16000``, and every read starts its resampler on a whole second, so a window and a whole read agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.resampler import AudioResampler

from ..schemas.errors import BadInput
from .demux import DEMUX_ERRORS, Tick, audio_stream, keep_only, open_media, seconds

Float32 = npt.NDArray[np.float32]
SAMPLE_RATE = 16_000

_PREROLL_S = 2  # decoder start-up (bit reservoir, overlap) and resampler history before the first wanted sample
_JITTER_S = 0.002  # time stamps may be rounded to milliseconds; more than this is a gap or an overlap
_SCALE = {"i1": 128.0, "i2": 32768.0, "i4": 2147483648.0, "i8": 9223372036854775808.0}


def mean_mono(frame: Any) -> Float32:
    """[n] float32 mean over the channels of a decoded frame, whatever its sample format, at full scale 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    kind = samples.dtype.str[1:]
    if kind == "u1":
        mono = (samples.astype(np.float32) - 128.0).mean(axis=0) / 128.0
    elif kind in _SCALE:
        mono = samples.mean(axis=0, dtype=np.float64) / _SCALE[kind]
    else:
        mono = samples.mean(axis=0)
    clean: Float32 = np.nan_to_num(mono.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return clean


class _Resampler:
    """Streams mono float32 from one rate to 16 kHz; output sample 0 stands at input sample 0.

    Codecs give frames of 20 ms, and a call costs more than resampling them: half a second goes in at once.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._swr = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE) if rate != SAMPLE_RATE else None
        self._fed = 0
        self._waiting: list[Float32] = []

    def feed(self, samples: Float32) -> Float32:
        if self._swr is None:
            return samples
        self._waiting.append(samples)
        if 2 * sum(part.size for part in self._waiting) < self.rate:
            return np.zeros(0, np.float32)
        return self._resample()

    def _resample(self) -> Float32:
        assert self._swr is not None
        samples = np.concatenate(self._waiting)
        self._waiting.clear()
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="flt", layout="mono")
        frame.sample_rate = self.rate
        frame.time_base = Fraction(1, self.rate)
        frame.pts = self._fed
        self._fed += samples.size
        return self._join(self._swr.resample(frame))

    def drain(self) -> Float32:
        if self._swr is None:
            return np.zeros(0, np.float32)
        rest = self._resample() if sum(part.size for part in self._waiting) else np.zeros(0, np.float32)
        return np.concatenate([rest, self._join(self._swr.resample(None))])

    @staticmethod
    def _join(frames: list[Any]) -> Float32:
        parts = [f.to_ndarray()[0] for f in frames]
        return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def _decoded(container: Any, stream: Any, tick: Tick) -> Iterator[Any]:
    """Decoded frames; damaged packets are skipped (their place on the clock stays silent)."""
    packets = iter(container.demux(stream))
    flushed = False
    while not flushed:
        try:
            packet = next(packets, None)
            tick()
            if packet is not None and packet.is_corrupt and packet.size:
                continue
            flushed = packet is None or packet.size == 0
            yield from stream.codec_context.decode(packet)
        except DEMUX_ERRORS:
            continue


def _mono_chunks(path: str, zero_s: float, begin_s: int, seek: bool, tick: Tick) -> Iterator[tuple[int, int, Float32]]:
    """Yields ``(rate, first source sample on the clock's grid, samples)`` in order, without overlaps."""
    with open_media(path) as container:
        stream = audio_stream(container)
        if stream is None:
            raise BadInput("no_audio", "the file has no audio stream")
        keep_only(container, stream)
        base = Fraction(stream.time_base)
        if seek:
            try:
                container.seek(int((begin_s + zero_s) / base), stream=stream, backward=True)
            except av.FFmpegError:
                container.seek(-(2**62), stream=stream, backward=True)
        rate = 0
        expected: int | None = None
        for frame in _decoded(container, stream, tick):
            if frame.pts is None and expected is None:
                continue
            if rate != frame.sample_rate:
                if rate and expected is not None:
                    expected = round(expected * frame.sample_rate / rate)
                rate = frame.sample_rate
            samples = mean_mono(frame)
            first = expected
            if frame.pts is not None:
                stamped = round((seconds(frame.pts, Fraction(frame.time_base)) - zero_s) * rate)
                jitter = max(_JITTER_S, 1.01 * float(base)) * rate
                first = stamped if expected is None or abs(stamped - expected) > jitter else expected
            if first is None:
                continue
            if expected is not None and first < expected:
                samples = samples[expected - first :]
                first = expected
            expected = first + samples.size
            if samples.size:
                yield rate, first, samples


def mono_16k(path: str, zero_s: float, start_s: float, end_s: float, tick: Tick) -> Iterator[Float32]:
    """Sound of [start_s, end_s) on the video clock as consecutive pieces of 16 kHz mono.

    The pieces join to exactly ``round((end_s - start_s) * 16000)`` samples; silence (zeros) where the stream has
    none. Memory is bounded by one decoded frame, or one second of silence.
    """
    wanted = round((end_s - start_s) * SAMPLE_RATE)
    begin_s = int(np.floor(start_s)) - _PREROLL_S
    skip = round((start_s - begin_s) * SAMPLE_RATE)
    given = 0
    for piece in _resampled(path, zero_s, begin_s, end_s, tick):
        if skip >= piece.size:
            skip -= piece.size
            continue
        out = piece[skip : skip + wanted - given]
        skip = 0
        given += out.size
        yield out
        if given >= wanted:
            return
    while given < wanted:
        out = np.zeros(min(SAMPLE_RATE, wanted - given), np.float32)
        given += out.size
        yield out


def _resampled(path: str, zero_s: float, begin_s: int, end_s: float, tick: Tick) -> Iterator[Float32]:
    """16 kHz pieces from ``begin_s`` on without holes; ends with the stream or a little after ``end_s``."""
    resampler: _Resampler | None = None
    at = 0  # next source sample to feed
    for rate, first, samples in _mono_chunks(path, zero_s, begin_s, begin_s > 0, tick):
        if resampler is None or resampler.rate != rate:
            if resampler is not None:
                yield resampler.drain()
                at = round(at * rate / resampler.rate)
            else:
                at = begin_s * rate
            resampler = _Resampler(rate)
        if first < at:
            samples = samples[at - first :]
            first = at
        stop = int(np.ceil((end_s + 1.0) * rate))
        while at < min(first, stop):
            hole = min(rate, min(first, stop) - at)
            at += hole
            yield resampler.feed(np.zeros(hole, np.float32))
        if at >= stop:
            break
        if samples.size:
            at += samples.size
            yield resampler.feed(samples)
    if resampler is not None:
        yield resampler.drain()
