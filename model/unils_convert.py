"""Between UniLS's conversations and pair rows of at most ten seconds (see :mod:`.nominal`).

Expression, jaw, head rotation, eyes in the head, both voices and who speaks when go into rows; identity is not in the
format. Each person was filmed alone, so that nothing says where the partner is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..schemas.errors import BadInput
from ..schemas.row import Pair, Source
from .nominal import Face, Person, Speech, mixed, nominal_pair, people_of, speech_by_level
from .unils_format import (
    CODE,
    CODE_DIM,
    FPS,
    N_EXPRESSION,
    SAMPLE_RATE,
    TOLERANCE_FRAMES,
    Conversation,
    Record,
    record_bytes,
)  # fmt: skip

HEAD_MODEL = "flame-emica"  # FLAME 2020 as EMICA uses it: 300 identity and 100 expression coefficients
N_SHAPE = 300
LONGEST_S, SHORTEST_S = 10, 3  # of a row; a rest that is shorter is left out
_PERSON = re.compile(r"(V\d+)_S\d+_I\d+_(P[0-9A-Za-z]+)")  # Seamless Interaction: vendor, session, interaction, person


def windows(frames: int) -> Iterator[tuple[int, int]]:
    """First frame and end of each row of a conversation, on a fixed grid; the last pair may be a rest too short."""
    step = LONGEST_S * FPS
    return ((first, min(first + step, frames)) for first in range(0, frames, step))


@dataclass(frozen=True)
class Talk:
    """A conversation that was read: faces and speech over ``frames`` frames, ``content`` the hash of all of it."""

    name: str
    faces: tuple[Face, ...]
    speech: Speech | None
    frames: int
    content: str


def read_talk(conversation: Conversation, read: Callable[[str], Record]) -> Talk:
    """A conversation of its records. Who speaks is the set's mask, or read off a voice's level where there is none.

    Motions and sounds are cut to the frames that the list says; a sound that is shorter ends in silence.

    Raises:
        BadInput: a record is missing or damaged, or over a frame shorter than the list says.
    """
    records = [read(key) for key in conversation.keys]
    lengths = [len(part) for record in records for part in (record.motion, record.speech) if part is not None]
    frames = min(*lengths, conversation.frames)
    if conversation.frames - frames > TOLERANCE_FRAMES:
        raise BadInput("unreadable", f"motions and masks of {lengths} frames, the list says {conversation.frames}")
    content = hashlib.sha256(str(frames).encode())
    for record in records:
        content.update(record_bytes(record))
    faces = tuple(_face(record.motion[:frames], key) for key, record in zip(conversation.keys, records, strict=True))
    return Talk(conversation.name, faces, _speech(records, frames), frames, content.hexdigest())


def _face(motion: np.ndarray, key: str) -> Face:
    person = _PERSON.match(key)
    return Face(
        motion[:, CODE["expression"]],
        motion[:, CODE["jaw"]],
        motion[:, CODE["rotation"]],
        motion[:, CODE["eyes"]].reshape(-1, 2, 3),
        np.zeros(N_SHAPE, np.float32),
        key,
        "_".join(person.groups()) if person else "",
    )


def _speech(records: list[Record], frames: int) -> Speech | None:
    """None where any voice is missing."""
    voices = [record.audio for record in records if record.audio is not None]
    if len(voices) < len(records):
        return None
    on = (
        speech_by_level(voice, frames) if record.speech is None else record.speech[:frames]
        for record, voice in zip(records, voices, strict=True)
    )
    return Speech(tuple(on), mixed(voices, frames))


def _cut(face: Face, first: int, end: int) -> Face:
    parts = {name: getattr(face, name)[first:end] for name in ("expression", "jaw", "rotation", "eyes")}
    return replace(face, **parts)


def row_of(talk: Talk, first: int, end: int, *, config_hash: str, code_version: str, license_text: str = "") -> Pair:
    """The row of frames ``first`` to ``end`` of a conversation.

    Raises:
        BadInput: a jaw or an eye that turns by more than a quarter.
    """
    samples = slice(first * SAMPLE_RATE // FPS, end * SAMPLE_RATE // FPS)
    speech = talk.speech
    return nominal_pair(
        [_cut(face, first, end) for face in talk.faces],
        None if speech is None else Speech(tuple(on[first:end] for on in speech.on), speech.sound[samples]),
        Source(
            talk.content,
            talk.name,
            first / FPS,
            end / FPS,
            source_id=talk.name,
            license=license_text,
            n_people=len(talk.faces),
        ),
        head_model_id=HEAD_MODEL,
        backend="unils files, taken as given",
        config_hash=config_hash,
        code_version=code_version,
    )


def records_of(pair: Pair) -> tuple[Record, Record]:
    """Both people of a row, ``a`` first.

    Raises:
        BadInput: another frame rate, fewer than two people, no sound, or a gap too long to bridge.
    """
    a, b = people_of(pair, N_EXPRESSION, 0)
    if a is None or b is None:
        raise BadInput("one_face", f"{pair.pair_id} has one person, the format two")
    if pair.voices.audio is None:
        raise BadInput("no_audio", f"{pair.pair_id} has no sound")
    return _record(a), _record(b)


def _record(person: Person) -> Record:
    face = person.face
    motion = np.zeros((len(face.jaw), CODE_DIM), np.float32)
    for name, values in (("expression", face.expression), ("rotation", face.rotation), ("jaw", face.jaw)):
        motion[:, CODE[name]] = values
    motion[:, CODE["eyes"]] = face.eyes.reshape(-1, 6)
    return Record(motion, person.voice, None if person.speaking is None else person.speaking > 0.5)
