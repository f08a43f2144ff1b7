"""Dialogues from two people who were recorded alone: who speaks when is known exactly, because it is chosen.

As the second half of the hours of "Talking Together" (Shan et al., CVPR 2026): two single-speaker clips are aligned,
the floor passes from one to the other, and the side without the floor is muted. Heads keep their own motion, moved
rigidly into one room; a muted mouth rests. There is no real interaction in it: use such rows to learn lips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.signal import oaconvolve
from scipy.spatial.transform import Rotation

from ..fitting.dyad import relate
from ..fitting.layout import TYPICAL, place
from ..schemas.audio import encode_audio
from ..schemas.errors import BadInput
from ..schemas.heads import FittedPair, HeadTrack
from ..schemas.pair import SAMPLE_RATE, pair_id
from ..schemas.records import Turn
from ..schemas.row import Pair, Provenance, Source, Voices
from ..schemas.tracks import Bool, Float32
from .exact import exact_scores

WIDTH, HEIGHT = 1920, 1080
RAMP_S = 0.02  # fades of the muted voices
REST_S = 0.12  # sd of the fade of a muted mouth
SHORTEST_TURN_S = 0.25
_MOUTH = ("mouth", "jaw", "cheek")
_KEPT_SCORES = ("valid", "face_scale", "residual", "confidence", "sharpness", "gaze_sd")


@dataclass(frozen=True)
class DubOptions:
    """How floors pass.

    Attributes:
        turn_s: shortest and longest hold of the floor, seconds. gap_s: mean and sd of the gap to the next one; negative
            gaps are overlaps.
        overlap_share: of changes that overlap by 0.2 to 0.7 s whatever the gap.
        distance_m: smallest and largest distance between the heads.
        least_speech: share of a clip in which its person must speak, to be of use.
        shortest_s: shortest dialogue.
    """

    turn_s: tuple[float, float] = (1.2, 4.0)
    gap_s: tuple[float, float] = (0.2, 0.25)
    overlap_share: float = 0.25
    distance_m: tuple[float, float] = (0.5, 2.2)
    least_speech: float = 0.3
    shortest_s: float = 3.0


def floor_plan(
    speech: tuple[Bool, Bool], fps: float, options: DubOptions, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """[2, T] who has the floor (voice on). Changes fall into the speaker's own pauses where one is near.

    Args:
        speech: [T] each, where each person speaks in their own clip.
    """
    frames = len(speech[0])
    on = np.zeros((2, frames), dtype=bool)
    who, at = int(rng.integers(2)), 0
    while at < frames:
        end = at + round(float(rng.uniform(*options.turn_s)) * fps)
        pauses = np.flatnonzero(speech[who][:-1] & ~speech[who][1:]) + 1
        near = pauses[np.abs(pauses - end) < 0.8 * fps]
        if len(near):
            end = int(near[np.argmin(np.abs(near - end))])
        end = min(max(end, at + 1), frames)
        if frames - end < SHORTEST_TURN_S * fps:
            end = frames
        on[who, at:end] = True
        gap = float(np.clip(rng.normal(*options.gap_s), -0.7, 1.0))
        if rng.random() < options.overlap_share:
            gap = -float(rng.uniform(0.2, 0.7))
        who, at = 1 - who, max(end + round(gap * fps), at + 1) if end < frames else frames
    return on


def dub(
    one: Pair, other: Pair, names: Sequence[str], group: str, config_hash: str, code_version: str, seed: int,
    options: DubOptions = DubOptions(),
) -> Pair:  # fmt: skip
    """One dialogue of two single-person rows; ``one`` becomes a, on the left.

    Args:
        names: of the head model's expression modes; a muted mouth rests in those of mouth, jaw and cheeks, or in all
            of them where the names do not tell (``()``).
        group: the smallest video id among the people who are dubbed with one another: the row's video id, so that all
            of a group fall into one split.

    Raises:
        BadInput: too short together, other frame rates or head models, or someone who hardly speaks.
    """
    left, right = one.fitted, other.fitted
    if left.fps != right.fps or left.head_model_sha256 != right.head_model_sha256:
        raise BadInput("stage_failed", "clips of different frame rates or head models cannot meet")
    frames = min(len(left.times), len(right.times))
    fps = left.fps
    seconds = frames / fps
    if seconds < options.shortest_s:
        raise BadInput("too_short", f"{seconds:.2f} s together, {options.shortest_s:g} s are needed")
    speech = (_speech(one, frames), _speech(other, frames))
    for pair, mask in ((one, speech[0]), (other, speech[1])):
        if mask.mean() < options.least_speech:
            raise BadInput("stage_failed", f"{pair.pair_id} speaks in {mask.mean():.0%} of the clip")
    key = hashlib.sha256(f"{one.pair_id}|{other.pair_id}|{seed}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(key[:16], "<u4"))
    floor = floor_plan(speech, fps, options, rng)
    sound = np.zeros(round(seconds * SAMPLE_RATE))
    for pair, mask in ((one, floor[0]), (other, floor[1])):
        sound += _muted(pair, mask, len(sound))
    sound *= min(1.0, 0.97 / max(float(np.abs(sound).max()), 1e-9))
    speaking = tuple((floor[k] & speech[k]).astype(np.float32) for k in (0, 1))
    turns = sorted(
        (Turn(first / fps, last / fps, f"v{k}", "ab"[k]) for k in (0, 1) for first, last in _runs(speaking[k] > 0)),
        key=lambda turn: (turn.start_s, turn.face),
    )
    heads = _placed(left.a, right.a, frames, rng, options)
    heads = [_rested(head, on, fps, names) for head, on in zip(heads, floor, strict=True)]
    centres = np.concatenate([head.head_centre[head.valid] for head in heads])
    half = max(
        float(((np.abs(centres[:, 0]) + 0.15) / centres[:, 2]).max()) / (WIDTH / 2),
        float(((np.abs(centres[:, 1]) + 0.2) / centres[:, 2]).max()) / (HEIGHT / 2),
    )
    fitted = FittedPair(
        np.arange(frames) / fps, fps, WIDTH, HEIGHT, 0.95 / half, "user", 0.0, left.head_model_id,
        left.head_model_sha256, left.head_model_tier, heads[0], heads[1],
    )  # fmt: skip
    identifier = pair_id(key.hex(), 0.0, seconds, config_hash)
    relation = relate(fitted, seed=identifier)
    audio = sound.astype(np.float32)
    scores = exact_scores(fitted, relation, tuple(turns), (speaking[0], speaking[1]), audio)
    for who, pair in (("a", one), ("b", other)):
        scores |= {f"{name}_{who}": pair.scores[f"{name}_a"] for name in _KEPT_SCORES if f"{name}_a" in pair.scores}
    sources = (one.source, other.source)
    licences = sorted({source.license for source in sources if source.license})
    backends = tuple(dict.fromkeys((*one.provenance.backends, *other.provenance.backends)))
    return Pair(
        pair_id=identifier,
        source=Source(
            group, " + ".join(source.source_uri for source in sources), 0.0, seconds, source_id=f"dub:{group[:32]}",
            license="; ".join(licences), attribution="; ".join(s.attribution for s in sources if s.attribution),
            origin="dubbed",
        ),
        fitted=fitted,
        relation=relation,
        voices=Voices(tuple(turns), speaking[0], speaking[1], "v0", "v1", encode_audio(audio)),
        scores=scores,
        provenance=Provenance(config_hash, code_version, backends),
        person_a=person_of(one),
        person_b=person_of(other),
    )  # fmt: skip


def person_of(pair: Pair) -> str:
    """Who a single-person row shows: its person id, else its video."""
    return pair.person_a or f"video-{pair.source.video_id}"


def _speech(pair: Pair, frames: int) -> Bool:
    return np.asarray(np.nan_to_num(pair.voices.speaking_a[:frames]) > 0.5)


def _runs(mask: Bool) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _muted(pair: Pair, on: Bool, length: int) -> npt.NDArray[np.float64]:
    """[length] the person's sound at a common loudness, silent without the floor."""
    samples = pair.voices.samples()[:length].astype(np.float64)
    out = np.zeros(length)
    out[: len(samples)] = samples
    gain = np.repeat(on, int(np.ceil(length / len(on))))[:length].astype(np.float64)
    gain = np.clip(_faded(gain), 0.0, 1.0)
    hard = np.repeat(on, int(np.ceil(length / len(on))))[:length]
    loud = float(np.sqrt(np.mean(out[hard] ** 2))) if hard.any() else 0.0
    return out * gain * (0.08 / max(loud, 1e-4))


