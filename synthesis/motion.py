"""How two people move while they talk: heads, gaze, blinks and lips. All seeded, all in the world frame.

Angles of a head: azimuth turns the face towards +x, elevation towards +y (down), roll tips it clockwise on the screen;
all zero faces the audience (direction -z).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from ..fitting.head_model import HeadModel, rotation_matrix
from .script import Line

Array = npt.NDArray[np.float64]
RATE = 200.0  # Hz of the internal clock
MAX_EYE = np.radians(36.0)  # eyeball in the head
COMFORT = np.radians(29.0)  # beyond this eccentricity the head turns further
_FLIP = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class HeadMotion:
    """One person over T frames.

    Attributes:
        rotation: [T, 3, 3] head in the world (zero rotation faces -z). root: [T, 3] metres, world.
        body_rotation: [T, 3, 3]. expression: [T, E]. jaw: [T, 3]. eyes: [T, 2, 3] axis-angle, model frame.
        target: [T] what is looked at: 0 the partner, 1 elsewhere.
    """

    rotation: Array
    root: Array
    body_rotation: Array
    expression: Array
    jaw: Array
    eyes: Array
    target: npt.NDArray[np.int64]


# Mouth shapes: jaw opening, rounding (pucker), funnel, spread, lips pressed, lower lip tucked in: each 0..1.
_SHAPES: dict[str, tuple[float, float, float, float, float, float]] = {
    "open": (1.00, 0.00, 0.05, 0.15, 0.0, 0.0),
    "mid": (0.62, 0.00, 0.05, 0.25, 0.0, 0.0),
    "spread": (0.34, 0.00, 0.00, 0.85, 0.0, 0.0),
    "schwa": (0.45, 0.05, 0.10, 0.05, 0.0, 0.0),
    "round": (0.55, 0.45, 0.75, 0.00, 0.0, 0.0),
    "pucker": (0.26, 1.00, 0.45, 0.00, 0.0, 0.0),
    "closed": (0.00, 0.05, 0.00, 0.00, 1.0, 0.0),
    "labiodental": (0.12, 0.00, 0.00, 0.15, 0.0, 1.0),
    "teeth": (0.14, 0.05, 0.15, 0.35, 0.0, 0.0),
    "hush": (0.16, 0.55, 0.65, 0.00, 0.0, 0.0),
    "tongue": (0.30, 0.00, 0.00, 0.20, 0.0, 0.0),
    "back": (0.32, 0.00, 0.05, 0.05, 0.0, 0.0),
    "rest": (0.00, 0.00, 0.00, 0.00, 0.0, 0.0),
}
_EXACT = {
    "aI": "open", "aU": "open", "A:": "open", "A@": "open", "a": "open", "aa": "open", "0": "open", "V": "open",
    "E": "mid", "e": "mid", "eI": "mid", "e@": "mid", "i:": "spread", "i": "spread", "I": "spread", "i@": "spread",
    "I2": "spread", "O:": "round", "O": "round", "oU": "round", "OI": "round", "O@": "round", "o@": "round",
    "u:": "pucker", "U": "pucker", "U@": "pucker", "w": "pucker", "@": "schwa", "@2": "schwa", "3:": "schwa",
    "3": "schwa", "@L": "schwa", "p": "closed", "b": "closed", "m": "closed", "f": "labiodental", "v": "labiodental",
    "s": "teeth", "z": "teeth", "T": "tongue", "D": "tongue", "S": "hush", "Z": "hush", "tS": "hush", "dZ": "hush",
    "t": "tongue", "d": "tongue", "n": "tongue", "l": "tongue", "r": "hush", "j": "spread", "k": "back", "g": "back",
    "N": "back", "h": "schwa", "?": "back", "t#": "tongue", "t2": "tongue",
}  # fmt: skip
_BY_LETTER = {
    **dict.fromkeys("aA", "open"),
    **dict.fromkeys("eE", "mid"),
    **dict.fromkeys("iI", "spread"),
    **dict.fromkeys("oO", "round"),
    **dict.fromkeys("uU", "pucker"),
}


def viseme(symbol: str) -> str:
    """Mouth shape of an espeak phoneme; unknown vowels go by their first letter, the rest by "schwa"."""
    if not symbol:
        return "rest"
    return _EXACT.get(symbol) or _BY_LETTER.get(symbol[0], "schwa")


# Mouths open before the voice is heard (100-300 ms before an onset: Chandrasekaran et al., PLoS Comput. Biol. 5, 2009;
# the peak correlation of lips with sound in real talk lies at 80-160 ms).
LIP_LEAD_S = 0.12


def mouth_track(lines: tuple[Line, ...], speaker: int, seconds: float) -> Array:
    """[N, 6] mouth shape at RATE Hz (columns of the shapes above). Lips lead the sound and coarticulate."""
    n = int(np.ceil(seconds * RATE)) + 1
    track = np.zeros((n, 6))
    for line in lines:
        if line.speaker != speaker:
            continue
        for p in line.utterance.phonemes:
            first = round((line.start_s + p.start_s - LIP_LEAD_S) * RATE)
            last = round((line.start_s + p.end_s - LIP_LEAD_S) * RATE)
            track[max(first, 0) : max(last, first + 1, 0)] = _SHAPES[viseme(p.symbol)]
    smooth = gaussian_filter1d(track, 0.030 * RATE, axis=0)
    # Closures must really close, however short: the least-smoothed press wins over the open jaw.
    press = gaussian_filter1d(track[:, 4:6], 0.016 * RATE, axis=0)
    smooth[:, 4:6] = np.maximum(smooth[:, 4:6], press)
    smooth[:, 0] *= 1.0 - np.clip(1.25 * smooth[:, 4], 0.0, 1.0)
    return np.asarray(smooth)


def follow(goal: Array, tau: float) -> Array:
    """Critically damped second-order response with time constant ``tau`` seconds, started at rest on the first goal."""
    a = np.exp(-1.0 / (RATE * tau))
    b = (1.0 - a) ** 2
    zi = np.array([(2 * a - a * a), -(a * a)])[:, None] * goal[:1]
    return np.asarray(lfilter([b], [1.0, -2.0 * a, a * a], goal, axis=0, zi=zi)[0])


def smooth_noise(rng: np.random.Generator, n: int, sigma_s: float, amplitude: npt.ArrayLike) -> Array:
    """Smooth noise [n, K] with standard deviation ``amplitude`` [K]."""
    amount = np.atleast_1d(np.asarray(amplitude, dtype=np.float64))
    pad = int(4 * sigma_s * RATE) + 1
    raw = gaussian_filter1d(rng.normal(size=(n + 2 * pad, len(amount))), sigma_s * RATE, axis=0)[pad : pad + n]
    scale = np.sqrt(2.0 * np.sqrt(np.pi) * sigma_s * RATE)  # a Gaussian window shrinks white noise by this
    return np.asarray(raw * scale * amount)


def _speaking(lines: tuple[Line, ...], speaker: int, n: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(n, dtype=bool)
    for line in lines:
        if line.speaker == speaker:
            mask[int(line.start_s * RATE) : int(line.end_s * RATE)] = True
    return mask


def _fixations(
    rng: np.random.Generator, speaking: npt.NDArray[np.bool_], mutual_share: float
) -> list[tuple[int, int, int]]:
    """(start, end, what) samples; what: 0 partner, 1 audience side, 2 table, 3 up and away.

    Listeners look at the speaker for about ``mutual_share`` of the time, speakers two thirds of that (Kendon 1967).
    """
    out: list[tuple[int, int, int]] = []
    position = 0
    at_partner = True
    while position < len(speaking):
        share = mutual_share * (0.66 if speaking[position] else 1.0)
        mean = 2.2 * share / 0.6 if at_partner else 2.2 * (1.0 - share) / 0.6
        duration = float(np.clip(rng.lognormal(np.log(max(mean, 0.3)), 0.45), 0.35, 6.0))
        end = min(len(speaking), position + int(duration * RATE))
        out.append((position, end, 0 if at_partner else int(rng.choice((1, 2, 3), p=(0.5, 0.25, 0.25)))))
        position, at_partner = end, (not at_partner if share < 0.999 else True)
    return out


def blink_track(rng: np.random.Generator, n: int, saccades: list[int]) -> Array:
    """[n] lid closure 0..1: about 17 a minute, and often with a large gaze shift."""
    closure = np.zeros(n)
    times = [s / RATE + 0.02 for s in saccades if rng.random() < 0.3]
    clock = float(rng.exponential(2.0)) + 0.4
    while clock * RATE < n:
        times.append(clock)
        clock += float(np.clip(rng.lognormal(np.log(3.0), 0.6), 0.6, 10.0))
    t = np.arange(n) / RATE
    for start in times:
        down = np.clip((t - start) / 0.08, 0.0, 1.0)
        up = np.clip((t - start - 0.12) / 0.16, 0.0, 1.0)
        ease = down * down * (3 - 2 * down) * (1.0 - up * up * (3 - 2 * up))
        closure = np.maximum(closure, ease)
    return closure


def head_rotation(azimuth: Array, elevation: Array, roll: Array) -> Array:
    """[..., 3, 3] from angles in radians (see the module's text)."""
    zero = np.zeros_like(azimuth)
    turn = rotation_matrix(np.stack([zero, -azimuth, zero], axis=-1))
    nod = rotation_matrix(np.stack([elevation, zero, zero], axis=-1))
    tip = rotation_matrix(np.stack([zero, zero, roll], axis=-1))
    return np.asarray(turn @ nod @ tip)


def aim_angles(direction: Array) -> tuple[Array, Array]:
    return np.arctan2(direction[..., 0], -direction[..., 2]), np.arcsin(
        np.clip(direction[..., 1] / np.linalg.norm(direction, axis=-1), -1.0, 1.0)
    )


def eye_rotations(direction: Array) -> Array:
    """Torsion-free axis-angle [..., 3] that turns +z to ``direction`` [..., 3] (model frame), at most MAX_EYE."""
    unit = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    axis = np.stack([-unit[..., 1], unit[..., 0], np.zeros_like(unit[..., 0])], axis=-1)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.minimum(np.arctan2(sine, unit[..., 2:3]), MAX_EYE)
    return np.asarray(np.where(sine > 1e-9, axis / np.maximum(sine, 1e-9) * angle, 0.0))


def face_coefficients(
    model: HeadModel, mouth: Array, blink: Array, smile: Array, brow: Array, look_down: Array
) -> tuple[Array, Array]:
    """Coefficients [T, E] and jaw [T, 3] from the mouth track and lids."""
    names = {name: k for k, name in enumerate(model.expression_names)}
    out = np.zeros((len(mouth), len(names)))
    jaw_open, rounding, funnel, spread, press, tuck = mouth.T
    tied: Mapping[str, Array] = {
        "eyeBlinkLeft": np.maximum(blink, look_down),
        "eyeBlinkRight": np.maximum(blink, look_down),
        "mouthPucker": 0.55 * rounding,
        "mouthFunnel": 0.55 * funnel,
        "mouthStretchLeft": 0.35 * spread,
        "mouthStretchRight": 0.35 * spread,
        "mouthSmileLeft": smile + 0.15 * spread,
        "mouthSmileRight": smile + 0.15 * spread,
        "mouthPressLeft": 0.5 * press,
        "mouthPressRight": 0.5 * press,
        "mouthRollLower": 0.5 * tuck + 0.2 * press,
        "mouthUpperUpLeft": 0.25 * jaw_open + 0.2 * spread,
        "mouthUpperUpRight": 0.25 * jaw_open + 0.2 * spread,
        "mouthLowerDownLeft": 0.25 * jaw_open + 0.15 * spread,
        "mouthLowerDownRight": 0.25 * jaw_open + 0.15 * spread,
        "browInnerUp": np.clip(brow, 0.0, 1.0),
        "browOuterUpLeft": np.clip(brow, 0.0, 1.0) * 0.7,
        "browOuterUpRight": np.clip(brow, 0.0, 1.0) * 0.7,
        "cheekSquintLeft": 0.4 * smile,
        "cheekSquintRight": 0.4 * smile,
    }
    for name, values in tied.items():
        if name in names:
            out[:, names[name]] = values
    jaw = np.zeros((len(mouth), 3))
    opening = min(0.17, 0.55 * float(model.jaw_limits[0, 1]))
    jaw[:, 0] = opening * jaw_open
    return out, jaw


def animate(
    model: HeadModel,
    shapes: tuple[Array, Array],
    positions: tuple[Array, Array],
    body_deg: tuple[float, float],
    lines: tuple[Line, ...],
    times: Array,
    mutual_share: float,
    seed: int,
    sizes: tuple[float, float] = (1.0, 1.0),
) -> tuple[HeadMotion, HeadMotion]:
    """Move both people.

    Args:
        shapes: [S] each. positions: [3] resting head centres, world, metres. body_deg, sizes: see ``scenario.Person``.
        times: [T] seconds.

    Returns:
        The left and the right person's motion at ``times``.
    """
    n = int(np.ceil((times[-1] if len(times) else 0.0) * RATE)) + 2
    clock = np.arange(n) / RATE

    def sampled(track: Array) -> Array:
        flat = track.reshape(n, -1)
        columns = [np.interp(times, clock, flat[:, k]) for k in range(flat.shape[1])]
        return np.asarray(np.stack(columns, axis=-1).reshape(len(times), *track.shape[1:]))

    rotations, roots, bodies, looks, marks, lids = [], [], [], [], [], []
    for who in (0, 1):
        rng = np.random.default_rng([seed, 23, who])
        speaking = _speaking(lines, who, n)
        side = 1.0 if body_deg[who] >= 0 else -1.0
        body = np.radians(body_deg[who])
        toward = positions[1 - who] - positions[who]
        places = {
            0: toward,
            1: np.array([side * rng.uniform(0.05, 0.35), rng.uniform(-0.05, 0.05), -1.2]),
            2: np.array([side * 0.35, 0.45, -0.55]),
            3: np.array([side * 0.9, -0.45, -0.9]),
        }
        fixations = _fixations(rng, speaking, mutual_share)
        look = np.zeros((n, 3))
        label = np.zeros(n, dtype=np.int64)
        for start, end, what in fixations:
            jitter = np.zeros(3) if what == 0 else rng.normal(0.0, 0.06, 3)
            look[start:end] = places[what] + jitter
            label[start:end] = what
        azimuth, elevation = aim_angles(look)
        # The head makes a part of each gaze shift, later and slower than the eyes (Freedman & Sparks 1997).
        shift = azimuth - body
        turned = np.sign(shift) * np.maximum(0.47 * np.abs(shift), np.abs(shift) - COMFORT)
        goal = np.stack([body + turned, 0.5 * elevation, np.zeros(n)], axis=-1)
        delay = int(0.06 * RATE)
        goal = np.concatenate([np.repeat(goal[:1], delay, axis=0), goal[:-delay]]) if n > delay else goal
        head = follow(goal, 0.13) + smooth_noise(rng, n, 0.7, np.radians((1.6, 1.3, 1.5)))
        beat = gaussian_filter1d(speaking.astype(float), 0.15 * RATE)[:, None]
        head += beat * smooth_noise(rng, n, 0.13, np.radians((1.2, 1.9, 0.8)))
        for line in lines:
            if line.speaker == who and line.kind == "backchannel":
                t = clock - line.start_s
                swing = np.where((t > 0) & (t < 0.95), np.sin(2 * np.pi * t / 0.475) * np.sin(np.pi * t / 0.95), 0.0)
                head[:, 1] += np.radians(5.0) * swing
        head = sampled(head)
        rotations.append(head_rotation(head[:, 0], head[:, 1], head[:, 2]))
        sway = sampled(smooth_noise(rng, n, 1.1, (0.006, 0.003, 0.007)))
        joints = sizes[who] * model.posed_joints(shapes[who])
        centre = 0.5 * (joints[3] + joints[4]) - joints[0]  # model frame, from the root
        rest = head_rotation(np.array(body), np.array(0.0), np.array(0.0))
        roots.append(positions[who] - rest @ _FLIP @ centre + sway)
        turn = body + 0.25 * (gaussian_filter1d(head[:, 0], 8.0) - body) if len(times) > 1 else head[:, 0]
        bodies.append(head_rotation(turn, np.full(len(times), 0.0), 0.3 * head[:, 2]))
        looks.append((look, label))
        starts = [s for s, _, _ in fixations[1:]]
        lids.append(sampled(blink_track(rng, n, starts)))
        mood = np.clip(smooth_noise(rng, n, 1.5, 0.18)[:, 0] + 0.12, 0.0, 0.6)
        raised = np.clip(smooth_noise(rng, n, 0.35, 0.35)[:, 0] - 0.25, 0.0, 1.0) * (0.4 + 0.6 * beat[:, 0])
        marks.append((sampled(mood), sampled(raised)))
    out: list[HeadMotion] = []
    joints_of = [size * model.posed_joints(shape) for size, shape in zip(sizes, shapes, strict=True)]
    centres = []
    for who in (0, 1):
        middle = 0.5 * (joints_of[who][3] + joints_of[who][4]) - joints_of[who][0]
        centres.append(roots[who] + rotations[who] @ (_FLIP @ middle))
    for who in (0, 1):
        look, label = looks[who]
        rng = np.random.default_rng([seed, 29, who])
        wander = sampled(smooth_noise(rng, n, 0.12, (0.006, 0.006, 0.0)))  # on the partner's face
        jumps = np.flatnonzero(np.any(np.diff(look, axis=0) != 0.0, axis=1)) + 1
        # A saccade takes 20-60 ms; between source frames it is seen half-way, as in a real video.
        moving = gaussian_filter1d(look, 0.010 * RATE, axis=0) if len(jumps) else look
        partner = gaussian_filter1d((label == 0).astype(float), 0.010 * RATE)
        share = sampled(partner)[:, None]
        static = positions[who] + sampled(moving)
        target = static + share * (centres[1 - who] + wander - positions[1 - who])
        eyes = np.zeros((len(times), 2, 3))
        for k in (0, 1):
            ball = roots[who] + rotations[who] @ (_FLIP @ (joints_of[who][3 + k] - joints_of[who][0]))
            direction = np.einsum("tji,tj->ti", rotations[who] @ _FLIP, target - ball)
            eyes[:, k] = eye_rotations(direction)
        down = np.clip((np.mean(eyes[:, :, 0], axis=1) - 0.1) * 0.9, 0.0, 0.4)
        mouth = sampled(mouth_track(lines, who, n / RATE)[:n])
        expression, jaw = face_coefficients(model, mouth, lids[who], marks[who][0], marks[who][1], down)
        nearest = np.clip(np.round(times * RATE).astype(int), 0, n - 1)
        out.append(
            HeadMotion(
                rotations[who], roots[who], bodies[who], expression, jaw, eyes, (label[nearest] != 0).astype(np.int64)
            )
        )
    return out[0], out[1]
