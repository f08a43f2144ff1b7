"""Between DualTalk's clips and pair rows, as far as each can hold what the other says.

Into rows: expression, jaw, head rotation, identity and both voices are kept. Positions, eyes and gaze are not in the
format: heads stand at nominal places with a standard deviation of a metre, gaze is unknown, no layout is written, and
labels count as certain (residual 0, confidence 1) because the files say nothing else. Out of rows: positions, eyes,
gaze and validity are lost, and each voice is the row's one mixed sound, silenced where that person does not speak.
"""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..fitting.dyad import camera_to_dyad
from ..fitting.head_model import rotation_matrix
from ..schemas.audio import encode_audio
from ..schemas.errors import BadInput
from ..schemas.heads import FittedPair, HeadTrack, Relation
from ..schemas.pair import pair_id
from ..schemas.records import Backend, Turn
from ..schemas.row import Pair, Provenance, Source, Voices
from ..schemas.tracks import Bool, Float32
from .dualtalk_format import FPS, GROUPS, MOTION_DIM, N_EXPRESSION, N_SHAPE, SAMPLE_RATE, Clip, Side, npz_bytes
from .turns import unwrapped, wrapped

HEAD_MODEL = "flame-deca"  # FLAME as DECA and EMOCA use it: 100 identity and 50 expression coefficients
AXES = np.array([1.0, -1.0, -1.0])  # between "model axes" (y up, z to the viewer) and the camera's
PLACES = {"a": (-0.5, 0.0, 1.5), "b": (0.5, 0.0, 1.5)}  # metres, camera frame: nominal
EYES_FROM_ROOT = np.array([0.0, 0.09, 0.06])  # metres, model frame: nominal
PLACE_SD_M, ROTATION_SD = 1.0, 0.05
CROP_SCALE_PX = 63.0  # faces are fitted on crops of 224 pixels, where 63 mm are about as many pixels
LONGEST_GAP_S = 0.5


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


def clip_to_pair(clip: Clip, *, config_hash: str, code_version: str, license_text: str = "") -> Pair:
    """A row of a clip. speaker1 is ``a``; a clip with one side's motion becomes a row of one person.

    Raises:
        BadInput: no side has a motion.
    """
    sides = [side for side in clip.sides if side.motion is not None]
    if not sides:
        raise BadInput("no_face", f"{clip.name} has no npz")
    frames = clip.frames
    end_s = frames / FPS
    heads = {"a": _head(sides[0], "a", "speaker1" if clip.sides[0] is sides[0] else "speaker2")}
    heads["b"] = _head(sides[1], "b", "speaker2") if len(sides) == 2 else _nobody(frames)
    speaking, voices = _voices(sides, frames)
    content = hashlib.sha256()
    for side in clip.sides:
        content.update(b"" if side.motion is None else npz_bytes(side.motion, side.shape))
        content.update(b"" if side.audio is None else np.ascontiguousarray(side.audio, "<f4").tobytes())
    source = re.fullmatch(r"(.+)_sub_video_.*", clip.name)
    video_id = content.hexdigest()
    return Pair(
        pair_id=pair_id(video_id, 0.0, end_s, config_hash),
        source=Source(
            video_id,
            clip.name,
            0.0,
            end_s,
            source_id=source[1] if source else "",
            license=license_text,
            n_people=len(sides),
        ),
        fitted=FittedPair(
            times=np.arange(frames) / FPS,
            fps=float(FPS),
            width=1280,
            height=720,
            focal_px=1000.0,
            focal_source="prior",
            focal_log_sd=0.25,
            head_model_id=HEAD_MODEL,
            head_model_sha256="",
            head_model_tier="flame",
            a=heads["a"],
            b=heads["b"],
        ),
        relation=_relation(heads, len(sides) == 2),
        voices=voices,
        scores=_scores(heads, speaking),
        provenance=Provenance(config_hash, code_version, (Backend("fit", "dualtalk files, taken as given"),)),
    )


