"""UniLS's files (arXiv 2512.09327): an LMDB of one record a person, and a JSON list of who talked to whom.

A record is an npz: ``motioncode`` [T, 112] at 25 fps (FLAME expression 100, and axis-angle of head 3, jaw 3 and the two
eye joints 3 + 3, in FLAME's order and axes), ``audio`` [N], that person's own voice at 16 kHz, and ``speech_mask`` [T].
The list says ``{split: {conversation: [path, path, frames]}}``, where a path's last part is a record's name, or of
records without partner ``{split: [[name, frames], ...]}``. There is no position, no camera, no gaze and no identity.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..schemas.errors import BadInput, UsageError
from ..schemas.selection import SPLITS
from ..schemas.tracks import Bool, Float32
from .npz import npz_bytes, read_arrays

FPS = 25
SAMPLE_RATE = 16_000
N_EXPRESSION = 100
CODE_DIM = 112
CODE: dict[str, slice] = {
    "expression": slice(0, 100), "rotation": slice(100, 103), "jaw": slice(103, 106), "eyes": slice(106, 112)
}  # fmt: skip
DATABASE, PAIRS = "data_lmdb", "seamless_interaction_pairs.json"
LARGEST = 100.0  # a sound of 16-bit integers, an angle in degrees or garbage goes beyond
MOST_FRAMES = 24 * 3600 * FPS
TOLERANCE_FRAMES = 1  # by which a motion or a mask may be shorter than the list says
_MAP_BYTES = 2**40  # the most that a written database may grow to; the file is as large as what is in it
_RECORDS_A_COMMIT = 64


@dataclass(frozen=True)
class Record:
    """One person over a conversation.

    Attributes:
        motion: [T, 112].
        audio: [N] 16 kHz; None in sets of motion alone.
        speech: [T] whether this person speaks; None where the set does not say.
    """

    motion: Float32
    audio: Float32 | None = None
    speech: Bool | None = None


@dataclass(frozen=True)
class Conversation:
    """A line of the list: the names of one or two records, and their frames."""

    name: str
    keys: tuple[str, ...]
    frames: int


def read_list(where: str | Path, split: str) -> tuple[Path, list[Conversation], dict[str, str]]:
    """The folder, the conversations of one split, and why other lines of it are none, by name.

    Args:
        where: a folder that holds ``data_lmdb`` and one JSON file, or that file.

    Raises:
        UsageError: no such files, or no list of this form.
    """
    path = Path(where)
    root = path.parent if path.is_file() else path
    if not (root / DATABASE / "data.mdb").is_file():
        raise UsageError(f"{root} holds no {DATABASE}/data.mdb")
    if not path.is_file():
        lists = sorted(root.glob("*.json"))
        if len(lists) != 1:
            some = f"{len(lists)} JSON lists: name one of them" if lists else "no JSON list"
            raise UsageError(f"{root} holds {some}")
        path = lists[0]
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a JSON list: {' '.join(str(error).split())[:160]}") from error
    if not isinstance(tree, dict) or not isinstance(tree.get(split), (dict, list)):
        raise UsageError(f"{path} has no list {split!r} of conversations")
    given = tree[split]
    lines = given.items() if isinstance(given, dict) else [(f"{split}[{k}]", line) for k, line in enumerate(given)]
    found: list[Conversation] = []
    bad: dict[str, str] = {}
    for given_name, line in lines:
        name = _text(given_name)
        want = 3 if isinstance(given, dict) else 2
        conversation = _conversation(name, line, want)
        if conversation is None:
            bad[name] = f"the list says {json.dumps(line)[:120]}, expected {want - 1} name(s) and a number of frames"
        else:
            found.append(conversation)
    return root, found, bad


def _conversation(name: str, line: Any, want: int) -> Conversation | None:
    if not isinstance(line, list) or len(line) != want or not all(isinstance(part, str) for part in line[:-1]):
        return None
    frames, keys = line[-1], tuple(_text(PurePosixPath(part).name) for part in line[:-1])
    if not isinstance(frames, int) or isinstance(frames, bool) or not 0 < frames <= MOST_FRAMES or not all(keys):
        return None
    return Conversation(name if want == 3 else keys[0], keys, frames)


def _text(name: str) -> str:
    """A name that can be written as UTF-8: JSON may hold halves of characters."""
    return name.encode(errors="replace").decode()


@contextmanager
def reading(root: Path) -> Iterator[Callable[[str], Record]]:
    """Gives ``read(name)``, which raises BadInput where there is no such record or it is damaged.

    Raises:
        UsageError: no LMDB, a truncated one, or the package ``lmdb`` is not installed.
    """
    lmdb = _lmdb()
    path = root / DATABASE
    try:
        with lmdb.open(str(path), readonly=True, lock=False, readahead=False, create=False) as environment:
            # Pages are mapped: one beyond the end of a truncated file would end the process.
            needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            has = (path / "data.mdb").stat().st_size
            if has < needed:
                raise UsageError(f"{path}/data.mdb has {has} bytes and wants {needed}: truncated")
            with environment.begin() as transaction:

                def read(name: str) -> Record:
                    try:
                        data = transaction.get(name.encode())
                    except lmdb.Error as error:
                        raise BadInput("unreadable", f"{name} cannot be read from the database: {error}") from error
                    return _record(name, data)

                yield read
    except lmdb.Error as error:
        raise UsageError(f"{path} is not an LMDB database that can be read: {error}") from error


def _record(name: str, data: bytes | None) -> Record:
    if data is None:
        raise BadInput("unreadable", f"{name} is not in the database")
    try:
        return read_record(data)
    except ValueError as error:
        raise BadInput("unreadable", f"{name} {error}") from error


def read_record(data: bytes) -> Record:
    """A record of an npz's bytes.

    Raises:
        ValueError: what is wrong with it; one line that goes on after the record's name.
    """
    arrays = read_arrays(io.BytesIO(data), ("motioncode",), ("audio", "speech_mask"))
    motion, audio, mask = (arrays.get(name) for name in ("motioncode", "audio", "speech_mask"))
    assert motion is not None
    if motion.ndim != 2 or motion.shape[1] != CODE_DIM or len(motion) == 0:
        raise ValueError(f"has a motioncode of shape {list(motion.shape)}, expected [T, {CODE_DIM}]")
    if audio is not None and audio.ndim != 1:
        raise ValueError(f"has an audio of shape {list(audio.shape)}, expected [N]")
    if mask is not None and (mask.ndim != 1 or mask.dtype.kind not in "bfiu"):
        raise ValueError(f"has a speech_mask of {mask.dtype} and shape {list(mask.shape)}, expected [T] of 0 and 1")
    for name, array in (("motioncode", motion), ("audio", audio)):
        if array is not None and array.dtype.kind != "f":
            raise ValueError(f"has a {name} of {array.dtype}, expected floating-point numbers")
        if array is not None and not np.isfinite(array).all():
            raise ValueError(f"has NaN or infinity in {name}")
        if array is not None and np.abs(array).max(initial=0) > LARGEST:
            raise ValueError(f"has {np.abs(array).max():.3g} in {name}, expected at most {LARGEST:.0f}")
    if mask is not None and not ((mask >= 0) & (mask <= 1)).all():
        raise ValueError("has a speech_mask that leaves 0..1")
    return Record(
        motion.astype(np.float32),
        None if audio is None else audio.astype(np.float32),
        None if mask is None else mask > 0.5,
    )


def record_bytes(record: Record) -> bytes:
    """A record's npz: float32 motion and sound, speech as 0 and 1; the same record gives the same bytes."""
    if record.motion.ndim != 2 or record.motion.shape[1] != CODE_DIM:
        raise ValueError(f"motion has shape {record.motion.shape}, expected [T, {CODE_DIM}]")
    arrays: dict[str, np.ndarray] = {"motioncode": record.motion.astype(np.float32)}
    if record.audio is not None:
        arrays["audio"] = record.audio.astype(np.float32)
    if record.speech is not None:
        arrays["speech_mask"] = record.speech.astype(np.float32)
    return npz_bytes(arrays)


