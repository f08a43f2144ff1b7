"""Frames for the identity, and smooth deformations that cannot move, turn or scale a face."""

from __future__ import annotations

import numpy as np
import torch
from duologue.fitting.compiled_model import size_change
from duologue.fitting.identity import choose_frames, with_anatomy_modes
from duologue.fitting.residuals import Observations
from duologue.fitting.rotations import exp_so3

from .heads import FLIP, ellipsoid_head


def test_anatomy_modes_leave_the_frame_alone() -> None:
    head = ellipsoid_head(300, 4, 3)
    more = with_anatomy_modes(head, 0.004, 0.025, 10)
    np.testing.assert_array_equal(more.shape_dirs[..., :4], head.shape_dirs)
    modes = more.shape_dirs[..., 4:].sum(0)
    assert modes.shape == (300, 3, 30)
    points = head.mean.sum(0)
    arms = points - points.mean(0)
    size = size_change(torch.as_tensor(points), torch.as_tensor(modes)).numpy()
    np.testing.assert_allclose(size, 0, atol=1e-14)
    np.testing.assert_allclose(modes.mean(0), 0, atol=1e-14)
    spin = np.cross(arms[..., None], modes, axis=1).sum(0)
    np.testing.assert_allclose(spin, 0, atol=1e-12)
    assert 0.0005 < np.sqrt((modes**2).sum((1, 2)).mean()) < 0.007  # metres: all modes together
    moved = np.linalg.norm(more.joint_dirs[..., 4:], axis=1).max(1)
    assert (moved[:3] == 0).all()
    assert (moved[3:] > 1e-4).all()  # eyeballs follow the face


def test_anatomy_is_mostly_symmetric() -> None:
    """Left and right halves of a symmetric cloud move alike three times as much as they move apart."""
    right = ellipsoid_head(200, 2, 2).mean.sum(0)
    right = right[right[:, 0] > 0.002]
    points = np.concatenate([right, right * [-1, 1, 1]])
    base = ellipsoid_head(len(points), 1, 1)
    weights = np.stack([np.ones(len(points)), np.zeros(len(points))])
    from dataclasses import replace

    head = replace(base, mean=weights[..., None] * points, weights=weights)
    modes = with_anatomy_modes(head, 0.004, 0.025, 12).shape_dirs[0, :, :, 1:]
    n = len(right)
    mirrored = modes[n:] * np.array([-1.0, 1.0, 1.0])[None, :, None]
    same, apart = ((modes[:n] + mirrored) ** 2).sum(), ((modes[:n] - mirrored) ** 2).sum()
    assert same > 4 * apart


def test_frames_are_chosen_for_their_views() -> None:
    t = 120
    yaw = torch.zeros(2, t, dtype=torch.float64)
    yaw[:, 100:110] = 0.7
    yaw[:, 110:] = -0.7
    vectors = torch.stack([0 * yaw, yaw, 0 * yaw], -1)
    mask = torch.ones(2, t, dtype=torch.bool)
    mask[1, 6:] = False
    data = Observations(torch.zeros(2, t, 2, 4), torch.ones(2, t, 4), mask, torch.arange(t).expand(2, t) / 25.0)
    index, kept = choose_frames(exp_so3(vectors) @ torch.tensor(FLIP), data, 9)
    first = index[0].tolist()
    assert kept[0].all()
    assert first == sorted(set(first))
    assert any(100 <= k < 110 for k in first)
    assert any(k >= 110 for k in first)
    assert kept[1].sum() == 6  # a short chain gives all it has, once
    assert index[1][kept[1]].tolist() == list(range(6))