def _faded(gain: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Gaussian ramps, by Fourier transform: the direct sum over 1,300 samples was four fifths of a dialogue's time."""
    sd = RAMP_S * SAMPLE_RATE / 2
    reach = round(4 * sd)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd) ** 2)
    return np.asarray(oaconvolve(np.pad(gain, reach, mode="edge"), kernel / kernel.sum(), mode="valid"))


def _placed(a: HeadTrack, b: HeadTrack, frames: int, rng: np.random.Generator, options: DubOptions) -> list[HeadTrack]:
    """Both heads in one camera frame: whoever looked into the camera now looks near the other one."""
    layout = TYPICAL | {
        "distance_m": float(np.exp(rng.uniform(*np.log(options.distance_m)))),
        "facing_a_deg": float(rng.normal(6.0, 6.0)),
        "facing_b_deg": float(rng.normal(6.0, 6.0)),
        "height_difference_m": float(rng.normal(0.0, 0.05)),
        "depth_difference_m": float(rng.normal(0.0, 0.08)),
    }
    placed = place(layout, 1.2 + 0.6 * layout["distance_m"])
    out = []
    for head, who in ((a, "a"), (b, "b")):
        cut = _cut(head, frames)
        turn = Rotation.from_rotvec(placed[f"rotation_{who}"]).as_matrix()
        rest = np.median(cut.head_centre[cut.valid], axis=0).astype(np.float64)
        # How the head stood to the viewing ray of its own camera is kept, whatever its place in that picture.
        ray = np.arctan2(rest[0], rest[2])
        turn = turn @ Rotation.from_rotvec([0.0, -ray, 0.0]).as_matrix()
        centre = placed[f"centre_{who}"]
        rotation = cut.rotation.astype(np.float64)
        rotation[cut.valid] = Rotation.from_matrix(
            turn @ Rotation.from_rotvec(rotation[cut.valid]).as_matrix()
        ).as_rotvec()
        single = np.float32
        out.append(
            replace(
                cut,
                rotation=rotation.astype(single),
                translation=((cut.translation - rest) @ turn.T + centre).astype(single),
                head_centre=((cut.head_centre - rest) @ turn.T + centre).astype(single),
                gaze=(cut.gaze @ turn.T).astype(single),
                gaze_raw=(cut.gaze_raw @ turn.T).astype(single),
                box=np.full((frames, 4), np.nan, single),  # there is no picture
            )
        )
    return out


