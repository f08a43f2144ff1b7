"""Rotations over time where heads face away: nothing goes the long way round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from dataset_factory import make_head, make_pair
from duologue.fitting.head_model import rotation_matrix
from duologue.model.dualtalk_convert import pair_to_clip
from duologue.model.dualtalk_format import GROUPS
from duologue.model.gaps import bridged
from duologue.model.nominal import AXES
from duologue.model.turns import wrapped
from duologue.schemas.heads import HeadTrack

ANGLE = np.pi + np.linspace(-0.2, 0.2, 75)
STORED = wrapped(np.stack([0 * ANGLE, ANGLE, 0 * ANGLE], 1)).astype(np.float32)
GAP = np.ones(75, bool)
GAP[34:41] = False  # over half a turn


def away(head: HeadTrack) -> HeadTrack:
    return replace(head, rotation=np.where(GAP[:, None], STORED, np.nan).astype(np.float32), valid=GAP)


def test_wrapped_vectors_are_the_same_rotations() -> None:
    turns = np.random.default_rng(0).normal(size=(50, 3)) * 4
    np.testing.assert_allclose(rotation_matrix(wrapped(turns)), rotation_matrix(turns), atol=1e-9)
    assert np.linalg.norm(wrapped(turns), axis=1).max() <= np.pi
    assert np.abs(STORED[:, 1]).max() <= np.pi


def test_gaps_are_bridged_the_short_way() -> None:
    whole = bridged(away(make_head(np.random.default_rng(0), 75, -0.4, holes=False)))
    np.testing.assert_allclose(rotation_matrix(whole.rotation), rotation_matrix(STORED), atol=1e-5)
    assert np.linalg.norm(whole.rotation, axis=1).max() <= np.pi + 1e-6


def test_the_export_bridges_the_short_way_too() -> None:
    pair = make_pair(0, frames=75)
    fitted = replace(pair.fitted, a=away(pair.fitted.a), b=replace(pair.fitted.b, valid=np.ones(75, bool)))
    motion = pair_to_clip(replace(pair, fitted=fitted)).sides[0].motion
    assert motion is not None
    np.testing.assert_allclose(rotation_matrix(motion[:, GROUPS["pose"]] * AXES), rotation_matrix(STORED), atol=1e-5)
