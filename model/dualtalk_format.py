"""DualTalk's file format: two files a person and clip, ``<clip>_speaker{1,2}.npz`` and ``.wav``.

The npz is DECA's code dictionary at 25 fps: ``exp`` [T, 50] FLAME expression, ``pose`` [T, 6] axis-angle of the head
(``[:, :3]``) and the jaw (``[:, 3:]``), ``shape`` [T, 100] and drawing parameters. The wav is that person's separated
voice: mono, 16 kHz, 32-bit float. A *motion* here is what models of this board predict: [T, 56] = expression 50, jaw 3,
head 3, in this order (not the order of ``pose``). Predictions are ``<clip>_speaker{1,2}.npy`` of motions, or npz files.
There is no position, no gaze and no camera in metres: this format cannot train or score where people are or look.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..schemas.errors import UsageError
from ..schemas.tracks import Float32
from .npz import npz_bytes, read_arrays

FPS = 25
SAMPLE_RATE = 16_000
N_EXPRESSION, N_SHAPE = 50, 100
GROUPS: dict[str, slice] = {"exp": slice(0, 50), "jaw": slice(50, 53), "pose": slice(53, 56)}
MOTION_DIM = 56
TOLERANCE_FRAMES = 1  # sound, and the two sides, may differ by this much: the published files do
_NAME = re.compile(r"(?P<clip>.+)_speaker(?P<speaker>[12])")


@dataclass(frozen=True)
class Side:
    """One person of a clip.

    Attributes:
        motion: [T, 56] expression, jaw, head at 25 fps; None where the set has no npz of this side.
        audio: [N] 16 kHz, -1..1; None where the set has no wav.
        shape: [100] identity coefficients (of the first frame, as the board's renderer takes them); zeros if unknown.
    """

    motion: Float32 | None
    audio: Float32 | None
    shape: Float32 = field(default_factory=lambda: np.zeros(N_SHAPE, np.float32))


@dataclass(frozen=True)
class Clip:
    """Two people; ``sides[0]`` is speaker1. Arrays of both are cut to the same length."""

    name: str
    sides: tuple[Side, Side]

    @property
    def frames(self) -> int:
        """Frames of every motion in the clip (of the sound, where there is no motion)."""
        motions = [side.motion for side in self.sides if side.motion is not None]
        if motions:
            return len(motions[0])
        return max(len(side.audio) * FPS // SAMPLE_RATE for side in self.sides if side.audio is not None)


def split_name(stem: str) -> tuple[str, int] | None:
    """("abc_000", 2) of ``abc_000_speaker2``; None for another name."""
    found = _NAME.fullmatch(stem)
    return (found["clip"], int(found["speaker"])) if found else None


def file_stem(clip: str, speaker: int) -> str:
    """``<clip>_speaker1`` or ``2``."""
    if speaker not in (1, 2):
        raise ValueError(f"speaker {speaker}")
    return f"{clip}_speaker{speaker}"


def clip_names(folder: str | Path) -> list[str]:
    """Every clip of which the folder has any file, sorted.

    Raises:
        UsageError: no such folder, or nothing in it is named as the format asks.
    """
    root = _folder(folder)
    names = {found[0] for path in root.iterdir() if path.suffix in (".npz", ".wav", ".npy")
             if (found := split_name(path.stem))}  # fmt: skip
    if not names:
        raise UsageError(f"{folder} holds no <clip>_speaker1/2.npz, .npy or .wav")
    return sorted(names)


def _folder(folder: str | Path) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{folder} is not a folder")
    return root


def read_clip(folder: str | Path, name: str) -> Clip:
    """Both sides of a clip, as far as the folder has them.

    Lengths of motions and sounds may differ by one frame from each other; what is longer is cut.

    Raises:
        UsageError: nothing of this clip, an unreadable file, or lengths that differ by more.
    """
    root = _folder(folder)
    motions, shapes, audios = [], [], []
    for speaker in (1, 2):
        stem = root / file_stem(name, speaker)
        npz, wav = Path(f"{stem}.npz"), Path(f"{stem}.wav")
        motion, shape = read_npz(npz) if npz.exists() else (None, np.zeros(N_SHAPE, np.float32))
        motions.append(motion)
        shapes.append(shape)
        audios.append(read_wav(wav) if wav.exists() else None)
    lengths = [len(motion) for motion in motions if motion is not None]
    heard = [-(-len(audio) * FPS // SAMPLE_RATE) for audio in audios if audio is not None]
    if not lengths and not heard:
        raise UsageError(f"{folder} has neither npz nor wav of {name}")
    if max(lengths + heard) - min(lengths + heard) > TOLERANCE_FRAMES:
        raise UsageError(f"{name}: motions of {lengths} frames and sounds of {heard}, more than one frame apart")
    if lengths:
        frames = min(lengths)
        motions = [None if motion is None else motion[:frames] for motion in motions]
        samples = frames * SAMPLE_RATE // FPS
        audios = [None if audio is None else audio[:samples] for audio in audios]
    one, two = (Side(*parts) for parts in zip(motions, audios, shapes, strict=True))
    return Clip(name, (one, two))


def write_clip(folder: str | Path, clip: Clip) -> list[Path]:
    """Write what the clip has of each side; returns the files. The same clip gives the same bytes."""
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    written = []
    for speaker, side in enumerate(clip.sides, start=1):
        stem = root / file_stem(clip.name, speaker)
        if side.motion is not None:
            written.append(Path(f"{stem}.npz"))
            written[-1].write_bytes(motion_bytes(side.motion, side.shape))
        if side.audio is not None:
            written.append(Path(f"{stem}.wav"))
            written[-1].write_bytes(wav_bytes(side.audio))
    return written


def read_motion(path: str | Path) -> Float32:
    """[T, 56] of an ``.npz`` (exp, pose) or an ``.npy`` of motions; the stored precision is kept.

    Raises:
        UsageError: not such a file, or a value that is not finite.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return read_npz(path)[0]
    try:
        motion = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not an npy file: {_line(error)}") from error
    if not isinstance(motion, np.ndarray) or motion.ndim != 2 or motion.shape[1] != MOTION_DIM or len(motion) == 0:
        raise UsageError(
            f"{path} has shape {list(np.shape(motion))}, expected [T, {MOTION_DIM}]: exp 50, jaw 3, head 3"
        )
    return _finite(motion, path)


def read_npz(path: str | Path) -> tuple[Float32, Float32]:
    """Motion [T, 56] and first-frame shape [100] of a person's npz.

    Raises:
        UsageError: no readable npz, ``exp`` or ``pose`` missing or of another shape, or a value that is not finite.
    """
    path = Path(path)
    try:
        arrays = read_arrays(path, ("exp", "pose"), ("shape",))
    except ValueError as error:
        raise UsageError(f"{path} {error}") from error
    exp, pose = arrays["exp"], arrays["pose"]
    shape = arrays.get("shape", np.zeros((1, N_SHAPE), np.float32))
    good = exp.ndim == 2 and exp.shape[1] == N_EXPRESSION and pose.shape == (len(exp), 6) and len(exp) > 0
    if not good:
        raise UsageError(f"{path}: exp {list(exp.shape)} and pose {list(pose.shape)}, expected [T, 50] and [T, 6]")
    motion = np.concatenate([exp, pose[:, 3:], pose[:, :3]], axis=1)
    first = np.zeros(N_SHAPE, np.float32)
    if shape.ndim == 2 and len(shape):
        known = shape[0, :N_SHAPE]
        first[: len(known)] = known
    return _finite(motion, path), first


def motion_bytes(motion: Float32, shape: Float32) -> bytes:
    """A person's npz: exp [T, 50], pose [T, 6], shape [T, 100], float32; no time stamp in it."""
    if motion.ndim != 2 or motion.shape[1] != MOTION_DIM:
        raise ValueError(f"motion has shape {motion.shape}, expected [T, {MOTION_DIM}]")
    arrays = {
        "exp": motion[:, GROUPS["exp"]],
        "pose": np.concatenate([motion[:, GROUPS["pose"]], motion[:, GROUPS["jaw"]]], axis=1),
        "shape": np.broadcast_to(shape, (len(motion), N_SHAPE)),
    }
    return npz_bytes({name: array.astype(np.float32) for name, array in arrays.items()})


def read_wav(path: str | Path) -> Float32:
    """[N] samples of a mono 16 kHz wav: 32-bit float (format 3, which Python's ``wave`` refuses) or 16-bit PCM.

    Raises:
        UsageError: not such a file; the line says what it is.
    """
    path = Path(path)
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise UsageError(f"{path} is not a WAV file")
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.setdefault(name, data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    if len(chunks.get(b"fmt ", b"")) < 16 or b"data" not in chunks:
        raise UsageError(f"{path} has no fmt or data chunk")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunks[b"fmt "][:16])
    if kind == 0xFFFE and len(chunks[b"fmt "]) >= 26:  # extensible: the real format opens the sub-format id
        kind = int.from_bytes(chunks[b"fmt "][24:26], "little")
    if channels != 1 or rate != SAMPLE_RATE or (kind, bits) not in ((3, 32), (1, 16)):
        raise UsageError(
            f"{path} is {rate} Hz, {channels} channels, format {kind}, {bits} bits; expected 16000 Hz mono float32"
        )
    body = chunks[b"data"]
    body = body[: len(body) - len(body) % (bits // 8)]
    if kind == 3:
        samples = np.frombuffer(body, "<f4").astype(np.float32)
    else:
        samples = (np.frombuffer(body, "<i2") / np.float32(32768)).astype(np.float32)
    return _finite(samples, path)


def wav_bytes(samples: Float32) -> bytes:
    """A mono 16 kHz float32 WAV file (format 3, with its fact chunk) of [N] samples."""
    if samples.ndim != 1:
        raise ValueError(f"audio must be mono, [N]; got shape {samples.shape}")
    body = np.ascontiguousarray(samples, "<f4").tobytes()
    form = struct.pack("<HHIIHHH", 3, 1, SAMPLE_RATE, SAMPLE_RATE * 4, 4, 32, 0)
    fact = struct.pack("<I", len(samples))
    chunks = b"".join(
        name + struct.pack("<I", len(part)) + part for name, part in ((b"fmt ", form), (b"fact", fact), (b"data", body))
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _finite(values: np.ndarray, path: Path) -> Float32:
    if not np.issubdtype(values.dtype, np.floating):
        raise UsageError(f"{path} holds {values.dtype}, expected floating-point numbers")
    if not np.isfinite(values).all():
        raise UsageError(f"{path} holds NaN or infinity")
    return values


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
