"""Between pair rows and face files that know no places (DualTalk's, UniLS's).

Into rows: heads stand at nominal places with a standard deviation of a metre, gaze is unknown, no layout is written,
and labels count as certain (residual 0, confidence 1) because the files say nothing else. Out of rows: places, gaze and
validity are lost, and each voice is the row's one mixed sound, silenced where that person does not speak.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..fitting.dyad import camera_to_dyad
from ..fitting.head_model import rotation_matrix
from ..schemas.audio import encode_audio
from ..schemas.errors import BadInput
from ..schemas.heads import FittedPair, HeadTrack, Relation
from ..schemas.pair import SAMPLE_RATE, pair_id
from ..schemas.records import Backend, Turn
from ..schemas.row import Pair, Provenance, Source, Voices
from ..schemas.tracks import Bool, Float32
from .gaps import bridged
from .turns import wrapped

FPS = 25  # of all formats here
AXES = np.array([1.0, -1.0, -1.0])  # between "model axes" (y up, z to the viewer) and the camera's
PLACES = {"a": (-0.5, 0.0, 1.5), "b": (0.5, 0.0, 1.5)}  # metres, camera frame: nominal
EYES_FROM_ROOT = np.array([0.0, 0.09, 0.06])  # metres, model frame: nominal
PLACE_SD_M, ROTATION_SD = 1.0, 0.05
CROP_SCALE_PX = 63.0  # faces are fitted on crops of 224 pixels, where 63 mm are about as many pixels
LONGEST_GAP_S = 0.5


@dataclass(frozen=True)
class Face:
    """One person's face over T frames at 25 fps.

    Attributes:
        expression: [T, E] coefficients.
        jaw: [T, 3] axis-angle, radians.
        rotation: [T, 3] axis-angle of the head in model axes, radians; zero faces the camera.
        eyes: [T, 2, 3] axis-angle of the left and right eyeball, radians.
        shape: [S] identity coefficients.
        track_id, person_id: as in the row.
    """

    expression: Float32
    jaw: Float32
    rotation: Float32
    eyes: Float32
    shape: Float32
    track_id: str = ""
    person_id: str = ""


@dataclass(frozen=True)
class Speech:
    """What is heard over T frames: ``on[i]`` [T] whether person i speaks, ``sound`` [N] the mix at 16 kHz, -1..1."""

    on: tuple[Bool, ...]
    sound: Float32


def speech_by_level(audio: Float32, frames: int) -> Bool:
    """[frames] whether a *separated* voice speaks, from its level alone.

    A frame speaks within 30 dB of the voice's loud frames (95th percentile of 40 ms levels) and above -55 dBFS; pauses
    under 0.3 s are bridged and bursts under 0.12 s dropped.
    """
    size = SAMPLE_RATE // FPS
    padded = np.zeros(frames * size, np.float64)
    padded[: min(len(audio), len(padded))] = audio[: len(padded)]
    level = 10 * np.log10((padded.reshape(frames, size) ** 2).mean(axis=1) + 1e-12)
    on = level > max(float(np.percentile(level, 95)) - 30.0, -55.0)
    return _without_runs(_without_runs(on, False, round(0.3 * FPS)), True, round(0.12 * FPS))


def _runs(on: Bool) -> list[tuple[int, int, bool]]:
    edges = np.flatnonzero(np.diff(on)) + 1
    bounds = [0, *edges.tolist(), len(on)]
    return [(first, last, bool(on[first])) for first, last in pairwise(bounds)]


def _without_runs(on: Bool, value: bool, shortest: int) -> Bool:
    """Runs of ``value`` shorter than ``shortest`` take the other value; a pause at either end is left alone."""
    out = on.copy()
    for first, last, is_on in _runs(on):
        inside = value or (first > 0 and last < len(on))
        if is_on == value and last - first < shortest and inside:
            out[first:last] = not value
    return out


def mixed(voices: Sequence[Float32], frames: int) -> Float32:
    """[frames * 640] the sum of the voices, turned down as a whole where it would leave -1..1."""
    out = np.zeros(frames * SAMPLE_RATE // FPS, np.float32)
    for audio in voices:
        out[: len(audio)] += audio[: len(out)]
    out /= max(float(np.abs(out).max(initial=0.0)), 1.0)
    return out


def nominal_pair(
    faces: Sequence[Face],
    speech: Speech | None,
    source: Source,
    *,
    head_model_id: str,
    backend: str,
    config_hash: str,
    code_version: str,
) -> Pair:
    """A row of one or two faces of FLAME; the first is ``a``.

    Args:
        speech: None where a voice is missing.
        source: its times are the row's; ``n_people`` is set here.

    Raises:
        BadInput: a jaw or an eye that turns by more than a quarter.
    """
    frames = len(faces[0].jaw)
    heads = {who: _head(face, who) for who, face in zip("ab", faces, strict=False)}
    heads.setdefault("b", _nobody(frames, faces[0]))
    return Pair(
        pair_id=pair_id(source.video_id, source.start_s, source.end_s, config_hash),
        source=source,
        fitted=FittedPair(
            times=source.start_s + np.arange(frames) / FPS,
            fps=float(FPS),
            width=1280,
            height=720,
            focal_px=1000.0,
            focal_source="prior",
            focal_log_sd=0.25,
            head_model_id=head_model_id,
            head_model_sha256="",
            head_model_tier="flame",
            a=heads["a"],
            b=heads["b"],
        ),
        relation=_relation(heads, len(faces) == 2),
        voices=_voices(speech, frames, source.start_s),
        scores=_scores(heads, speech),
        provenance=Provenance(config_hash, code_version, (Backend("fit", backend),)),
        person_a=faces[0].person_id,
        person_b=faces[1].person_id if len(faces) == 2 else "",
    )


def _head(face: Face, who: str) -> HeadTrack:
    frames = len(face.jaw)
    for name, turns in (("jaw", face.jaw), ("eye", face.eyes)):
        largest = float(np.linalg.norm(turns, axis=-1).max(initial=0.0))
        if largest > math.pi / 2:
            raise BadInput("fit_failed", f"{face.track_id}: {name} turns by {math.degrees(largest):.0f} degrees")
    centre = np.broadcast_to(np.array(PLACES[who]), (frames, 3))
    nan = np.full(frames, np.nan, np.float32)
    return HeadTrack(
        track_id=face.track_id,
        shape=face.shape,
        expression=face.expression.astype(np.float32),
        jaw=face.jaw.astype(np.float32),
        neck=np.zeros((frames, 3), np.float32),
        rotation=wrapped(face.rotation.astype(np.float64) * AXES).astype(np.float32),
        translation=(centre - EYES_FROM_ROOT * AXES).astype(np.float32),
        eyes=face.eyes.astype(np.float32),
        gaze_raw=np.repeat(nan[:, None], 3, axis=1),
        gaze=np.repeat(nan[:, None], 3, axis=1),
        head_centre=centre.astype(np.float32),
        rotation_sd=np.full((frames, 3), ROTATION_SD, np.float32),
        translation_sd=np.full(frames, PLACE_SD_M, np.float32),
        gaze_sd=nan,
        residual=np.zeros(frames, np.float32),
        box=np.full((frames, 4), np.nan, np.float32),
        confidence=np.ones(frames, np.float32),
        valid=np.ones(frames, bool),
        scale_log_sd=0.06,
    )


def _nobody(frames: int, like: Face) -> HeadTrack:
    def nan(*shape: int) -> Float32:
        return np.full((frames, *shape), np.nan, np.float32)

    return HeadTrack(
        track_id="", shape=np.zeros_like(like.shape), expression=nan(like.expression.shape[1]), jaw=nan(3), neck=nan(3),
        rotation=nan(3), translation=nan(3), eyes=nan(2, 3), gaze_raw=nan(3), gaze=nan(3), head_centre=nan(3),
        rotation_sd=nan(3), translation_sd=nan(), gaze_sd=nan(), residual=nan(), box=nan(4),
        confidence=np.zeros(frames, np.float32), valid=np.zeros(frames, bool), scale_log_sd=0.0,
    )  # fmt: skip


def _relation(heads: dict[str, HeadTrack], both: bool) -> Relation:
    a, b = heads["a"], heads["b"]
    frames = len(a.valid)
    nan = np.full(frames, np.nan, np.float32)
    distance = np.linalg.norm(b.head_centre - a.head_centre, axis=1).astype(np.float32)
    return Relation(
        camera_to_dyad=camera_to_dyad(a.head_centre, b.head_centre, a.valid & b.valid) if both else np.eye(4),
        distance_m=distance,
        relative_position_sd=np.full(frames, PLACE_SD_M, np.float32) if both else nan,
        looking_a=nan,
        looking_b=nan,
        mutual_gaze=nan,
        layout={},
        codes=(),
        captions=(),
    )


def _voices(speech: Speech | None, frames: int, start_s: float) -> Voices:
    """Turns, who speaks by frame, and the row's sound."""
    if speech is None:
        nan = np.full(frames, np.nan, np.float32)
        return Voices((), nan, nan)
    turns = [
        Turn(start_s + first / FPS, start_s + last / FPS, f"voice_{who}", who)
        for who, on in zip("ab", speech.on, strict=False)
        for first, last, is_on in _runs(on)
        if is_on
    ]
    turns.sort(key=lambda turn: (turn.start_s, turn.face))
    probability = [on.astype(np.float32) for on in speech.on]
    both = len(probability) == 2
    return Voices(
        tuple(turns),
        probability[0],
        probability[1] if both else np.zeros(frames, np.float32),
        "voice_a",
        "voice_b" if both else "",
        encode_audio(speech.sound),
    )


