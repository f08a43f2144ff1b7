"""How two people behave in a conversation, from its sound and their places: gaze, heads, faces; seeded.

Everything a network should be able to learn is tied to what it is given. Lips follow the phonemes and the loudness of
the person's own voice; heads beat with its stress and brows rise with it and with questions; listeners look more than
speakers, look away when they begin and back when they end (Kendon, Acta Psychol. 26, 1967), less the closer they are
(Argyle and Dean, Sociometry 28, 1965); listeners nod with back-channels and where the other one pauses; smiles are
returned. The rest is smooth noise. Frame: a camera at the origin (x right, y down, z forward), metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from ..fitting.head_model import HeadModel
from .dress import FLIP
from .motion import (
    COMFORT,
    LIP_LEAD_S,
    RATE,
    HeadMotion,
    aim_angles,
    blink_track,
    eye_rotations,
    face_coefficients,
    follow,
    head_rotation,
    mouth_track,
    smooth_noise,
)
from .script import Line
from .voices import SAMPLE_RATE

Array = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

HEAD_REACH = np.radians(72.0)  # of the head on the body, from straight ahead
LOOK_REACH = np.radians(100.0)  # a partner further round than this is not looked at
APART = np.radians(24.0)  # what is looked at instead of the partner lies at least this far from the partner
_HOP = round(SAMPLE_RATE / RATE)


@dataclass(frozen=True)
class Manner:
    """How one person behaves.

    Attributes:
        look_listening, look_speaking: share of the time that the partner is looked at.
        beat: radians that a stressed syllable moves the head down. sway: radians, sd of slow head motion in speech.
        nods: chance of a nod where the other one pauses. smile: 0..1, resting level. brows: how much they rise.
        articulation: size of the mouth's movements, 1 as written. head_share: of a gaze shift that the head makes.
    """

    look_listening: float = 0.78
    look_speaking: float = 0.45
    beat: float = 0.07
    sway: float = 0.03
    nods: float = 0.5
    smile: float = 0.12
    brows: float = 0.5
    articulation: float = 1.0
    head_share: float = 0.47


@dataclass(frozen=True)
class Seat:
    """Where one person is: resting head centre [3] metres and body azimuth, radians (see :mod:`.motion`); ``step``
    [3] metres is how far they have moved by the end, around ``step_s`` seconds."""

    centre: Array
    azimuth: float
    step: Array
    step_s: float


@dataclass(frozen=True)
class _Sound:
    """What one person's voice does, [N] at RATE."""

    speaking: Bool
    loudness: Array  # 0..1, of the person's loud speech
    stress: Array  # 0 and up, about 1 at a stressed syllable
    question: Array  # 0..1 towards the end of a question


def voice_signals(lines: tuple[Line, ...], who: int, n: int) -> _Sound:
    """Loudness and stress of one person's voice on a clock of ``RATE`` Hz, from the samples themselves."""
    power, speaking, question = np.zeros(n), np.zeros(n, dtype=bool), np.zeros(n)
    for line in lines:
        if line.speaker != who:
            continue
        samples = line.utterance.samples.astype(np.float64)
        blocks = len(samples) // _HOP
        level = np.mean(samples[: blocks * _HOP].reshape(blocks, _HOP) ** 2, axis=1)
        first = round(line.start_s * RATE)
        last = min(first + blocks, n)
        power[first:last] += level[: last - first]
        speaking[first:last] = True
        if line.text.endswith("?"):
            begin = max(last - round(0.7 * RATE), first)
            question[begin:last] = np.linspace(0.0, 1.0, last - begin)
    level = np.sqrt(gaussian_filter1d(power, 0.02 * RATE))
    loud = float(np.percentile(level[speaking], 90)) if speaking.any() else 1.0
    loudness = np.clip(level / loud, 0.0, 1.5)
    stress = np.maximum(gaussian_filter1d(loudness, 0.05 * RATE) - gaussian_filter1d(loudness, 0.35 * RATE), 0.0)
    return _Sound(speaking, np.minimum(loudness, 1.0), stress / 0.35, gaussian_filter1d(question, 0.06 * RATE))


