"""Scores of rows whose labels are known and not measured: synthetic, dubbed and generated ones."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..schemas.heads import FittedPair, Relation
from ..schemas.records import Turn
from ..schemas.tracks import Float32
from .audio_scores import sound_scores
from .score import mean, median, rotation_range_deg, yaw_of


def exact_scores(
    fitted: FittedPair, relation: Relation, turns: tuple[Turn, ...], speaking: tuple[Float32, Float32],
    sound: Float32 | None,
) -> dict[str, float]:  # fmt: skip
    """Scores by the names of the pair schema, as for a row that was measured without any error.

    Args:
        speaking: [T] of a and b, 0..1. sound: [N] 16 kHz; None without audio, and without scores of it.
    """
    scores: dict[str, float] = {}
    for who, head in (("a", fitted.a), ("b", fitted.b)):
        known = head.valid
        yaw = float(np.percentile(np.degrees(np.abs(yaw_of(head.rotation[known]))), 95))
        scores |= {
            f"valid_{who}": float(known.mean()),
            f"face_scale_{who}": median(fitted.focal_px * 0.063 / head.head_centre[:, 2]),
            **{f"{name}_{who}": yaw for name in ("yaw95", "yaw_bound")},
            f"rotation_range_{who}": rotation_range_deg(head.rotation[known]),
            f"residual_{who}": 0.0,
            f"confidence_{who}": 1.0,
            f"gaze_sd_{who}": 0.0,
            f"expressiveness_{who}": mean(head.expression[known].std(axis=0)),
        }
    scores |= {"mutual_gaze_share": mean(relation.mutual_gaze), "distance_sd": 0.0}
    if sound is None:
        return scores
    faces = [turn.face for turn in turns]
    return scores | sound_scores(sound, float(fitted.times[0]), turns) | {
        "speaking_a": float(speaking[0].mean()),
        "speaking_b": float(speaking[1].mean()),
        "bound_share": 1.0,
        "off_screen_share": 0.0,
        "turn_changes": float(sum(x != y for x, y in pairwise(faces))),
        "av_offset_s": 0.0,
        "av_offset_confidence": 1.0,
    }  # fmt: skip
