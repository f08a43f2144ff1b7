"""What one clip tells about voices and faces: lips that move, and move with the sound, while a voice is heard."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.records import Turn
from ..schemas.tracks import Bool, ClipTracks, Float32, Float64
from .lips import LAGS_S, LipSignal, best_lag, clock, lag_curve, lip_signal, loudness, syllables


@dataclass(frozen=True)
class BindOptions:
    """How lips are read.

    Attributes:
        silent_mm_s, speaking_mm_s: typical RMS speed of the lip aperture (on a 63 mm head) of a person who
            listens and of one who speaks.
        spread: standard deviation of the logarithm of either speed.
        most_lively: a face whose fast moments exceed the typical speaker's is measured by its own, up to this factor.
        most: bound of the log-likelihood ratio of one moment.
        independent_hz: independent moments a second.
        lip_lead_s: the correlation of lips with sound peaks this far ahead of the sound in live speech (0.04 to 0.18 s
            in the talk at hand); the offset is measured against it, so a person's own lead is an error of the offset.
        own_correlation: correlation of lips with sound expected of the speaker (1-8 Hz).
        least_llr: log-likelihood ratio a voice must reach to belong to a face.
        active_weight: log-likelihood ratio of one moment per unit of an active-speaker network's log odds.
        least_shared_llr: log-likelihood ratio, against one owner or none, for a voice to be both people's in turn.
        same_person: cosine of looks above which faces of two shots are one person; above 1 turns it off. None: as the
            identifier has it (``between_shots``).
    """

    silent_mm_s: float = 5.0
    speaking_mm_s: float = 28.0
    spread: float = 0.6
    most_lively: float = 2.5
    most: float = 2.5
    independent_hz: float = 2.0
    lip_lead_s: float = 0.1
    own_correlation: float = 0.3
    least_llr: float = 1.0
    active_weight: float = 0.5
    least_shared_llr: float = 6.0
    same_person: float | None = None


@dataclass(frozen=True)
class VoiceEvidence:
    """One voice in one clip against both faces.

    Attributes:
        voice: voice id.
        seconds: of its speech with nobody else heard; ``seen_a``, ``seen_b``: of it with that face's lips measured.
        llr_a, llr_b: log-likelihood ratio, from lip speed, that the face is speaking in these seconds.
        llr_either: that in each of these seconds one of the two is, now this one, now that one.
        curve_a, curve_b: correlation of lips with sound in these seconds for each lag of ``lips.LAGS_S``.
    """

    voice: str
    seconds: float
    seen_a: float
    seen_b: float
    llr_a: float
    llr_b: float
    curve_a: tuple[float, ...]
    curve_b: tuple[float, ...]
    llr_either: float = 0.0


@dataclass(frozen=True)
class BindEvidence:
    """All that one clip tells about voices and faces; a few kilobytes as JSON.

    Attributes:
        track_a, track_b: track ids within the shot.
        identity_a, identity_b: appearance descriptors, 8 bits a number, base64 ("" where absent).
    """

    video_id: str
    shot_index: int
    start_s: float
    end_s: float
    track_a: str
    track_b: str
    identity_a: str
    identity_b: str
    voices: tuple[VoiceEvidence, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> BindEvidence:
        fields = json.loads(text)
        voices = []
        for item in fields.pop("voices"):
            item["curve_a"], item["curve_b"] = tuple(item["curve_a"]), tuple(item["curve_b"])
            voices.append(VoiceEvidence(**item))
        return cls(voices=tuple(voices), **fields)


def speaking_llr(lips: LipSignal, options: BindOptions) -> Float64:
    """[N] log-likelihood ratio of each moment's lip speed under speech against listening; 0 where not seen.

    Measurement noise (known from the nose, which cannot move) raises both expected speeds, so that jittery
    landmarks of a small face say less instead of saying "speaks".
    """
    noise = lips.noise_mm_s
    silent = 0.5 * np.log(options.silent_mm_s**2 + noise**2)
    speaking = 0.5 * np.log(options.speaking_mm_s**2 + noise**2)
    lively = 1.0  # who speaks with a wide mouth also listens with a livelier one
    if lips.valid.any():
        most = float(np.percentile(lips.speed_mm_s[lips.valid], 80))
        lively = float(np.clip(most / (1.25 * np.exp(speaking)), 1.0, options.most_lively))
    speed = np.log(np.maximum(lips.speed_mm_s / lively, 0.1).astype(np.float64))
    llr = (speaking - silent) / options.spread**2 * (speed - 0.5 * (silent + speaking))
    return np.asarray(np.where(lips.valid, np.clip(llr, -options.most, options.most), 0.0))


@dataclass(frozen=True)
class ActiveScores:
    """What an active-speaker network says of both faces of a clip.

    Attributes:
        times: [N] seconds on the video clock.
        a, b: [N] log odds of speaking.
    """

    times: Float64
    a: Float32
    b: Float32

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {"times": self.times, "a": self.a, "b": self.b}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> ActiveScores:
        return cls(
            np.asarray(arrays["times"], np.float64),
            np.asarray(arrays["a"], np.float32),
            np.asarray(arrays["b"], np.float32),
        )


def face_llr(lips: LipSignal, options: BindOptions, active: tuple[Float64, Float32] | None = None) -> Float64:
    """[N] log-likelihood ratio that a face speaks at each of ``lips.times``: from lip speed, or from a network.

    Args:
        active: (times, log odds) of the network; None: lip speed.
    """
    if active is None:
        return speaking_llr(lips, options)
    times, odds = active
    if len(times) == 0:
        return np.zeros(len(lips.times))
    llr = options.active_weight * np.interp(lips.times, times, odds)
    inside = (lips.times >= times[0] - 0.04) & (lips.times <= times[-1] + 0.04)
    return np.asarray(np.where(lips.valid & inside, np.clip(llr, -options.most, options.most), 0.0))


_PART = re.compile(r"(v\d+)b")


def parent_voice(voice: str) -> str:
    """The voice of which this one is a part ("v0b" -> "v0"); "" for a whole voice."""
    match = _PART.fullmatch(voice)
    return match[1] if match else ""


def join_parts(turns: Sequence[Turn], faces: Mapping[str, str], pause_s: float = 0.0) -> list[Turn]:
    """Parts of a voice that have one face (or none) become one voice again.

    Args:
        pause_s: consecutive turns of one voice become one over pauses up to this long.
    """
    out: list[Turn] = []
    for turn in sorted(turns, key=lambda t: (t.start_s, t.end_s, t.speaker)):
        parent = parent_voice(turn.speaker)
        same = bool(parent) and faces.get(parent, "") == faces.get(turn.speaker, "")
        name = parent if same else turn.speaker
        last = out[-1] if out else None
        if last is not None and last.speaker == name and turn.start_s - last.end_s < pause_s + 0.002:
            out[-1] = replace(last, end_s=max(last.end_s, turn.end_s))
        else:
            out.append(replace(turn, speaker=name))
    return out


def heard(turns: Sequence[Turn], voice: str, times: Float64) -> Bool:
    """[N] moments in which a voice speaks."""
    mask = np.zeros(len(times), bool)
    for turn in turns:
        if turn.speaker == voice:
            mask |= (times >= turn.start_s) & (times < turn.end_s)
    return mask


def _pack(identity: Float32) -> str:
    if not identity.any():
        return ""
    return base64.b64encode(np.round(127 + 127 * np.clip(identity, -1, 1)).astype(np.uint8).tobytes()).decode()


def unpack_identity(text: str) -> Float64:
    return (np.frombuffer(base64.b64decode(text), np.uint8).astype(np.float64) - 127) / 127


def bind_evidence(
    tracks: ClipTracks,
    audio: Float32,
    audio_start_s: float,
    turns: Sequence[Turn],
    options: BindOptions | None = None,
    active: ActiveScores | None = None,
) -> BindEvidence:
    """Evidence of one clip, between the clip's own bounds.

    Args:
        audio: [n] 16 kHz mono; may be shorter or longer than the clip.
        audio_start_s: time of its first sample on the video clock.
        turns: of the whole video, or of this stretch of it.
        active: scores of an active-speaker network, which take the place of lip speed.
    """
    options = options or BindOptions()
    times = clock(tracks.start_s, tracks.end_s)
    sound = syllables(loudness(audio, audio_start_s, times))
    lips = [lip_signal(track, tracks.times, times) for track in (tracks.a, tracks.b)]
    odds = (None, None) if active is None else ((active.times, active.a), (active.times, active.b))
    llr = [face_llr(signal, options, one) for signal, one in zip(lips, odds, strict=True)]
    moving = [syllables(signal.aperture_mm) for signal in lips]
    inside = [t for t in turns if t.end_s > tracks.start_s and t.start_s < tracks.end_s]
    names = sorted({t.speaker for t in inside})
    masks = {name: heard(inside, name, times) for name in names}
    crowd = np.sum(list(masks.values()), axis=0) if names else np.zeros(len(times))
    voices = []
    for name in names:
        alone = masks[name] & (crowd == 1)
        per_face = []
        for face in (0, 1):
            seen = alone & lips[face].valid
            total = float(llr[face][seen].sum()) * options.independent_hz / 100.0
            curve = lag_curve(moving[face], sound, seen.astype(np.float64))
            per_face.append((float(seen.sum()) / 100.0, total, tuple(round(float(c), 3) for c in curve)))
        (seen_a, llr_a, curve_a), (seen_b, llr_b, curve_b) = per_face
        either = _either(llr, alone & lips[0].valid & lips[1].valid, options)
        seconds = round(float(alone.sum()) / 100.0, 2)
        voices.append(
            VoiceEvidence(
                name,
                seconds,
                round(seen_a, 2),
                round(seen_b, 2),
                round(llr_a, 3),
                round(llr_b, 3),
                curve_a,
                curve_b,
                round(either, 3),
            )
        )
    return BindEvidence(
        tracks.video_id,
        tracks.shot_index,
        tracks.start_s,
        tracks.end_s,
        tracks.a.track_id,
        tracks.b.track_id,
        _pack(tracks.a.identity),
        _pack(tracks.b.identity),
        tuple(voices),
    )


def _either(llr: Sequence[Float64], seen: Bool, options: BindOptions) -> float:
    """Log-likelihood ratio that each second of a voice is one of the two faces', against neither's."""
    total = 0.0
    rows = np.flatnonzero(seen)
    for second in np.array_split(rows, max(1, len(rows) // 100)):
        if len(second):
            a, b = (float(one[second].sum()) * options.independent_hz / 100.0 for one in llr)
            total += float(np.logaddexp(a, b)) - float(np.log(2.0))
    return total


def video_offset(
    evidence: Sequence[BindEvidence], faces: Sequence[dict[str, str]], options: BindOptions | None = None
) -> tuple[float, float]:
    """A/V offset common to the clips: seconds by which the sound is late against the picture, and a confidence 0..1."""
    options = options or BindOptions()
    curve, seconds = np.zeros(len(LAGS_S)), 0.0
    for clip, chosen in zip(evidence, faces, strict=True):
        for voice in clip.voices:
            for face in chosen.get(voice.voice, ""):  # a voice of either face: each one's lips tell for its share
                seen = voice.seen_a if face == "a" else voice.seen_b
                curve += seen * np.asarray(voice.curve_a if face == "a" else voice.curve_b)
                seconds += seen
    if seconds <= 0:
        return 0.0, 0.0
    lag, confidence = best_lag(curve / seconds, seconds)
    return -(lag + options.lip_lead_s), confidence
