"""Who of the two speaks in each frame: voices that belong to faces, corrected by what the lips do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..schemas.records import Turn
from ..schemas.tracks import Bool, ClipTracks, Float32, Float64
from .evidence import ActiveScores, BindOptions, bind_evidence, face_llr, heard, join_parts, video_offset
from .fusion import inputs_of, load_fusion, mouth_of, voices_of
from .lips import clock, lip_signal, loudness, syllables
from .turn_edges import pauses_of, snap

_OFF, _A, _B, _BOTH = range(4)
_CHANGES: Float64 = np.array([[0, 1, 1, 2], [1, 0, 2, 1], [1, 2, 0, 1], [2, 1, 1, 0]], np.float64)  # of persons
_UNSEEN_S = 0.3  # of an unseen voice's turn that no lips follow, to be a turn of nobody in the picture
_IN_PAUSE = 0.1  # of a speaker's probability stays where nobody is heard


@dataclass(frozen=True)
class SpeakingOptions:
    """How voices and lips are weighed.

    Attributes:
        frame_weight: share of the fused log odds that one frame may add (frames are not independent).
        surest: bound of these log odds.
        unconfirmed_cost: log-odds per frame against nobody's speaking while the voice of one of the two is heard.
        lip_weight: with an active-speaker network, the share of its log-likelihood ratio that one frame may add.
        voice_weight: likewise with one, log-odds per frame that a heard voice is its owner's.
        overlap_cost: likewise, log-odds per frame against both speaking while one voice is heard.
        change_cost: log-odds against one person's starting or stopping from one frame to the next.
        correct_offset: read the lips at the measured A/V offset.
        out_of_sync: what is done with sound that is out of sync by more than ``least_offset_s``: "correct" moves the
            video's sound and turns by its common offset, "keep" leaves them. What is left is stored, and selection
            drops clips by it.
        least_offset_s: one frame; smaller offsets are left as they are.
        least_confidence: confidence an offset needs to be used.
        pause_s: a pause shorter than this inside one person's (or one unseen voice's) speech belongs to the turn: half
            a second, and what quiet ends of sounds add to it.
        silence_s: silence at least this long inside a turn is not speaking (``speaking[T]``), though it is the turn's.
        edge_s: a turn's edge this near to a silence moves to it.
        shortest_turn_s: turns that the lips add are at least this long.
        binding: how lips are read.
    """

    frame_weight: float = 0.5
    surest: float = 8.0
    unconfirmed_cost: float = 0.2
    lip_weight: float = 0.33
    voice_weight: float = 0.63
    overlap_cost: float = 0.1
    change_cost: float = 3.0
    correct_offset: bool = True
    out_of_sync: Literal["correct", "keep"] = "correct"
    least_offset_s: float = 0.04
    least_confidence: float = 0.9
    pause_s: float = 0.55
    silence_s: float = 0.2
    edge_s: float = 0.12
    shortest_turn_s: float = 0.2
    binding: BindOptions = field(default_factory=BindOptions)


@dataclass(frozen=True)
class SpeakingResult:
    """Who speaks in one clip.

    Attributes:
        speaking_a, speaking_b: [T] probability that the person speaks in each frame of the clip clock.
        turns: the clip's turns with their faces, inside the clip's bounds, in time order.
        voice_a, voice_b: the voice each person speaks with most ("" if none).
        offset_s: how late the sound is against the picture (negative: early), NaN where it could not be told;
            ``offset_confidence``: 0..1, of the best guess either way.
        share_speech: share of the clip in which anyone is heard.
        share_bound, share_off_screen: shares of the speech that belong to a face of the clip, and to nobody in it.
        share_overlap: share of the clip in which both speak.
    """

    speaking_a: Float32
    speaking_b: Float32
    turns: tuple[Turn, ...]
    voice_a: str
    voice_b: str
    offset_s: float
    offset_confidence: float
    share_speech: float
    share_bound: float
    share_off_screen: float
    share_overlap: float

    def scores(self) -> dict[str, float]:
        """Scores by the names of the pair schema."""
        spoken = max(float(np.mean((self.speaking_a > 0.5) | (self.speaking_b > 0.5))), 1e-9)
        floor = [t.face for t in self.turns if t.face]
        return {
            "speech_share": self.share_speech,
            "speaking_a": float(np.mean(self.speaking_a > 0.5)),
            "speaking_b": float(np.mean(self.speaking_b > 0.5)),
            "bound_share": self.share_bound,
            "off_screen_share": self.share_off_screen,
            "overlap_share": self.share_overlap / spoken if self.share_overlap else 0.0,
            "turn_changes": float(sum(x != y for x, y in itertools.pairwise(floor))),
            "av_offset_s": self.offset_s,
            "av_offset_confidence": self.offset_confidence,
        }


def forward_backward(score: Float64, change_cost: float) -> Float64:
    """Posterior of nobody, a, b and both speaking when every start or end of a person's speech costs ``change_cost``.

    People start and stop on their own: from a to b is two changes, by way of both or not.

    Args:
        score: [T, 4] log scores.

    Returns:
        [T, 4], each row summing to one.
    """
    steps, _ = score.shape
    move = np.exp(-change_cost * _CHANGES)
    np.fill_diagonal(move, 0.0)
    np.fill_diagonal(move, np.maximum(1.0 - move.sum(axis=1), 0.05))
    emission = np.exp(score - score.max(axis=1, keepdims=True))
    ahead, behind = np.empty_like(emission), np.empty_like(emission)
    ahead[0] = emission[0] / emission[0].sum()
    for t in range(1, steps):
        ahead[t] = (ahead[t - 1] @ move) * emission[t]
        ahead[t] /= ahead[t].sum()
    behind[-1] = 1.0
    for t in range(steps - 2, -1, -1):
        behind[t] = move @ (behind[t + 1] * emission[t + 1])
        behind[t] /= behind[t].sum()
    both = ahead * behind
    return np.asarray(both / both.sum(axis=1, keepdims=True))


def _voice_scores(
    turns: Sequence[Turn], faces: Mapping[str, str], times: Float64, options: SpeakingOptions
) -> tuple[Float64, Bool]:
    """[T, 4] log scores from the voices heard, [T] whether anyone is heard."""
    score = np.zeros((len(times), 4))
    score[:, _BOTH] -= options.overlap_cost
    anyone = np.zeros(len(times), bool)
    owned = {"a": np.zeros(len(times), bool), "b": np.zeros(len(times), bool), "": np.zeros(len(times), bool)}
    owned["ab"] = np.zeros(len(times), bool)
    for voice in sorted({t.speaker for t in turns}):
        mask = heard(turns, voice, times)
        owned[faces.get(voice, "")] |= mask
        anyone |= mask
    w = options.voice_weight
    score[owned["a"]] += np.array([-w, w, -w, 0.5 * w])
    score[owned["b"]] += np.array([-w, -w, w, 0.5 * w])
    score[owned["ab"]] += np.array([-w, w, w, 0.5 * w])
    score[owned[""]] += np.array([w, -0.5 * w, -0.5 * w, -w])
    score[owned["a"] & owned["b"], _BOTH] += w + options.overlap_cost
    return score, anyone


def heard_of(turns: Sequence[Turn], faces: Mapping[str, str], times: Float64) -> Bool:
    """[T] moments in which a voice that belongs to a face is heard."""
    mask = np.zeros(len(times), bool)
    for voice in {t.speaker for t in turns if faces.get(t.speaker, "")}:
        mask |= heard(turns, voice, times)
    return mask


def sync_shift(video_offset_s: tuple[float, float], options: SpeakingOptions | None = None) -> float:
    """Seconds by which a video's sound is late and must be read later to fit the picture; 0 to leave it.

    Args:
        video_offset_s: (offset, confidence) of the whole video (:func:`evidence.video_offset`).
    """
    options = options or SpeakingOptions()
    offset, confidence = video_offset_s
    told = confidence >= options.least_confidence and abs(offset) > options.least_offset_s
    return round(offset, 3) if told and options.out_of_sync == "correct" else 0.0


def shift_turns(turns: Sequence[Turn], shift_s: float) -> list[Turn]:
    """Turns of sound that is read ``shift_s`` later."""
    if shift_s == 0.0:
        return list(turns)
    return [replace(t, start_s=round(t.start_s - shift_s, 3), end_s=round(t.end_s - shift_s, 3)) for t in turns]


def fused_odds(
    tracks: ClipTracks,
    audio: Float32,
    audio_start_s: float,
    turns: Sequence[Turn],
    faces: Mapping[str, str],
    times: Float64,
    shift_s: float,
) -> tuple[Float64, Float64]:
    """[T] log odds that a speaks, and b, at ``times`` while somebody is heard (:mod:`fusion`).

    Args:
        times: on the sound's clock, as ``audio`` and ``turns`` are; what is heard is seen ``shift_s`` earlier.
    """
    fine = clock(min(tracks.start_s, float(times[0])) - 1.0, max(tracks.end_s, float(times[-1])) + 1.0)
    sound = syllables(loudness(audio, audio_start_s - shift_s, fine))
    a, b = (mouth_of(lip_signal(track, tracks.times, fine), sound) for track in (tracks.a, tracks.b))
    voices, network, shown = voices_of(turns, faces, times), load_fusion(), times - shift_s
    return (
        network.log_odds(inputs_of(a, b, (voices["a"], voices["b"], voices[""]), shown)),
        network.log_odds(inputs_of(b, a, (voices["b"], voices["a"], voices[""]), shown)),
    )


def _active_scores(
    tracks: ClipTracks,
    active: ActiveScores,
    voice_score: Float64,
    times: Float64,
    shift_s: float,
    options: SpeakingOptions,
) -> Float64:
    """[T, 4] log scores of an active-speaker network and of the voices heard; ``shift_s`` as in :func:`fused_odds`."""
    fine = clock(min(tracks.start_s, float(times[0])) - 1.0, max(tracks.end_s, float(times[-1])) + 1.0)
    score = voice_score.copy()
    for state, track, odds in ((_A, tracks.a, active.a), (_B, tracks.b, active.b)):
        llr = face_llr(lip_signal(track, tracks.times, fine), options.binding, (active.times, odds))
        told = options.lip_weight * np.interp(times - shift_s, fine, llr)
        score[:, state] += told
        score[:, _BOTH] += told
    return score


def speaking_masks(
    tracks: ClipTracks,
    audio: Float32,
    audio_start_s: float,
    turns: Sequence[Turn],
    faces: Mapping[str, str],
    times_out: Float64,
    options: SpeakingOptions | None = None,
    video_offset_s: tuple[float, float] | None = None,
    active: ActiveScores | None = None,
) -> SpeakingResult:
    """Probability of speaking for both people, turns with faces, offset and shares.

    Each frame in which someone is heard is in one of four states (nobody in the picture, a, b, both); the
    posterior over the clip smooths what the voices heard and both mouths tell.

    Args:
        audio: [n] 16 kHz mono from ``audio_start_s``; may be shorter or longer than the clip.
        turns: of the whole video.
        faces: voice id -> "a", "b", "ab" (either) or "" (:func:`bind.bind_voices`).
        times_out: [T] frame times of the clip clock, seconds.
        video_offset_s: (offset, confidence) of the whole video, used where the clip's own is less sure.
        active: scores of an active-speaker network, which take the place of lip speed.
    """
    options = options or SpeakingOptions()
    raw = [t for t in turns if t.end_s > tracks.start_s and t.start_s < tracks.end_s]
    turns = join_parts(turns, faces, options.pause_s)
    inside = [t for t in turns if t.end_s > tracks.start_s and t.start_s < tracks.end_s]
    evidence = bind_evidence(tracks, audio, audio_start_s, inside, options.binding, active)
    offset, confidence = video_offset([evidence], [dict(faces)], options.binding)
    if video_offset_s is not None and video_offset_s[1] > confidence:
        offset, confidence = video_offset_s
    shift = offset if options.correct_offset and confidence >= options.least_confidence else 0.0

    times = np.asarray(times_out, np.float64)
    score, anyone = _voice_scores(inside, faces, times, options)
    if active is None:
        odds = fused_odds(tracks, audio, audio_start_s, turns, faces, times, shift)
        one, other = (options.frame_weight * np.clip(x, -options.surest, options.surest) for x in odds)
        owned = heard_of(inside, faces, times)
        score = np.stack([-options.unconfirmed_cost * owned, one, other, one + other], axis=1)
    else:
        score = _active_scores(tracks, active, score, times, shift, options)
    posterior = np.zeros((len(times), 4))
    posterior[:, _OFF] = 1.0
    for first, last in _runs(anyone):
        posterior[first:last] = forward_backward(score[first:last], options.change_cost)
    a = posterior[:, _A] + posterior[:, _BOTH]
    b = posterior[:, _B] + posterior[:, _BOTH]
    speech = max(int(anyone.sum()), 1)
    both = (a > 0.5) & (b > 0.5)
    bound = anyone & ((a > 0.5) | (b > 0.5))
    final = _face_turns(inside, faces, times, {"a": a > 0.5, "b": b > 0.5}, anyone, tracks, options)
    final = snap(final, raw, options.edge_s, tracks.start_s, tracks.end_s)
    final = _within(join_faces(final, options.pause_s), tracks)
    pause = np.zeros(len(times), bool)
    for start, end in pauses_of(raw):
        if end - start >= options.silence_s:
            pause |= (times >= start) & (times < end)
    a, b = (np.where(pause, _IN_PAUSE * one, one) for one in (a, b))
    return SpeakingResult(
        a.astype(np.float32),
        b.astype(np.float32),
        tuple(final),
        _main_voice(final, "a"),
        _main_voice(final, "b"),
        round(offset, 4) if confidence >= options.least_confidence else float("nan"),
        round(confidence, 4),
        float(anyone.mean()),
        float(bound.sum() / speech),
        float((anyone & ~bound).sum() / speech),
        float(both.mean()),
    )


def _runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def _face_turns(
    turns: Sequence[Turn],
    faces: Mapping[str, str],
    times: Float64,
    speaks: Mapping[str, Bool],
    anyone: Bool,
    tracks: ClipTracks,
    options: SpeakingOptions,
) -> list[Turn]:
    """Turns as the posterior has them. Each is named by the voice heard most in it, the face's own voices first."""
    period = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
    masks = {v: heard(turns, v, times) for v in sorted({t.speaker for t in turns})}
    off = anyone & ~speaks["a"] & ~speaks["b"]
    for turn in turns:  # who talks over an unseen voice does not silence it, unless all of it was his
        inside = (times >= turn.start_s) & (times < turn.end_s)
        if not faces.get(turn.speaker, "") and (off & inside).sum() * period >= _UNSEEN_S:
            off |= inside
    out = []
    for face, mask in (("a", speaks["a"]), ("b", speaks["b"]), ("", off)):
        own = [v for v in masks if faces.get(v, "") == face]
        for first, last in _runs(mask):
            lo = max(tracks.start_s, float(times[first]) - 0.5 * period)
            hi = min(tracks.end_s, float(times[last - 1]) + 0.5 * period) if last < len(times) else tracks.end_s
            named = {v: int(masks[v][first:last].sum()) for v in (own or masks)}
            if not face and last - first < _UNSEEN_S / period and not any(masks[v][first:last].any() for v in own):
                continue  # lips at rest for a moment while their own voice is heard
            if not any(named.values()):
                named = {v: int(masks[v][first:last].sum()) for v in masks}
                if last - first < options.shortest_turn_s / period:
                    continue
            voice = max(named, key=lambda v: (named[v], v)) if not own else max(own, key=lambda v: (named.get(v, 0), v))
            out.append(Turn(round(lo, 3), round(hi, 3), voice, face))
    return sorted(out, key=lambda t: (t.start_s, t.end_s, t.face))