@contextmanager
def writing(root: Path) -> Iterator[Callable[[str, Record], None]]:
    """Gives ``write(name, record)``, into the ``data_lmdb`` of a folder.

    Raises:
        UsageError: the disk is full, or the package ``lmdb`` is not installed.
    """
    lmdb = _lmdb()
    (root / DATABASE).mkdir(parents=True, exist_ok=True)
    waiting: list[tuple[bytes, bytes]] = []
    try:
        # The lock file is written through a memory map: on a full disk that kills the process without a word. Nobody
        # else writes here.
        with lmdb.open(str(root / DATABASE), map_size=_MAP_BYTES, lock=False) as environment:

            def commit() -> None:
                with environment.begin(write=True) as transaction:
                    for key, value in waiting:
                        transaction.put(key, value)
                waiting.clear()

            def write(name: str, record: Record) -> None:
                waiting.append((name.encode(), record_bytes(record)))
                if len(waiting) >= _RECORDS_A_COMMIT:
                    commit()

            yield write
            commit()
    except lmdb.Error as error:
        raise UsageError(f"{root / DATABASE} cannot be written: {error}") from error


def write_list(root: Path, conversations: Mapping[str, Sequence[Conversation]]) -> None:
    """The JSON list of pairs, by split; the splits not given are empty."""
    tree = {
        split: {one.name: [*one.keys, one.frames] for one in conversations.get(split, ())} for split in SPLITS
    }  # fmt: skip
    (root / PAIRS).write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def _lmdb() -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise UsageError("UniLS's files need lmdb: pip install lmdb") from error
    return lmdb
