"""Faces down to the wanted size are found wherever they are; tiles cover; merging keeps one box per face."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from duologue.schemas.errors import UsageError
from duologue.transforms.detect_faces import (
    Detections,
    FaceDetector,
    InsightFaceDetector,
    face_detector,
    input_size,
    merge_detections,
    no_detections,
    plan_tiles,
)
from duologue.transforms.wide_model import resized
from hypothesis import given, settings
from hypothesis import strategies as st

SHARED = Path(__file__).parents[2].parent / "shared"
PORTRAIT_BOX_PX = 104.0  # the face box of skimage's astronaut at full size


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(wide=True)


def scene(faces: list[tuple[float, int, int]], width: int = 1280, height: int = 720) -> np.ndarray:
    """A picture with the portrait's head (box width, x, y of the patch's corner) on a grey ramp."""
    from skimage import data

    head = data.astronaut()[:260, 90:360]
    picture = np.repeat(np.linspace(70, 150, width, dtype=np.uint8)[None, :, None], height, axis=0).repeat(3, axis=2)
    for box_px, x, y in faces:
        scale = box_px / PORTRAIT_BOX_PX
        patch = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        patch = patch[: height - y, : width - x]
        picture[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    return np.ascontiguousarray(picture)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(64, 4096),
    height=st.integers(64, 2304),
    smallest=st.floats(8, 400),
    data=st.data(),
)
def test_a_face_is_whole_and_large_enough_on_some_tile(
    width: int, height: int, smallest: float, data: st.DataObject
) -> None:
    levels = plan_tiles(width, height, smallest, 192, 14.0)
    assert levels[0] == [(0, 0, width, height)]
    size = data.draw(st.floats(smallest, max(smallest, min(width, height))))
    if size > min(width, height) or smallest * 192 / 14 < 48:
        return
    x = data.draw(st.floats(0, width - size))
    y = data.draw(st.floats(0, height - size))
    seen = [
        size * 192 / max(x1 - x0, y1 - y0)
        for x0, y0, x1, y1 in itertools.chain(*levels)
        if x0 <= x + 1 and y0 <= y + 1 and x1 >= x + size - 1 and y1 >= y + size - 1
    ]
    assert max(seen) >= 0.93 * 14  # rounding of tile sides to pixels


@pytest.mark.parametrize(("smallest", "levels"), [(60.0, 2), (60.9, 1)])
def test_the_whole_frame_alone_serves_faces_a_little_too_small(smallest: float, levels: int) -> None:
    assert len(plan_tiles(898, 64, smallest, 192, 14.0)) == levels  # on the frame they are 12.83 and 13.02 px wide


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ((1280, 720), (192, 128)), ((480, 270), (192, 128)), ((720, 1280), (128, 192)),
        ((640, 480), (192, 192)), ((500, 500), (192, 192)), ((3000, 1000), (192, 128)),
    ],
)  # fmt: skip
def test_a_look_leaves_out_the_bars_beside_a_picture(picture: tuple[int, int], expected: tuple[int, int]) -> None:
    assert input_size(*picture, 192) == expected


@pytest.mark.parametrize("upright", [False, True])
def test_a_wide_picture_shows_the_faces_that_a_square_one_shows(detector: FaceDetector, upright: bool) -> None:
    wide = scene([(150.0, 100, 100), (110.0, 800, 150)])
    if upright:
        wide = np.ascontiguousarray(scene([(150.0, 100, 100), (110.0, 300, 800)], 720, 1280))
    square = np.zeros((1280, 1280, 3), np.uint8)  # as the model itself would pad it
    y, x = (1280 - wide.shape[0]) // 2, (1280 - wide.shape[1]) // 2
    square[y : y + wide.shape[0], x : x + wide.shape[1]] = wide
    one, other = detector.detect(wide, 1280.0), detector.detect(square, 1280.0)
    assert len(one) == len(other) == 2
    assert one.scores == pytest.approx(other.scores, abs=0.15)
    order, order_ = np.argsort(one.boxes[:, 0]), np.argsort(other.boxes[:, 0])
    np.testing.assert_allclose(one.boxes[order], other.boxes[order_] - [x, y, x, y], atol=15)


def test_the_model_takes_only_sizes_that_its_layers_halve(detector: FaceDetector) -> None:
    model = detector._model
    with pytest.raises(ValueError, match="192 x 100"):
        resized(model, 192, 100)
    assert resized(model, 192, 128) != resized(model, 128, 192)


def test_large_faces_cost_one_tile() -> None:
    assert [len(level) for level in plan_tiles(1280, 720, 100, 192, 14.0)] == [1]
    assert sum(len(level) for level in plan_tiles(1280, 720, 55, 192, 14.0)) <= 3


@pytest.mark.parametrize("box_px", [400.0, 150.0, 55.0, 30.0])
def test_faces_of_the_wanted_size_are_found_in_every_place(detector: FaceDetector, box_px: float) -> None:
    side = round(260 * box_px / PORTRAIT_BOX_PX)
    places = [(40, 30), (1280 - side - 60, 0), (560, max(0, 720 - side))]
    if box_px > 200:
        places = places[:1]
    found = detector.detect(scene([(box_px, x, y) for x, y in places]), 0.9 * box_px)
    close = found.widths[np.abs(found.widths / box_px - 1) < 0.35]
    assert len(close) == len(places)


def test_a_face_at_a_tile_edge_is_one_face(detector: FaceDetector) -> None:
    for x in range(440, 700, 40):
        found = detector.detect(scene([(70.0, x, 200)]), 50.0)
        assert len(found) == 1
        assert found.boxes[0, 0] - x == pytest.approx(80 * 70 / 104, abs=14)


def test_detection_is_deterministic_and_leaves_no_state(detector: FaceDetector) -> None:
    one, other = scene([(80.0, 300, 200)]), scene([(60.0, 900, 100), (200.0, 10, 10)])
    first = detector.detect(one, 50.0)
    detector.detect(other, 30.0)
    again = detector.detect(one, 50.0)
    fresh = FaceDetector().detect(one, 50.0)
    for b in (again, fresh):
        np.testing.assert_array_equal(first.boxes, b.boxes)
        np.testing.assert_array_equal(first.keypoints, b.keypoints)


def test_keypoints_lie_where_the_words_say(detector: FaceDetector) -> None:
    points = detector.detect(scene([(200.0, 300, 100)]), 150.0).keypoints[0]
    right_eye, left_eye, nose, mouth, right_ear, left_ear = points
    assert right_ear[0] < right_eye[0] < nose[0] < left_eye[0] < left_ear[0]  # the subject's right is image left
    assert max(right_eye[1], left_eye[1]) < nose[1] < mouth[1]


def test_empty_picture_and_wrong_input(detector: FaceDetector) -> None:
    found = detector.detect(np.full((180, 320, 3), 90, np.uint8), 30.0)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.keypoints.shape == (0, 6, 2)
    with pytest.raises(ValueError, match="uint8"):
        detector.detect(np.zeros((10, 10, 3), np.float32), 5.0)  # type: ignore[arg-type]


def test_merge_prefers_whole_boxes() -> None:
    boxes = np.array([[0, 0, 100, 100], [5, 5, 105, 105], [50, 10, 100, 60], [300, 0, 340, 40]], np.float32)
    found = Detections(boxes, np.array([0.7, 0.6, 0.95, 0.5], np.float32), np.zeros((4, 6, 2), np.float32))
    cut = np.array([False, False, True, False])
    np.testing.assert_array_equal(merge_detections(found, cut).boxes, boxes[[0, 3]])
    assert len(merge_detections(no_detections())) == 0


def test_backends_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown faces backend 'yolo'"):
        face_detector("yolo")
    with pytest.raises(UsageError, match="needs the path"):
        face_detector("insightface")
    with pytest.raises(UsageError, match=r"no \.onnx file"):
        face_detector("insightface", str(tmp_path))
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(UsageError, match="does not load"):
        face_detector("insightface", str(tmp_path))


def test_insightface_pack_finds_the_same_faces(detector: FaceDetector, tmp_path: Path) -> None:
    weights = SHARED / "weights" / "scrfd_500m_kps.onnx"
    if not weights.is_file():
        pytest.skip("no InsightFace weights here")
    (tmp_path / "det.onnx").symlink_to(weights)
    other = InsightFaceDetector(tmp_path)
    picture = scene([(150.0, 100, 100), (60.0, 800, 300)])
    mine, theirs = detector.detect(picture, 50.0), other.detect(picture, 50.0)
    assert len(mine) == len(theirs) == 2
    for found in (mine, theirs):
        assert np.isfinite(found.keypoints[:, :4]).all()
    order_a, order_b = np.argsort(mine.boxes[:, 0]), np.argsort(theirs.boxes[:, 0])
    np.testing.assert_allclose(mine.keypoints[order_a, :4], theirs.keypoints[order_b, :4], atol=20)
    assert len(other.backend.weights_sha256) == 64