def gaze_plan(
    rng: np.random.Generator, own: Bool, other: Bool, manner: Manner, closeness: float
) -> npt.NDArray[np.int64]:
    """[N] what a person looks at: 0 the partner, 1 aside, 2 down, 3 up.

    Args:
        own, other: [N] who speaks. closeness: factor on the shares, below 1 for people very near to each other.
    """
    n = len(own)
    plan = np.zeros(n, dtype=np.int64)

    def elsewhere(speaks: bool) -> int:
        return int(rng.choice((1, 2, 3), p=(0.4, 0.3, 0.3) if speaks else (0.6, 0.35, 0.05)))

    position, partner = 0, bool(rng.random() < 0.6)
    while position < n:
        speaks = bool(own[position])
        share = closeness * (manner.look_speaking if speaks else manner.look_listening)
        if not speaks and not other[position]:
            share = closeness * 0.5 * (manner.look_speaking + manner.look_listening)
        mean = 3.2 * (share if partner else 1.0 - share)
        end = position + round(float(np.clip(rng.lognormal(np.log(max(mean, 0.25)) - 0.1, 0.45), 0.3, 7.0)) * RATE)
        plan[position:end] = 0 if partner else elsewhere(speaks)
        position, partner = end, not partner

    def put(start_s: float, end_s: float, what: int) -> None:
        plan[max(round(start_s * RATE), 0) : max(round(end_s * RATE), 0)] = what

    for start, end in _runs(_bridged(own)):
        if rng.random() < 0.6 and end - start > RATE:
            put(start / RATE - 0.25, start / RATE + float(rng.uniform(0.4, 1.2)), elsewhere(True))
        if rng.random() < 0.8:
            put(end / RATE - float(rng.uniform(0.3, 0.8)), end / RATE + float(rng.uniform(0.4, 1.0)), 0)
    for start, _ in _runs(_bridged(other)):
        if rng.random() < 0.8:
            put(start / RATE + 0.25, start / RATE + float(rng.uniform(1.0, 2.2)), 0)
    for start, end in _runs_of(plan):  # no fixation is shorter than 0.2 s
        if end - start < 0.2 * RATE and start > 0:
            plan[start:end] = plan[start - 1]
    return plan


def _bridged(mask: Bool, gap_s: float = 0.7) -> Bool:
    """Pauses shorter than ``gap_s`` filled."""
    out = mask.copy()
    for start, end in _runs(~mask):
        if end - start < gap_s * RATE and start > 0 and end < len(mask):
            out[start:end] = True
    return out


def _runs(mask: Bool) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _runs_of(labels: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return list(pairwise(edges))


def _wrapped(angle: Array) -> Array:
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)


def _aim(azimuth: npt.ArrayLike, elevation: npt.ArrayLike) -> Array:
    """Unit directions [..., 3] of angles as :func:`.motion.aim_angles` gives them."""
    az, el = np.asarray(azimuth, dtype=np.float64), np.asarray(elevation, dtype=np.float64)
    return np.stack([np.sin(az) * np.cos(el), np.sin(el), -np.cos(az) * np.cos(el)], axis=-1)


def _away(rng: np.random.Generator, what: int, azimuth: float, partner: Array) -> Array:
    """A direction to look at instead of the partner: about the body's front, at least APART from the partner."""
    ranges = {1: ((15, 40), (-5, 8)), 2: ((0, 12), (18, 32)), 3: ((10, 30), (-20, -8))}[what]
    best, widest = _aim(azimuth, 0.0), -1.0
    for _ in range(12):
        side = 1.0 if rng.random() < 0.5 else -1.0
        direction = _aim(azimuth + side * np.radians(rng.uniform(*ranges[0])), np.radians(rng.uniform(*ranges[1])))
        angle = float(np.arccos(np.clip(direction @ partner, -1.0, 1.0)))
        if angle > widest:
            best, widest = direction, angle
        if angle >= APART:
            break
    return best