def _head(side: Side, who: str, track_id: str) -> HeadTrack:
    assert side.motion is not None
    frames = len(side.motion)
    rotation = side.motion[:, GROUPS["pose"]].astype(np.float64) * AXES
    centre = np.broadcast_to(np.array(PLACES[who]), (frames, 3))
    nan = np.full(frames, np.nan, np.float32)
    return HeadTrack(
        track_id=track_id,
        shape=side.shape,
        expression=side.motion[:, GROUPS["exp"]].astype(np.float32),
        jaw=side.motion[:, GROUPS["jaw"]].astype(np.float32),
        neck=np.zeros((frames, 3), np.float32),
        rotation=wrapped(rotation).astype(np.float32),
        translation=(centre - EYES_FROM_ROOT * AXES).astype(np.float32),
        eyes=np.zeros((frames, 2, 3), np.float32),
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


def _nobody(frames: int) -> HeadTrack:
    def nan(*shape: int) -> Float32:
        return np.full((frames, *shape), np.nan, np.float32)

    return HeadTrack(
        track_id="", shape=np.zeros(N_SHAPE, np.float32), expression=nan(N_EXPRESSION), jaw=nan(3), neck=nan(3),
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


def _voices(sides: list[Side], frames: int) -> tuple[dict[str, Bool], Voices]:
    """Who speaks by frame, and the row's sound: the mix of all voices; nothing where any voice is missing."""
    found = [side.audio for side in sides if side.audio is not None]
    nan = np.full(frames, np.nan, np.float32)
    if len(found) < len(sides):
        return {}, Voices((), nan, nan)
    speaking = {who: speech_by_level(audio, frames) for who, audio in zip("ab", found, strict=False)}
    turns = [
        Turn(first / FPS, last / FPS, f"voice_{who}", who)
        for who, on in speaking.items()
        for first, last, is_on in _runs(on)
        if is_on
    ]
    turns.sort(key=lambda turn: (turn.start_s, turn.face))
    mixed = np.zeros(frames * SAMPLE_RATE // FPS, np.float32)
    for audio in found:
        mixed[: len(audio)] += audio[: len(mixed)]
    mixed /= max(float(np.abs(mixed).max(initial=0.0)), 1.0)
    probability = {who: on.astype(np.float32) for who, on in speaking.items()}
    return speaking, Voices(
        tuple(turns),
        probability["a"],
        probability.get("b", np.zeros(frames, np.float32)),
        "voice_a",
        "voice_b" if "b" in probability else "",
        encode_audio(mixed),
    )


def _scores(heads: dict[str, HeadTrack], speaking: dict[str, Bool]) -> dict[str, float]:
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
    if speaking:
        on = np.stack(list(speaking.values()))
        some = on.any(axis=0)
        out["speech_share"] = float(some.mean())
        out |= {f"speaking_{who}": float(mask.mean()) for who, mask in speaking.items()}
        if some.any():
            out["bound_share"], out["off_screen_share"] = 1.0, 0.0
            out["overlap_share"] = float((on.sum(axis=0) > 1).sum() / some.sum())
    return out


def pair_to_clip(pair: Pair, name: str | None = None) -> Clip:
    """A clip of a row, at 25 fps; ``a`` is speaker1. Gaps up to half a second are bridged linearly.

    Coefficients beyond the format's 50 and 100 are cut, missing ones are zero; whether they are FLAME's is the caller's
    to judge (``pair.fitted.head_model_tier``).

    Raises:
        BadInput: another frame rate, nobody, or a gap too long to bridge.
    """
    fitted = pair.fitted
    if abs(fitted.fps - FPS) > 1e-6:
        raise BadInput("stage_failed", f"{pair.pair_id} has {fitted.fps:g} fps, the format 25")
    sides = []
    sound = pair.voices.samples() if pair.voices.audio is not None else None
    for head, speaking in ((fitted.a, pair.voices.speaking_a), (fitted.b, pair.voices.speaking_b)):
        if not head.valid.any():
            sides.append(Side(None, None))
            continue
        motion = np.zeros((len(head.valid), MOTION_DIM), np.float64)
        kept = min(head.expression.shape[1], N_EXPRESSION)
        motion[:, :kept] = head.expression[:, :kept]
        motion[:, GROUPS["jaw"]] = head.jaw
        # Near half a turn neighbours may be written a whole turn apart, and gaps are bridged in straight lines.
        motion[:, GROUPS["pose"]] = unwrapped(np.where(head.valid[:, None], head.rotation, np.nan)) * AXES
        shape = np.zeros(N_SHAPE, np.float32)
        shape[: min(len(head.shape), N_SHAPE)] = head.shape[:N_SHAPE]
        voice = None if sound is None else _gated(sound, speaking)
        bridged = _bridged(motion, head.valid, pair.pair_id)
        bridged[:, GROUPS["pose"]] = wrapped(bridged[:, GROUPS["pose"]])
        sides.append(Side(bridged, voice, shape))
    if sides[0].motion is None and sides[1].motion is None:
        raise BadInput("no_face", f"{pair.pair_id} has no valid frame")
    return Clip(name or pair.pair_id, (sides[0], sides[1]))


def _bridged(motion: npt.NDArray[np.float64], valid: Bool, name: str) -> Float32:
    longest = max((last - first for first, last, is_on in _runs(valid) if not is_on), default=0)
    if longest > LONGEST_GAP_S * FPS:
        raise BadInput("landmarks_lost", f"{name} has a gap of {longest / FPS:.2f} s, over {LONGEST_GAP_S} s")
    known = np.flatnonzero(valid)
    if len(known) == len(valid):
        return motion.astype(np.float32)
    frames = np.arange(len(valid))
    columns = [np.interp(frames, known, motion[known, k]) for k in range(motion.shape[1])]
    return np.stack(columns, axis=1).astype(np.float32)


def _gated(sound: Float32, speaking: Float32) -> Float32:
    """The mix where a person speaks, with 40 ms ramps; elsewhere silence."""
    gain = np.clip(np.nan_to_num(speaking.astype(np.float64)), 0, 1)
    centres = (np.arange(len(gain)) + 0.5) * (SAMPLE_RATE / FPS)
    return (sound * np.interp(np.arange(len(sound)), centres, gain)).astype(np.float32)