def _scores(heads: dict[str, HeadTrack], speech: Speech | None) -> dict[str, float]:
    """What can be measured on the files, and the two that selection needs and the files do not hold."""
    out: dict[str, float] = {}
    for who, head in heads.items():
        if not head.valid.any():
            continue
        # Yaw of a head that faces the camera at rotation zero: where its forward axis points, seen from above.
        forward = -rotation_matrix(head.rotation)[:, :, 2]
        yaw = np.degrees(np.abs(np.arctan2(forward[:, 0], -forward[:, 2])))
        out[f"valid_{who}"] = 1.0
        out[f"yaw95_{who}"] = float(np.percentile(yaw, 95))
        out[f"expressiveness_{who}"] = float(head.expression.std(axis=0).mean())
        out[f"face_scale_{who}"] = CROP_SCALE_PX
        out[f"residual_{who}"] = 0.0
    if speech is not None:
        on = np.stack(speech.on)
        some = on.any(axis=0)
        out["speech_share"] = float(some.mean())
        out |= {f"speaking_{who}": float(mask.mean()) for who, mask in zip("ab", on, strict=False)}
        if some.any():
            out["bound_share"], out["off_screen_share"] = 1.0, 0.0
            out["overlap_share"] = float((on.sum(axis=0) > 1).sum() / some.sum())
    return out


