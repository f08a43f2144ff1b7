"""A head of another size: the same picture from as much farther away, but for its eyes."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.fitting.load_head import load_head_model
from duologue.synthesis.actor import Actor
from duologue.synthesis.avatar import build_avatar
from duologue.synthesis.identities import load_identity
from duologue.synthesis.motion import animate
from duologue.synthesis.scenario import Camera


@pytest.mark.parametrize("size", [0.8, 1.1])
def test_size_and_distance_make_one_picture_and_eyes_keep_their_size(size: float) -> None:
    model = load_head_model("canonical")
    avatar = build_avatar(load_identity("collins"), model)
    places = (np.array([-0.4, 0.0, 0.0]), np.array([0.4, 0.0, 0.0]))

    def actor(factor: float) -> Actor:
        shapes = (avatar.shape, avatar.shape)
        motion = animate(model, shapes, places, (30.0, -30.0), (), np.arange(3) / 25.0, 0.7, 4, (factor, factor))[0]
        return Actor(avatar, motion, factor)

    one, other = actor(1.0), actor(size)
    np.testing.assert_allclose(other.centre(0), one.centre(0), atol=0.01)  # heads turn about necks of their size

    def seen(who: Actor, factor: float) -> np.ndarray:
        middle = who.centre(0)
        x, y, z = (middle + factor * np.array([0.3, -0.1, -1.5])).tolist()
        return who.landmarks(0, Camera((x, y, z), tuple(middle.tolist()), 900.0), 900.0, 960, 540)

    plain, sized = seen(one, 1.0), seen(other, size)
    np.testing.assert_allclose(sized[:468, :2], plain[:468, :2], atol=0.3)

    def width(points: np.ndarray) -> float:
        return float(np.linalg.norm(points[469, :2] - points[471, :2]))

    assert width(sized) == pytest.approx(width(plain) / size, rel=0.05)
