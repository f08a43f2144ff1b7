"""Gaze by an appearance network: the virtual camera, its answer turned back, files that are no such network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from duologue.fitting.camera import Camera
from duologue.schemas.errors import UsageError
from duologue.schemas.tracks import face_scale_px
from duologue.transforms.appearance_gaze import DISTANCE_M, AppearanceGaze, direction, gaze_backend, normalisation
from duologue.transforms.tracklet import PieceTracks, Tracklet

onnx = pytest.importorskip("onnx")
SIDE = 32
CAMERA = Camera(640, 480, 700.0, "user", 0.01)


def network(path: Path, output: list[float] | None = None, side: int = SIDE, width: int = 2) -> str:
    """A network that says ``output`` whatever it sees, or the mean over the crop of its first channels."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.zeros((3, width), np.float32)
    if output is None:
        weight[:, : min(3, width)] = np.eye(3)[:, : min(3, width)]
    bias = np.array(output if output is not None else [0.0] * width, np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["gaze"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gaze",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("gaze", TensorProto.FLOAT, [1, width])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return str(path)


def face(centre: np.ndarray, roll: float = 0.0, side: float = 0.035) -> np.ndarray:
    """Landmarks [478, 3] of a flat face that faces the image plane at ``centre`` (metres, camera frame)."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-2 * side, 2 * side, (478, 2)), np.zeros((478, 1))], -1)
    for rows, x in (((33, 133), -1.0), ((362, 263), 1.0)):
        points[list(rows)] = [[x * side * f, -0.02, 0.0] for f in ((1.3, 0.7) if x < 0 else (0.7, 1.3))]
    points[61], points[291] = [-0.02, 0.04, 0.0], [0.02, 0.04, 0.0]
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    placed = points @ turn.T + centre
    depth = (placed[:, 2:] - centre[2]) * CAMERA.focal_px / centre[2]
    return np.concatenate([CAMERA.project(placed), depth], -1).astype(np.float32)


@pytest.mark.parametrize("roll", [0.0, 0.6, -0.4])
@pytest.mark.parametrize("where", [(0.0, 0.0, 1.0), (0.4, -0.2, 1.2), (-0.5, 0.25, 1.5)])
def test_the_virtual_camera_looks_at_the_face_upright(roll: float, where: tuple[float, float, float]) -> None:
    centre = np.array(where)
    marks = face(centre, roll)
    found = normalisation(marks, CAMERA, SIDE)
    assert found is not None
    rotation, homography = found
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    ray = np.append(CAMERA.normalise(marks[[33, 133, 362, 263, 61, 291], :2].mean(0)), 1.0)
    np.testing.assert_allclose(rotation @ (ray / np.linalg.norm(ray)), [0, 0, 1], atol=1e-6)

    def seen(point: np.ndarray) -> np.ndarray:
        p = homography @ np.append(point, 1.0)
        return np.asarray(p[:2] / p[2])

    np.testing.assert_allclose(seen(marks[[33, 133, 362, 263, 61, 291], :2].mean(0)), [SIDE / 2, SIDE / 2], atol=1e-3)
    right, left = seen(marks[[33, 133], :2].mean(0)), seen(marks[[362, 263], :2].mean(0))
    assert left[0] > right[0]
    assert abs(left[1] - right[1]) < 0.02 * (left[0] - right[0])  # the eyes are level in the crop
    # The crop shows every face from the same distance.
    expected = 960 / 448 * SIDE * 0.07 / DISTANCE_M
    measured = (left[0] - right[0]) * (0.063 / (float(face_scale_px(marks)) / CAMERA.focal_px * where[2]))
    assert measured == pytest.approx(expected, rel=0.12)


def test_pitch_and_yaw_are_those_of_the_literature() -> None:
    np.testing.assert_allclose(direction(np.array([0.0, 0.0])), [0, 0, -1], atol=1e-12)  # into the camera
    assert direction(np.array([0.3, 0.0]))[1] < 0  # up in the image
    assert direction(np.array([0.0, 0.3]))[0] < 0  # left in the image
    np.testing.assert_allclose(direction(np.array([0.0, 0.0, -2.0])), [0, 0, -1])


@pytest.mark.parametrize("roll", [0.0, 0.5])
def test_the_answer_is_turned_back_into_the_camera(tmp_path: Path, roll: float) -> None:
    centre = np.array([0.4, -0.2, 1.2])
    straight = AppearanceGaze(network(tmp_path / "straight.onnx", [0.0, 0.0]))
    marks = face(centre, roll)
    picture = np.zeros((480, 640, 3), np.uint8)
    gaze = straight.look(picture, marks, CAMERA.focal_px)
    ray = np.append(CAMERA.normalise(marks[[33, 133, 362, 263, 61, 291], :2].mean(0)), 1.0)
    np.testing.assert_allclose(gaze, -ray / np.linalg.norm(ray), atol=1e-5)  # it looks into the real camera
    up = AppearanceGaze(network(tmp_path / "up.onnx", [0.3, 0.0])).look(picture, marks, CAMERA.focal_px)
    assert np.degrees(np.arccos(float(up @ gaze))) == pytest.approx(np.degrees(0.3), abs=0.01)
    along = up - (up @ gaze) * gaze
    head_up = np.array([np.sin(roll), -np.cos(roll), 0.0])  # "up" is the rolled head's
    assert float(along @ head_up) / np.linalg.norm(along) > 0.95


def test_the_network_sees_the_face_not_its_surroundings(tmp_path: Path) -> None:
    marks = face(np.array([0.1, 0.0, 1.5]))
    picture = np.zeros((480, 640, 3), np.uint8)
    x, y = marks[:468, 0], marks[:468, 1]
    picture[int(y.min()) - 90 : int(y.max()) + 90, int(x.min()) - 90 : int(x.max()) + 90] = (255, 0, 0)
    colour = AppearanceGaze(network(tmp_path / "colour.onnx", width=3)).look(picture, marks, CAMERA.focal_px)
    found = normalisation(marks, CAMERA, SIDE)
    assert found is not None
    inside = found[0] @ colour.astype(np.float64)
    expected = (np.array([1.0, 0, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(inside, expected / np.linalg.norm(expected), atol=0.02)
    assert np.isnan(
        AppearanceGaze(network(tmp_path / "n.onnx", [0.0, 0.0])).look(
            picture, np.full((478, 3), np.nan, np.float32), None
        )
    ).all()


def test_a_piece_file_keeps_it() -> None:
    times = np.arange(4) / 25
    gaze = np.array([[0, 0, -1], [np.nan] * 3, [0, 1, 0], [1, 0, 0]], np.float32)
    ones = np.ones(4, np.float32)
    track = Tracklet("t0", times, np.zeros((4, 478, 3), np.float32), np.zeros((4, 4), np.float32), ones > 0, ones, ones,
                     np.zeros(1, np.float32), gaze=gaze)  # fmt: skip
    back = PieceTracks.from_arrays(PieceTracks(times, (track,)).to_arrays()).tracklets[0]
    assert back.gaze is not None
    np.testing.assert_array_equal(back.gaze, gaze)


def test_what_is_no_gaze_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        gaze_backend("onnx", str(tmp_path / "absent.onnx"))
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(UsageError, match="does not load"):
        gaze_backend("onnx", str(tmp_path / "junk.onnx"))
    with pytest.raises(UsageError, match="expected one input"):
        gaze_backend("onnx", network(tmp_path / "wide.onnx", width=5))
    with pytest.raises(UsageError, match="geometric or onnx"):
        gaze_backend("guess", "")
    assert gaze_backend("geometric", "") is None
