"""Which face owns which voice: lips that move when a voice is heard, solved over all clips of a video.

A voice belongs to one person, or to nobody in the picture. Each clip gives small evidence
(:func:`bind_evidence`); :func:`bind_voices` meets the evidence of a whole video and decides.
One person may own two voices (listening may split a voice in two: the face joins them again).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..schemas.tracks import Float64
from .evidence import (
    BindEvidence,
    BindOptions,
    VoiceEvidence,
    bind_evidence,
    join_parts,
    parent_voice,
    unpack_identity,
    video_offset,
)
from .identify import AppearanceIdentifier
from .lips import curve_at
from .speaking import SpeakingOptions, SpeakingResult, speaking_masks

__all__ = [
    "BindEvidence",
    "BindOptions",
    "SpeakingOptions",
    "SpeakingResult",
    "VoiceEvidence",
    "bind_evidence",
    "bind_voices",
    "binding_margin",
    "join_parts",
    "people",
    "speaking_masks",
    "video_offset",
]


def correlation_llr(correlation: float, seconds: float, options: BindOptions) -> float:
    """Log-likelihood ratio of a correlation seen over some seconds, for the speaker against anyone else.

    Fisher's z of the correlation is normal with variance 1 / (n - 3) at n = 4 independent samples a second; the
    speaker's own mean varies by half of itself from person to person.
    """
    samples = 4.0 * seconds
    if samples <= 5:
        return 0.0
    z, mean = float(np.arctanh(np.clip(correlation, -0.99, 0.99))), float(np.arctanh(options.own_correlation))
    noise = 1.0 / (samples - 3)
    own, other = noise + (0.5 * mean) ** 2, noise + 0.08**2
    llr = -0.5 * (z - mean) ** 2 / own - 0.5 * np.log(own) + 0.5 * z**2 / other + 0.5 * np.log(other)
    return float(np.clip(llr, -6.0, 6.0))


def people(evidence: Sequence[BindEvidence], options: BindOptions | None = None) -> dict[tuple[int, str], int]:
    """Number the people of a video: tracks of one shot by id, tracks of different shots by appearance.

    Two tracks join when each is the other's nearest in its shot, they look the same, and the join would not
    put both faces of one clip into one person.

    Returns:
        (shot index, track id) -> person number, from 0 in order of first appearance.
    """
    options = options or BindOptions()
    looks: dict[tuple[int, str], list[Float64]] = {}
    apart: set[frozenset[tuple[int, str]]] = set()
    for clip in evidence:
        ends = [(clip.shot_index, clip.track_a), (clip.shot_index, clip.track_b)]
        apart.add(frozenset(ends))
        for key, text in zip(ends, (clip.identity_a, clip.identity_b), strict=True):
            looks.setdefault(key, [])
            if text:
                looks[key].append(unpack_identity(text))
    keys = sorted(looks)
    person = {key: i for i, key in enumerate(keys)}
    mean = {k: np.mean(v, axis=0) / max(float(np.linalg.norm(np.mean(v, axis=0))), 1e-9) for k, v in looks.items() if v}
    pairs = [
        (float(mean[p] @ mean[q]), p, q)
        for i, p in enumerate(keys)
        for q in keys[i + 1 :]
        if p[0] != q[0] and p in mean and q in mean and len(mean[p]) == len(mean[q])
    ]
    least = AppearanceIdentifier.between_shots if options.same_person is None else options.same_person
    for cosine, p, q in sorted(pairs, key=lambda item: (-item[0], item[1], item[2])):
        if cosine < least:
            break
        one, other = person[p], person[q]
        joined = {k for k in keys if person[k] in (one, other)}
        if one == other or any(pair <= joined for pair in apart if len(pair) == 2):
            continue
        for k in joined:
            person[k] = min(one, other)
    order: dict[int, int] = {}
    return {key: order.setdefault(person[key], len(order)) for key in keys}


def bind_voices(evidence: Sequence[BindEvidence], options: BindOptions | None = None) -> list[dict[str, str]]:
    """Give every voice of a video to a face, jointly over its clips.

    First by lip speed alone; the clips' common A/V offset is then read off the pairs so found, and the
    correlation of lips with sound at that offset joins the evidence.

    Args:
        evidence: of all clips of one video, in any order.

    Returns:
        For each clip, in the order given: voice id -> "a", "b" or "" (nobody in the picture), of the voices heard in
        it and of those they are parts of. "ab": now one of the two, now the other (two who sound the same).
    """
    options = options or BindOptions()
    person = people(evidence, options)
    offset, sure = video_offset(evidence, _decide(evidence, person, None, options), options)
    lag = -(offset if sure >= 0.9 else 0.0) - options.lip_lead_s
    return _decide(evidence, person, lag, options)


def binding_margin(
    clip: BindEvidence, faces: Mapping[str, str], offset: tuple[float, float], options: BindOptions | None = None
) -> float:
    """Log-likelihood ratio, from one clip's lips, of its voices' faces against the swapped ones; NaN without any.

    Args:
        faces: voice -> face, as :func:`bind_voices` chose for this clip.
        offset: of the video's sound, with its confidence (:func:`video_offset`).
    """
    options = options or BindOptions()
    lag_s = -(offset[0] if offset[1] >= 0.9 else 0.0) - options.lip_lead_s
    margins = []
    for voice in clip.voices:
        a, b = (
            llr + correlation_llr(curve_at(np.asarray(curve), lag_s), seen, options)
            for llr, seen, curve in (
                (voice.llr_a, voice.seen_a, voice.curve_a),
                (voice.llr_b, voice.seen_b, voice.curve_b),
            )
        )
        if faces.get(voice.voice) in ("a", "b"):
            margins.append(a - b if faces[voice.voice] == "a" else b - a)
    return float(sum(margins)) if margins else float("nan")


def _pair(person: dict[tuple[int, str], int], clip: BindEvidence) -> tuple[int, int]:
    first, second = sorted(person[clip.shot_index, track] for track in (clip.track_a, clip.track_b))
    return first, second


def _decide(
    evidence: Sequence[BindEvidence], person: dict[tuple[int, str], int], lag_s: float | None, options: BindOptions
) -> list[dict[str, str]]:
    total: dict[tuple[str, int], float] = {}
    shared: dict[tuple[str, int, int], float] = {}
    for clip in evidence:
        for voice in clip.voices:
            pair = _pair(person, clip)
            shared[voice.voice, *pair] = shared.get((voice.voice, *pair), 0.0) + voice.llr_either
            for track, llr, seen, curve in (
                (clip.track_a, voice.llr_a, voice.seen_a, voice.curve_a),
                (clip.track_b, voice.llr_b, voice.seen_b, voice.curve_b),
            ):
                key = (voice.voice, person[clip.shot_index, track])
                if lag_s is not None:
                    llr += correlation_llr(curve_at(np.asarray(curve), lag_s), seen, options)
                total[key] = total.get(key, 0.0) + llr
    faces = []
    for clip in evidence:
        chosen: dict[str, str] = {}
        known = {voice.voice for voice in clip.voices}
        for name in sorted(known | {parent_voice(v) for v in known} - {""}):  # whole voices before their parts
            a = total.get((name, person[clip.shot_index, clip.track_a]), 0.0)
            b = total.get((name, person[clip.shot_index, clip.track_b]), 0.0)
            best = "a" if a >= b else "b"
            whole = chosen.get(parent_voice(name), "")
            either = shared.get((name, *_pair(person, clip)), 0.0)
            if either - max(a, b, 0.0) >= options.least_shared_llr:
                chosen[name] = "ab"
            elif max(a, b) >= options.least_llr:
                chosen[name] = best
            else:  # a part of a voice stays with it unless the lips speak against it
                chosen[name] = whole if whole in ("a", "b") and (a if whole == "a" else b) > -options.least_llr else ""
        faces.append(chosen)
    return faces
