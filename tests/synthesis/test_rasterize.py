from __future__ import annotations

import numpy as np
import pytest
from duologue.synthesis.rasterize import Canvas, composite, lay_over, project

QUAD = np.array([[0, 2, 1], [0, 3, 2]], np.int32)  # corners clockwise on the screen: faces the viewer


def square(x0: float, y0: float, x1: float, y1: float, z: tuple[float, float, float, float]) -> np.ndarray:
    return np.array([[x0, y0, z[0]], [x1, y0, z[1]], [x1, y1, z[2]], [x0, y1, z[3]]])


def flat(color: tuple[int, int, int], alpha: int = 255) -> np.ndarray:
    return np.tile(np.array([*color, alpha], np.uint8), (4, 4, 1))


def draw(canvas: Canvas, points: np.ndarray, texture: np.ndarray, uv: np.ndarray | None = None, **how: bool) -> None:
    uv = np.full((4, 2), 2.0, np.float32) if uv is None else uv
    canvas.draw(points, uv, np.ones(4, np.float32), QUAD, texture, **how)


def test_covers_exactly_the_pixels_whose_centres_lie_inside() -> None:
    canvas = Canvas(20, 10, 1)
    draw(canvas, square(3, 2, 8, 6, (1, 1, 1, 1)), flat((10, 20, 30)))
    covered = canvas.color[..., 3] == 255
    expected = np.zeros((10, 20), bool)
    expected[2:6, 3:8] = True
    np.testing.assert_array_equal(covered, expected)
    np.testing.assert_array_equal(canvas.color[3, 4], (10, 20, 30, 255))


def test_nearer_wins_whatever_the_order() -> None:
    for order in ((0, 1), (1, 0)):
        canvas = Canvas(12, 12, 1)
        layers = [
            (square(0, 0, 12, 12, (2, 2, 2, 2)), flat((200, 0, 0))),
            (square(3, 3, 9, 9, (1, 1, 1, 1)), flat((0, 200, 0))),
        ]
        for k in order:
            draw(canvas, *layers[k])
        assert canvas.color[6, 6, 1] == 200
        assert canvas.color[1, 1, 0] == 200


def test_back_faces_are_dropped_only_when_asked() -> None:
    points = square(2, 2, 8, 8, (1, 1, 1, 1))[::-1].copy()
    canvas = Canvas(10, 10, 1)
    draw(canvas, points, flat((9, 9, 9)))
    assert not canvas.color.any()
    draw(canvas, points, flat((9, 9, 9)), cull=False)
    assert canvas.color[5, 5, 3] == 255


def test_texture_is_perspective_correct() -> None:
    """Along a receding edge the middle of the screen shows the texture at z0 / (z0 + z1), not at one half."""
    ramp = np.zeros((4, 256, 4), np.uint8)
    ramp[..., 0] = np.arange(256)[None]
    ramp[..., 3] = 255
    uv = np.array([[0.5, 2], [255.5, 2], [255.5, 2], [0.5, 2]], np.float32)
    canvas = Canvas(101, 11, 1)
    draw(canvas, square(0, 0, 101, 11, (1, 3, 3, 1)), ramp, uv)
    assert canvas.color[5, 50, 0] == pytest.approx(255 * 1 / (1 + 3), abs=2)


def test_behind_the_camera_is_not_drawn() -> None:
    canvas = Canvas(10, 10, 1)
    draw(canvas, square(0, 0, 10, 10, (-1, 1, 1, -1)), flat((9, 9, 9)))
    assert not canvas.color.any()


def test_clear_leaves_nothing_behind() -> None:
    canvas = Canvas(16, 16, 2)
    draw(canvas, square(2.3, 3.7, 12.1, 14.9, (1, 1, 1, 1)), flat((9, 9, 9)))
    canvas.clear()
    assert not canvas.color.any()
    assert not canvas.depth.any()
    assert canvas.touched is None


def test_composite_weighs_edges_by_coverage() -> None:
    canvas = Canvas(10, 10, 2)
    draw(canvas, square(2.5, 2, 8, 8, (1, 1, 1, 1)), flat((200, 200, 200)))
    image = np.full((10, 10, 3), 100, np.uint8)
    composite(canvas, image)
    assert image[5, 2, 0] == pytest.approx(150, abs=1)  # half covered
    assert image[5, 5, 0] == 200
    assert image[5, 1, 0] == 100


def test_lay_over_premultiplied() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    lay_over(image, np.full((2, 2, 4), 128, np.uint8), 1, 1)
    assert image[1, 1, 0] == pytest.approx(128 + 100 * 127 / 255, abs=1)
    assert image[0, 0, 0] == 100


def test_project_is_a_pinhole_at_the_centre() -> None:
    np.testing.assert_allclose(project(np.array([[0.1, -0.2, 2.0]]), 1000.0, 640, 480), [[370.0, 140.0, 2.0]])


def test_eye_shows_its_iris_where_the_axis_points() -> None:
    focal, width = 2000.0, 200
    lids = np.array([[-0.012, -0.008, 1.0], [0.012, -0.008, 1.0], [0.012, 0.008, 1.0], [-0.012, 0.008, 1.0]])
    ball = np.array([0.0, 0.0, 1.013])
    colors = np.array([[200, 200, 200], [40, 40, 40], [90, 60, 30], [5, 5, 5], [120, 80, 80]], np.float32)
    for angle in (-20.0, 0.0, 20.0):
        axis = np.array([np.sin(np.radians(angle)), 0.0, -np.cos(np.radians(angle))])
        canvas = Canvas(width, width, 1)
        canvas.draw_eye(project(lids, focal, width, width), QUAD, focal, ball, axis, (0.012, 0.00585, 0.002), colors)
        dark = np.argwhere((canvas.color[..., 3] == 255) & (canvas.color[..., 0] < 10))
        seen = ball + 0.012 * axis
        expected = project(seen[None], focal, width, width)[0, :2]
        np.testing.assert_allclose(dark.mean(0)[::-1] + 0.5, expected, atol=0.8)
