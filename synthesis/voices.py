"""Speech from espeak-ng with the exact time of every phoneme (its own synthesis events, to the sample)."""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError

SAMPLE_RATE = 16000
_ESPEAK_RATE = 22050
_LIBRARIES = ("libespeak-ng.so.1", "libespeak-ng.dylib", "libespeak-ng.dll")


@dataclass(frozen=True)
class Phoneme:
    """One sound: espeak's mnemonic ("" in a pause), seconds from the utterance's start."""

    symbol: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Utterance:
    """Speech of one text, trimmed to its first and last sound.

    Attributes:
        samples: [N] float32 in -1..1 at 16 kHz. phonemes: in time order, covering 0..duration_s.
    """

    text: str
    samples: npt.NDArray[np.float32]
    phonemes: tuple[Phoneme, ...]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True)
class Voice:
    """An espeak-ng voice. ``name`` as in ``espeak-ng -v``; rate in words a minute; pitch 0..99."""

    name: str
    rate: int = 165
    pitch: int = 50


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_EVENT_END, _EVENT_PHONEME = 0, 7


def _library() -> ctypes.CDLL:
    found = ctypes.util.find_library("espeak-ng")
    for name in (*((found,) if found else ()), *_LIBRARIES):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise UsageError(
        "speech synthesis needs espeak-ng: apt-get install espeak-ng (Debian/Ubuntu), brew install espeak-ng"
    )


def _synthesize_here(jobs: list[tuple[str, str, int, int]]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Run espeak in this process. Its state leaks from one text into the next, hence the child of :func:`speak`."""
    library = _library()
    synchronous, phoneme_events = 2, 1
    if library.espeak_Initialize(synchronous, 0, None, phoneme_events | 0x8000) != _ESPEAK_RATE:
        raise UsageError("espeak-ng could not start at 22050 Hz: is the Debian package espeak-ng-data installed?")
    samples: list[bytes] = []
    marks: list[tuple[str, int]] = []

    def collect(wav: object, count: int, events: object) -> int:
        if wav and count > 0:
            samples.append(ctypes.string_at(wav, 2 * count))  # type: ignore[arg-type]
        index = 0
        while events[index].type != _EVENT_END:  # type: ignore[index]
            event = events[index]  # type: ignore[index]
            if event.type == _EVENT_PHONEME:
                marks.append((event.id.string.decode("utf-8", "replace"), event.sample))
            index += 1
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))(
        collect
    )
    library.espeak_SetSynthCallback(callback)
    done = []
    for text, voice, rate, pitch in jobs:
        samples.clear()
        marks.clear()
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UsageError(f"espeak-ng has no voice named {voice!r}: see espeak-ng --voices")
        library.espeak_SetParameter(1, rate, 0)
        library.espeak_SetParameter(3, pitch, 0)
        data = text.encode("utf-8") + b"\0"
        library.espeak_Synth(data, len(data), 0, 1, 0, 1, None, None)
        library.espeak_Synchronize()
        done.append((base64.b64encode(b"".join(samples)).decode("ascii"), list(marks)))
    return done


_CHILD = """import json, sys
from duologue.synthesis import voices
try:
    result = {"ok": voices._synthesize_here([tuple(job) for job in json.load(sys.stdin)])}
except voices.UsageError as error:
    result = {"error": str(error)}
json.dump(result, sys.stdout)
"""


def _trim(text: str, raw: npt.NDArray[np.int16], marks: list[tuple[str, int]]) -> Utterance:
    if not len(raw) or not marks:
        raise UsageError(f"espeak-ng spoke nothing for {text!r}")
    from scipy.signal import resample_poly  # here, so that the child starts fast

    wave = raw.astype(np.float64) / 32768.0
    wave16 = resample_poly(wave, 320, 441)  # 22050 -> 16000 Hz exactly, zero phase
    ends = [*(start for _, start in marks[1:]), len(wave)]
    sounds = [
        Phoneme("" if symbol.startswith("_") else symbol, start / _ESPEAK_RATE, end / _ESPEAK_RATE)
        for (symbol, start), end in zip(marks, ends, strict=True)
        if end > start
    ]
    voiced = [p for p in sounds if p.symbol]
    if not voiced:
        raise UsageError(f"espeak-ng spoke nothing for {text!r}")
    first = round(voiced[0].start_s * SAMPLE_RATE)
    last = min(round(voiced[-1].end_s * SAMPLE_RATE), len(wave16))
    offset = first / SAMPLE_RATE
    kept = tuple(
        Phoneme(p.symbol, max(p.start_s - offset, 0.0), p.end_s - offset)
        for p in sounds
        if p.end_s > voiced[0].start_s and p.start_s < voiced[-1].end_s
    )
    samples = wave16[first:last].astype(np.float32)
    fade = min(80, len(samples) // 2)  # 5 ms: no click where the trimming cut a release
    samples[:fade] *= np.linspace(0.0, 1.0, fade, dtype=np.float32)
    samples[len(samples) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return Utterance(text, samples, kept)


def speak(lines: Sequence[tuple[str, Voice]]) -> list[Utterance]:
    """Speak every line with its voice; the last few requests are remembered.

    Args:
        lines: (text, voice) pairs.

    Returns:
        One utterance a line. The same list gives the same bytes: each call runs in a fresh child process.

    Raises:
        UsageError: espeak-ng or the voice is absent, or a text has no sound.
    """
    return list(_speak(tuple(lines)))


@lru_cache(maxsize=8)
def _speak(lines: tuple[tuple[str, Voice], ...]) -> tuple[Utterance, ...]:
    if not lines:
        return ()
    jobs = [(text, voice.name, voice.rate, voice.pitch) for text, voice in lines]
    patience_s = 120 + len(jobs)
    try:
        child = subprocess.run(
            [sys.executable, "-c", _CHILD], input=json.dumps(jobs), capture_output=True, text=True, timeout=patience_s,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageError(f"espeak-ng did not speak {len(jobs)} lines in {patience_s} s") from None
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"espeak-ng failed (exit code {child.returncode}): {last}")
    result = json.loads(child.stdout)
    if "error" in result:
        raise UsageError(result["error"])
    return tuple(
        _trim(text, np.frombuffer(base64.b64decode(raw), dtype=np.int16), [(s, n) for s, n in marks])
        for (text, _), (raw, marks) in zip(lines, result["ok"], strict=True)
    )


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether espeak-ng's library can be loaded."""
    try:
        _library()
    except UsageError:
        return False
    return True
