"""Small synthetic data sets: valid rows with plausible motion, no pixels and no video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from duologue.schemas.audio import encode_audio
from duologue.schemas.files import Files
from duologue.schemas.finish import finish_dataset, write_pairs, write_rejects
from duologue.schemas.heads import FittedPair, HeadTrack, Relation
from duologue.schemas.pair import SAMPLE_RATE, pair_id
from duologue.schemas.records import Backend, Reject, Turn
from duologue.schemas.row import Pair, Provenance, Source, Voices

FPS = 25.0
CONFIG_HASH = "c0ffee" * 4
N_SHAPE, N_EXPRESSION = 10, 20


def make_head(
    rng: np.random.Generator, frames: int, side: float, *, holes: bool = True, facing: float = 0.9, track_id: str = "t0"
) -> HeadTrack:
    """A head 1.5 m away at x = ``side`` metres that turns a little, opens its jaw, and looks about."""
    t = np.arange(frames) / FPS
    valid = np.ones(frames, dtype=bool)
    if holes and frames > 40:
        start = int(rng.integers(5, frames - 20))
        valid[start : start + 3] = False
    phase = rng.uniform(0, 6.28, 3)
    rotation = np.stack(
        [
            0.05 * np.sin(2.1 * t + phase[0]),
            np.sign(side) * facing + 0.15 * np.sin(0.9 * t + phase[1]),
            0.04 * np.sin(1.3 * t + phase[2]),
        ],
        axis=1,
    )
    centre = np.stack([side + 0.01 * np.sin(0.7 * t), np.full(frames, 0.02), 1.5 + 0.02 * np.sin(0.5 * t)], axis=1)
    jaw = np.stack([0.12 * (1 + np.sin(9 * t + phase[0])), np.zeros(frames), np.zeros(frames)], axis=1)
    eyes = 0.15 * np.sin(1.7 * t[:, None, None] + rng.uniform(0, 6.28, (1, 1, 3))) * np.ones((1, 2, 1))
    eyes[:, :, 2] = 0
    yaw = -rotation[:, 1] - eyes[:, 0, 1]
    gaze = np.stack([np.sin(yaw), 0.1 * np.sin(t), -np.cos(yaw)], axis=1)
    gaze /= np.linalg.norm(gaze, axis=1, keepdims=True)
    focal, half = 900.0, 70.0
    u = 640 + focal * centre[:, 0] / centre[:, 2]
    v = 360 + focal * centre[:, 1] / centre[:, 2]
    fields: dict[str, np.ndarray] = {
        "expression": 0.5 * np.sin(t[:, None] * np.linspace(0.5, 4, N_EXPRESSION) + rng.uniform(0, 6.28, N_EXPRESSION)),
        "jaw": jaw,
        "neck": np.zeros((frames, 3)),
        "rotation": rotation,
        "translation": centre + np.array([0.0, 0.09, 0.06]),
        "eyes": eyes,
        "gaze_raw": gaze,
        "gaze": gaze,
        "head_centre": centre,
        "rotation_sd": np.full((frames, 3), 0.02),
        "translation_sd": np.full(frames, 0.12),
        "gaze_sd": np.full(frames, 0.07),
        "residual": np.full(frames, 0.03) + 0.005 * np.sin(t),
    }
    masked = {name: np.where(valid.reshape(-1, *[1] * (a.ndim - 1)), a, np.nan) for name, a in fields.items()}
    kept: dict[str, Any] = {name: value.astype(np.float32) for name, value in masked.items()}
    return HeadTrack(
        track_id=track_id,
        shape=rng.normal(size=N_SHAPE).astype(np.float32),
        **kept,
        box=np.stack([u - half, v - half, u + half, v + half], axis=1).astype(np.float32),
        confidence=np.where(valid, 0.9, 0.0).astype(np.float32),
        valid=valid,
        scale_log_sd=0.06,
    )


def make_relation(a: HeadTrack, b: HeadTrack) -> Relation:
    """Distance, looking angles and dyad frame of two heads; the captions are fixed."""
    offset = (b.head_centre - a.head_centre).astype(np.float64)
    distance = np.linalg.norm(offset, axis=1)
    first = int(np.flatnonzero(a.valid & b.valid)[0])
    x = offset[first] / distance[first]
    y = np.array([0.0, -1.0, 0.0])
    y = y - (y @ x) * x
    y /= np.linalg.norm(y)
    rows = np.stack([x, y, np.cross(x, y)])
    origin = (a.head_centre[first] + b.head_centre[first]).astype(np.float64) / 2
    transform = np.eye(4)
    transform[:3, :3] = rows
    transform[:3, 3] = -rows @ origin
    direction = offset / distance[:, None]
    looking_a = np.arccos(np.clip((a.gaze * direction).sum(1), -1, 1))
    looking_b = np.arccos(np.clip(-(b.gaze * direction).sum(1), -1, 1))
    mutual = np.exp(-((np.nan_to_num(looking_a, nan=3.0) + np.nan_to_num(looking_b, nan=3.0)) ** 2))
    single = np.float32
    return Relation(
        camera_to_dyad=transform,
        distance_m=distance.astype(single),
        relative_position_sd=np.full(len(distance), 0.08, single),
        looking_a=looking_a.astype(single),
        looking_b=looking_b.astype(single),
        mutual_gaze=mutual.astype(single),
        layout={"distance_m": float(np.nanmedian(distance)), "facing_a_deg": 30.0, "facing_b_deg": 35.0},
        codes=("distance:personal", "arrangement:face_to_face"),
        captions=("Two people talk face to face at arm's length.",),
    )


def make_pair(
    seed: int = 0,
    *,
    frames: int = 75,
    video: str | None = None,
    start_s: float = 1.7,
    audio: bool = True,
    scores: dict[str, float] | None = None,
    person_a: str = "",
    person_b: str = "",
) -> Pair:
    """One valid pair that passes the default thresholds; ``scores`` overrides some.

    Args:
        video: any text; rows with the same one share a video id.
    """
    rng = np.random.default_rng(seed)
    video_id = f"{abs(hash_text(video if video is not None else str(seed))):064x}"
    end_s = start_s + frames / FPS
    a, b = make_head(rng, frames, -0.4, track_id="t0"), make_head(rng, frames, 0.4, track_id="t1")
    first, overlap, middle = (start_s + share * frames / FPS for share in (0.03, 0.45, 0.5))
    turns = (Turn(first, middle, "v0", "a"), Turn(overlap, end_s, "v1", "b")) if audio else ()
    t = np.arange(frames) / FPS + start_s
    speaking = {
        who: np.array([float(any(s.face == who and s.start_s <= x < s.end_s for s in turns)) for x in t], np.float32)
        if audio
        else np.full(frames, np.nan, np.float32)
        for who in ("a", "b")
    }
    n = round(frames / FPS * SAMPLE_RATE)
    wave = (0.2 * np.sin(2 * np.pi * 180 * np.arange(n) / SAMPLE_RATE) + 0.01 * rng.normal(size=n)).astype(np.float32)
    fitted = FittedPair(
        times=t, fps=FPS, width=1280, height=720, focal_px=900.0, focal_source="prior", focal_log_sd=0.25,
        head_model_id="canonical", head_model_sha256="0" * 64, head_model_tier="canonical", a=a, b=b,
    )  # fmt: skip
    good = {
        "valid_a": float(a.valid.mean()), "valid_b": float(b.valid.mean()),
        "face_scale_a": 38.0, "face_scale_b": 36.0, "yaw95_a": 58.0, "yaw95_b": 59.0,
        "yaw_bound_a": 62.0, "yaw_bound_b": 63.0,
        "residual_a": 0.03, "residual_b": 0.03, "speech_share": 0.95, "bound_share": 1.0, "off_screen_share": 0.0,
        "overlap_share": 0.05, "snr_db": 22.0, "av_offset_s": 0.004, "av_offset_confidence": 4.0,
    }  # fmt: skip
    if not audio:
        for name in ("speech_share", "bound_share", "off_screen_share", "overlap_share", "snr_db", "av_offset_s"):
            good[name] = float("nan")
    return Pair(
        pair_id=pair_id(video_id, start_s, end_s, CONFIG_HASH),
        source=Source(video_id, f"videos/{video or seed}.mp4", start_s, end_s, source_id="", license="CC0-1.0"),
        fitted=fitted,
        relation=make_relation(a, b),
        voices=Voices(
            turns, speaking["a"], speaking["b"], "v0" if audio else "", "v1" if audio else "",
            encode_audio(wave) if audio else None,
        ),
        scores=good | (scores or {}),
        provenance=Provenance(CONFIG_HASH, "0.1.0", (Backend("faces", "mediapipe", "1" * 64, "Apache-2.0"),)),
        person_a=person_a,
        person_b=person_b,
    )  # fmt: skip


def hash_text(text: str) -> int:
    """A small number that depends on the text alone."""
    return int.from_bytes(text.encode()[:24].ljust(4, b"\0"), "big")


def make_pairs(count: int, **options: object) -> list[Pair]:
    """Distinct pairs, two to a video; every fifth has too little speech to be selected."""
    out = []
    for index in range(count):
        scores = {"speech_share": 0.1} if index % 5 == 4 else None
        pair = make_pair(index, video=f"video{index // 2}", start_s=1.7 + 3.0 * (index % 2), scores=scores, **options)  # type: ignore[arg-type]
        out.append(pair)
    return out


def write_dataset(
    root: Path | Files,
    pairs: list[Pair] | None = None,
    *,
    shards: int | None = None,
    rejects: list[Reject] | None = None,
    stage: str = "score",
) -> list[Pair]:
    """Write a complete data-set folder and return its pairs, sorted by id. By default six pairs and one reject.

    Args:
        stage: the last one of the funnel.
    """
    pairs = make_pairs(6) if pairs is None else pairs
    entries = write_pairs(root, pairs, shards=shards)
    if rejects is None:
        rejects = [Reject("f" * 64, "videos/one.mp4", "scan", "one_face", "one face in 40 of 40 frames", 0.0, 20.0)]
    funnel = {
        stage: {"kept": {"items": len(pairs), "hours": 0.005}},
        "scan": {"one_face": {"items": 1, "hours": 0.006}},
    }
    finish_dataset(
        root, entries, write_rejects(root, rejects), config_hash=CONFIG_HASH, code_version="0.1.0",
        config_yaml="scan:\n  interval_s: 0.5\n", funnel=funnel,
    )  # fmt: skip
    return sorted(pairs, key=lambda pair: pair.pair_id)


def without_audio(pair: Pair) -> Pair:
    """The same pair as a geometry-only run would measure it."""
    nan = np.full_like(pair.voices.speaking_a, np.nan)
    return replace(pair, voices=Voices((), nan, nan))
