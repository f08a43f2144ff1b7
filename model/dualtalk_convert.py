"""Between DualTalk's clips and pair rows, as far as each can hold what the other says (see :mod:`.nominal`).

Expression, jaw, head rotation, identity and both voices go into rows; eyes are not in the format.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np

from ..schemas.errors import BadInput
from ..schemas.row import Pair, Source
from .dualtalk_format import FPS, GROUPS, MOTION_DIM, N_EXPRESSION, N_SHAPE, Clip, Side, motion_bytes
from .nominal import Face, Person, Speech, mixed, nominal_pair, people_of, speech_by_level

HEAD_MODEL = "flame-deca"  # FLAME as DECA and EMOCA use it: 100 identity and 50 expression coefficients


def clip_to_pair(clip: Clip, *, config_hash: str, code_version: str, license_text: str = "") -> Pair:
    """A row of a clip. speaker1 is ``a``; a clip with one side's motion becomes a row of one person.

    Raises:
        BadInput: no side has a motion, or a jaw turns by more than a quarter.
    """
    sides = {f"speaker{k}": side for k, side in enumerate(clip.sides, start=1) if side.motion is not None}
    if not sides:
        raise BadInput("no_face", f"{clip.name} has no npz")
    content = hashlib.sha256()
    for side in clip.sides:
        content.update(b"" if side.motion is None else motion_bytes(side.motion, side.shape))
        content.update(b"" if side.audio is None else np.ascontiguousarray(side.audio, "<f4").tobytes())
    found = re.fullmatch(r"(.+)_sub_video_.*", clip.name)
    source = Source(
        content.hexdigest(),
        clip.name,
        0.0,
        clip.frames / FPS,
        source_id=found[1] if found else "",
        license=license_text,
        n_people=len(sides),
    )
    return nominal_pair(
        [_face(side, name) for name, side in sides.items()],
        _speech(list(sides.values()), clip.frames),
        source,
        head_model_id=HEAD_MODEL,
        backend="dualtalk files, taken as given",
        config_hash=config_hash,
        code_version=code_version,
    )


def _face(side: Side, track_id: str) -> Face:
    assert side.motion is not None
    exp, jaw, pose = (side.motion[:, GROUPS[name]] for name in ("exp", "jaw", "pose"))
    return Face(exp, jaw, pose, np.zeros((len(exp), 2, 3), np.float32), side.shape, track_id)


def _speech(sides: list[Side], frames: int) -> Speech | None:
    """By level; None where any voice is missing."""
    found = [side.audio for side in sides if side.audio is not None]
    if len(found) < len(sides):
        return None
    return Speech(tuple(speech_by_level(audio, frames) for audio in found), mixed(found, frames))


def pair_to_clip(pair: Pair, name: str | None = None) -> Clip:
    """A clip of a row, at 25 fps; ``a`` is speaker1.

    Raises:
        BadInput: another frame rate, nobody, or a gap too long to bridge.
    """
    a, b = people_of(pair, N_EXPRESSION, N_SHAPE)
    return Clip(name or pair.pair_id, (_side(a), _side(b)))


def _side(person: Person | None) -> Side:
    if person is None:
        return Side(None, None)
    face = person.face
    motion = np.zeros((len(face.jaw), MOTION_DIM), np.float32)
    for name, values in (("exp", face.expression), ("jaw", face.jaw), ("pose", face.rotation)):
        motion[:, GROUPS[name]] = values
    return Side(motion, person.voice, face.shape)
