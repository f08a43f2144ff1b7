"""Stored deviations of a rotation: about which axis a head is unsure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from duologue.fitting.camera import PRIOR_LOG_SD
from duologue.fitting.fit import FitOptions, HeadFitter
from duologue.fitting.load_head import load_head_model
from duologue.fitting.reduce import reduce
from duologue.fitting.uncertainty import detector_variance
from duologue.schemas.heads import FittedPair
from duologue.synthesis.face_tracks import TrackOptions, sample_clip

AHEAD = np.array([[0.0, 0.0, 1.0]])


def test_a_detector_is_half_as_unsure_about_the_way_a_face_looks() -> None:
    np.testing.assert_allclose(detector_variance(AHEAD, AHEAD), [[1.0, 1.0, 0.25]])
    turned = np.array([[np.sin(0.6), 0.0, np.cos(0.6)]])
    np.testing.assert_allclose(detector_variance(turned, AHEAD).sum(), 2.25)
    np.testing.assert_allclose(detector_variance(turned, AHEAD)[0, 1], 1.0)


def test_near_profile_the_turn_itself_is_lost() -> None:
    angle = np.radians(62.0)
    seen = detector_variance(np.array([[np.sin(angle), 0.0, np.cos(angle)]]), AHEAD)[0]
    np.testing.assert_allclose(seen[1], 1.0 + 2.0**2)
    np.testing.assert_allclose(seen[[0, 2]].sum(), 1.25)


def test_an_unknown_focal_length_turns_heads_about_the_vertical_where_they_stand_side_by_side() -> None:
    head = load_head_model("canonical")
    options = TrackOptions(n_frames=30, occlusions=(0, 0), separation=0.9)
    clip, truth = sample_clip(head, options, 7)
    base = FitOptions(turned_error=0.0, iris_error=0.0, detector_bias=False)
    known, unknown = (
        HeadFitter(reduce(head), replace(base, focal_px=focal)).fit([clip])[0] for focal in (truth.focal_px, None)
    )
    assert isinstance(known, FittedPair)
    assert isinstance(unknown, FittedPair)
    for one, other in ((known.a, unknown.a), (known.b, unknown.b)):
        added = np.sqrt(
            np.median(other.rotation_sd.astype(float) ** 2 - one.rotation_sd.astype(float) ** 2, axis=0).clip(0)
        )
        ray = np.median(other.head_centre, axis=0)
        ray /= np.linalg.norm(ray)
        assert added[1] > 0.9 * abs(ray[0] * ray[2]) * PRIOR_LOG_SD
        assert added[1] > 3 * max(added[0], added[2])