def join_faces(turns: Sequence[Turn], pause_s: float) -> list[Turn]:
    """Turns of one face, or of one voice without a face, made one over pauses shorter than ``pause_s``."""
    out: list[Turn] = []
    last: dict[str, int] = {}
    for turn in sorted(turns, key=lambda t: (t.start_s, t.end_s, t.face)):
        who = turn.face or f" {turn.speaker}"
        at = last.get(who)
        if at is not None and turn.start_s - out[at].end_s < pause_s:
            longer = out[at] if out[at].end_s - out[at].start_s >= turn.end_s - turn.start_s else turn
            out[at] = replace(out[at], end_s=max(out[at].end_s, turn.end_s), speaker=longer.speaker)
        else:
            last[who] = len(out)
            out.append(turn)
    return out


def _within(turns: Sequence[Turn], tracks: ClipTracks) -> list[Turn]:
    cut = [replace(t, start_s=max(t.start_s, tracks.start_s), end_s=min(t.end_s, tracks.end_s)) for t in turns]
    return sorted((t for t in cut if t.end_s > t.start_s), key=lambda t: (t.start_s, t.end_s, t.face))


def _main_voice(turns: Sequence[Turn], face: str) -> str:
    seconds: dict[str, float] = {}
    for turn in turns:
        if turn.face == face:
            seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + turn.end_s - turn.start_s
    return max(sorted(seconds), key=lambda v: seconds[v]) if seconds else ""