@dataclass(frozen=True)
class Person:
    """A person of a row as files without places hold it: ``voice`` [N] is silent where ``speaking`` [T] is 0.

    Both are None where the row has no sound.
    """

    face: Face
    voice: Float32 | None
    speaking: Float32 | None


def people_of(pair: Pair, n_expression: int, n_shape: int) -> tuple[Person | None, Person | None]:
    """Both people of a row, None for nobody. Gaps up to half a second are bridged linearly.

    Coefficients beyond those asked for are cut, missing ones are zero; whether they are FLAME's is the caller's to
    judge (``pair.fitted.head_model_tier``).

    Raises:
        BadInput: another frame rate, nobody, or a gap too long to bridge.
    """
    fitted, voices = pair.fitted, pair.voices
    if abs(fitted.fps - FPS) > 1e-6:
        raise BadInput("stage_failed", f"{pair.pair_id} has {fitted.fps:g} fps, the format {FPS}")
    if not (fitted.a.valid.any() or fitted.b.valid.any()):
        raise BadInput("no_face", f"{pair.pair_id} has no valid frame")
    sound = voices.samples() if voices.audio is not None else None
    out: list[Person | None] = []
    for head, speaking in ((fitted.a, voices.speaking_a), (fitted.b, voices.speaking_b)):
        if not head.valid.any():
            out.append(None)
            continue
        face = _face(head, n_expression, n_shape, pair.pair_id)
        gain = np.clip(np.nan_to_num(speaking), 0, 1).astype(np.float32)
        out.append(Person(face, *((None, None) if sound is None else (_gated(sound, gain), gain))))
    return out[0], out[1]


def _face(head: HeadTrack, n_expression: int, n_shape: int, name: str) -> Face:
    longest = max((last - first for first, last, is_on in _runs(head.valid) if not is_on), default=0)
    if longest > LONGEST_GAP_S * FPS:
        raise BadInput("landmarks_lost", f"{name} has a gap of {longest / FPS:.2f} s, over {LONGEST_GAP_S} s")
    whole = bridged(head)
    rotation = (whole.rotation * AXES).astype(np.float32)
    expression, shape = _to_size(whole.expression, n_expression), _to_size(head.shape, n_shape)
    return Face(expression, whole.jaw, rotation, whole.eyes, shape.astype(np.float32))


def _to_size(values: np.ndarray, size: int) -> np.ndarray:
    """[..., size] cut or padded with zeros."""
    out = np.zeros((*values.shape[:-1], size), values.dtype)
    kept = min(values.shape[-1], size)
    out[..., :kept] = values[..., :kept]
    return out


def _gated(sound: Float32, gain: Float32) -> Float32:
    """The mix where a person speaks, with 40 ms ramps; elsewhere silence."""
    centres = (np.arange(len(gain)) + 0.5) * (SAMPLE_RATE / FPS)
    ramps = np.interp(np.arange(len(sound)), centres, gain.astype(np.float64))
    return (sound * ramps).astype(np.float32)