def _nods(lines: tuple[Line, ...], who: int, manner: Manner, clock: Array, rng: np.random.Generator) -> Array:
    """[N] radians of head pitch: with each back-channel, and often where the partner pauses."""
    swings: list[tuple[float, float, float]] = []
    for line in lines:
        if line.kind == "backchannel" and line.speaker == who:
            swings.append((line.start_s - 0.1, float(rng.uniform(0.8, 1.3)), float(rng.uniform(4.5, 7.5))))
        elif line.kind == "turn" and line.speaker != who:
            pauses = [p.start_s for p in line.utterance.phonemes if not p.symbol and p.end_s - p.start_s > 0.1]
            for at in (*pauses, line.utterance.duration_s):
                if rng.random() < manner.nods:
                    swings.append(
                        (line.start_s + at + 0.15, float(rng.uniform(0.6, 1.2)), float(rng.uniform(3.0, 6.0)))
                    )
    out = np.zeros(len(clock))
    for start, length, degrees in sorted(swings):
        t = (clock - start) / length
        inside = (t > 0) & (t < 1)
        cycles = max(round(length / 0.42), 1)
        out[inside] = np.radians(degrees) * (np.sin(2 * np.pi * cycles * t) * np.sin(np.pi * t))[inside]
    return out


def behave(
    model: HeadModel,
    shapes: tuple[Array, Array],
    seats: tuple[Seat, Seat],
    manners: tuple[Manner, Manner],
    lines: tuple[Line, ...],
    times: Array,
    rng: np.random.Generator,
) -> tuple[HeadMotion, HeadMotion]:
    """Move both people.

    Args:
        shapes: [S] each. times: [T] seconds, rising from 0.

    Returns:
        Both motions at ``times``; ``target`` is 0 where the plan is to look at the partner.
    """
    n = int(np.ceil(times[-1] * RATE)) + 2
    clock = np.arange(n) / RATE

    def sampled(track: Array) -> Array:
        flat = track.reshape(n, -1)
        columns = [np.interp(times, clock, flat[:, k]) for k in range(flat.shape[1])]
        return np.asarray(np.stack(columns, axis=-1).reshape(len(times), *track.shape[1:]))

    voices = [voice_signals(lines, who, n) for who in (0, 1)]
    between = seats[1].centre - seats[0].centre
    closeness = float(np.clip(0.7 + 0.35 * np.linalg.norm(between), 0.75, 1.05))
    moods = smooth_noise(rng, n, 1.5, (0.16, 0.16))
    shared = smooth_noise(rng, n, 1.2, 0.16)[:, 0]
    later = np.concatenate([np.repeat(shared[:1], round(0.4 * RATE)), shared[: -round(0.4 * RATE)]])
    leader = int(rng.integers(2))
    heads, rests, plans, looks, centres = [], [], [], [], []
    for who in (0, 1):
        seat, manner, voice = seats[who], manners[who], voices[who]
        toward = between / np.linalg.norm(between) * (1.0 if who == 0 else -1.0)
        plan = gaze_plan(rng, voice.speaking, voices[1 - who].speaking, manner, closeness)
        straight = float(aim_angles(toward)[0])
        if abs(float(_wrapped(np.array(straight - seat.azimuth)))) > LOOK_REACH:
            plan[plan == 0] = 1
        look = np.empty((n, 3))
        for start, end in _runs_of(plan):
            what = int(plan[start])
            look[start:end] = toward if what == 0 else _away(rng, what, seat.azimuth, toward)
        azimuth, elevation = aim_angles(look)
        shift = _wrapped(azimuth - seat.azimuth)
        turned = np.sign(shift) * np.maximum(manner.head_share * np.abs(shift), np.abs(shift) - COMFORT)
        goal = np.stack([np.clip(turned, -HEAD_REACH, HEAD_REACH), 0.5 * elevation, np.zeros(n)], axis=-1)
        delay = round(0.06 * RATE)
        goal = np.concatenate([np.repeat(goal[:1], delay, axis=0), goal[:-delay]])
        talking = gaussian_filter1d(voice.speaking.astype(float), 0.15 * RATE)
        head = follow(goal, 0.13) + smooth_noise(rng, n, 0.7, np.radians((1.2, 1.0, 1.3)))
        head += talking[:, None] * manner.sway * smooth_noise(rng, n, 0.25, (1.0, 0.5, 0.7))
        head[:, 1] += manner.beat * voice.stress + _nods(lines, who, manner, clock, rng)
        step = np.clip((clock - seat.step_s) / 3.0 + 0.5, 0.0, 1.0)
        lean = 0.02 * gaussian_filter1d(voice.speaking.astype(float), 0.5 * RATE)[:, None] * toward
        place = seat.centre + (step * step * (3 - 2 * step))[:, None] * seat.step + lean
        place = place + smooth_noise(rng, n, 1.1, (0.006, 0.003, 0.007))
        angles = sampled(head)
        rotation = head_rotation(seat.azimuth + angles[:, 0], angles[:, 1], angles[:, 2])
        joints = model.posed_joints(shapes[who])
        centre = 0.5 * (joints[3] + joints[4]) - joints[0]
        # The neck's foot stays where it is: a head that turns carries its eyes around it.
        rest = head_rotation(np.array(seat.azimuth), np.array(0.0), np.array(0.0))
        root = sampled(place) - rest @ FLIP @ centre
        heads.append(rotation)
        rests.append(root)
        plans.append(plan)
        looks.append(look)
        centres.append(root + rotation @ (FLIP @ centre))
    out = []
    for who in (0, 1):
        seat, manner, voice = seats[who], manners[who], voices[who]
        joints = model.posed_joints(shapes[who])
        partner = sampled(gaussian_filter1d((plans[who] == 0).astype(float), 0.010 * RATE))[:, None]
        static = centres[who] + 1.5 * sampled(gaussian_filter1d(looks[who], 0.010 * RATE, axis=0))
        wander = sampled(smooth_noise(rng, n, 0.12, (0.006, 0.006, 0.0)))  # over the partner's face
        target = static + partner * (centres[1 - who] + wander - static)
        eyes = np.zeros((len(times), 2, 3))
        for k in (0, 1):
            ball = rests[who] + heads[who] @ (FLIP @ (joints[3 + k] - joints[0]))
            eyes[:, k] = eye_rotations(np.einsum("tji,tj->ti", heads[who] @ FLIP, target - ball))
        starts = [start for start, _ in _runs_of(plans[who])[1:]]
        lids = sampled(blink_track(rng, n, starts))
        down = np.clip((np.mean(eyes[:, :, 0], axis=1) - 0.1) * 0.9, 0.0, 0.4)
        mouth = mouth_track(lines, who, n / RATE)[:n] * manner.articulation
        lead = round(LIP_LEAD_S * RATE)  # the loudness of the sound that the lips prepare
        mouth[:, 0] *= 0.7 + 0.4 * np.concatenate([voice.loudness[lead:], np.zeros(lead)])
        smile = np.clip(manner.smile + moods[:, who] + (shared if who == leader else later), 0.0, 0.8)
        brow = np.clip(manner.brows * (0.9 * voice.question + 0.45 * voice.stress), 0.0, 1.0)
        expression, jaw = face_coefficients(model, sampled(mouth), lids, sampled(smile), sampled(brow), down)
        nearest = np.clip(np.round(times * RATE).astype(int), 0, n - 1)
        away = (plans[who][nearest] != 0).astype(np.int64)
        body = np.repeat(head_rotation(np.array(seat.azimuth), np.array(0.0), np.array(0.0))[None], len(times), axis=0)
        out.append(HeadMotion(heads[who], rests[who], body, expression, jaw, eyes, away))
    return out[0], out[1]