def _cut(head: HeadTrack, frames: int) -> HeadTrack:
    total = len(head.valid)
    if not head.valid[:frames].any():
        raise BadInput("landmarks_lost", f"track {head.track_id} has no valid frame")
    arrays: dict[str, Any] = {
        name: value[:frames]
        for name, value in vars(head).items()
        if isinstance(value, np.ndarray) and name != "shape" and len(value) == total
    }
    return replace(head, **arrays)


def _rested(head: HeadTrack, on: Bool, fps: float, names: Sequence[str]) -> HeadTrack:
    """A mouth at rest where the person is muted: the median of its quietest tenth, faded in and out."""
    keep = np.clip(gaussian_filter1d(on.astype(np.float64), REST_S * fps), 0.0, 1.0)
    keep = np.where(on, 1.0, keep)[:, None]  # a voice that is heard has its whole mouth
    opening = head.jaw[head.valid, 0]
    quiet = np.flatnonzero(head.valid)[opening <= np.quantile(opening, 0.1)]
    chosen = [k for k, name in enumerate(names) if name.lower().startswith(_MOUTH)]
    columns = chosen if chosen else list(range(head.expression.shape[1]))
    expression: Float32 = head.expression.copy()
    rest = np.median(head.expression[quiet][:, columns], axis=0)
    expression[:, columns] = (keep * head.expression[:, columns] + (1 - keep) * rest).astype(np.float32)
    jaw = (keep * head.jaw + (1 - keep) * np.median(head.jaw[quiet], axis=0)).astype(np.float32)
    return replace(head, expression=expression, jaw=jaw)
