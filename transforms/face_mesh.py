"""Landmarks with irises for one face in a given square of the frame: MediaPipe's landmark network, nothing else.

MediaPipe's own FaceMesh solution wraps the network in a detector, a tracker and filters that keep state. Here the
network runs alone on a square that the caller chooses (rotated with the head), so a call has no memory: the same
pixels and region give the same landmarks, whatever came before.
"""

from __future__ import annotations

import hashlib
import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from ..schemas.records import Backend
from ..schemas.tracks import N_LANDMARKS, Float32
from .planar import Pixels, PlanarPicture, Planes
from .quiet import load_mediapipe, without_noise

UInt8 = npt.NDArray[np.uint8]

CROP_PX = 192  # side of the network's input
REGION_SCALE = 1.5  # side of the region over the longer side of the face's bounding box, as the network was trained
SHARPNESS_PX = 96  # side of the middle part of the crop on which sharpness is measured

_GRAPH = """
input_stream: "image"
input_side_packet: "with_attention"
executor { type: "ApplicationThreadExecutor" }
node {
  calculator: "TensorConverterCalculator" input_stream: "IMAGE:image" output_stream: "TENSORS:input"
  options { [mediapipe.TensorConverterCalculatorOptions.ext] { zero_center: false } }
}
node {
  calculator: "FaceLandmarksModelLoader"
  input_side_packet: "WITH_ATTENTION:with_attention" output_side_packet: "MODEL:model"
}
node { calculator: "TfLiteCustomOpResolverCalculator" output_side_packet: "OP_RESOLVER:ops" }
node {
  calculator: "InferenceCalculator" input_stream: "TENSORS:input" output_stream: "TENSORS:output"
  input_side_packet: "MODEL:model" input_side_packet: "OP_RESOLVER:ops"
  options { [mediapipe.InferenceCalculatorOptions.ext] { delegate { xnnpack { num_threads: 1 } } } }
}
"""
_REFINEMENT = """
input_stream: "TENSORS:tensors"
output_stream: "LANDMARKS:landmarks"
node {
  calculator: "TensorsToFaceLandmarksWithAttention"
  input_stream: "TENSORS:tensors" output_stream: "LANDMARKS:landmarks"
}
"""
_OUTPUTS = ("mesh", "lips", "eye_0", "eye_1", "iris_0", "iris_1", "presence")


@dataclass(frozen=True)
class Region:
    """A square of the frame, turned with the head.

    Attributes:
        x, y: centre, pixels of the frame (pixel centres at integers).
        side: pixels.
        angle: radians, clockwise in the image; the face's own horizontal (its right to its left eye).
    """

    x: float
    y: float
    side: float
    angle: float = 0.0


@dataclass(frozen=True)
class MeshFace:
    """What the network says of one region.

    Attributes:
        landmarks: [478, 3] pixels of the frame; z in the same scale, smaller is nearer.
        logit: the network's score that a face is in the region: over 15 on clear faces, about 5 to 13 near profile,
            under 3 on anything else.
        crop: [192, 192, 3] uint8, what the network saw.
        region: where it looked.
        plain: the crop as it was, where what the network saw had been enhanced.
    """

    landmarks: Float32
    logit: float
    crop: UInt8
    region: Region
    plain: UInt8 | None = None

    @cached_property
    def box(self) -> Float32:
        """[4] bounding box x0, y0, x1, y1 of the 468 skin points."""
        return box_of(self.landmarks)

    @property
    def sharpness(self) -> float:
        """:func:`sharpness` of the picture itself."""
        return sharpness(self.crop if self.plain is None else self.plain)


def box_of(landmarks: Float32) -> Float32:
    """[4] bounding box x0, y0, x1, y1 of the 468 skin points."""
    x, y = landmarks[:468, 0], landmarks[:468, 1]
    return np.array([x.min(), y.min(), x.max(), y.max()], np.float32)


def region_from_landmarks(landmarks: Float32, scale: float = REGION_SCALE) -> Region:
    """The square in which to look for a face whose landmarks are (or are predicted) here.

    The angle is that of the eye line and the forehead-chin line together: near profile the eye line alone says
    nothing of roll.

    Args:
        landmarks: [478, 2 or 3] pixels.
    """
    eyes = landmarks[263, :2] - landmarks[33, :2]
    down = landmarks[152, :2] - landmarks[10, :2]
    angle = math.atan2(float(eyes[1] - down[0]), float(eyes[0] + down[1]))
    cos, sin = math.cos(angle), math.sin(angle)
    u = landmarks[:, 0] * cos + landmarks[:, 1] * sin
    v = landmarks[:, 1] * cos - landmarks[:, 0] * sin
    u0, u1, v0, v1 = float(u.min()), float(u.max()), float(v.min()), float(v.max())
    cu, cv = (u0 + u1) / 2, (v0 + v1) / 2
    return Region(cu * cos - cv * sin, cu * sin + cv * cos, max(u1 - u0, v1 - v0) * scale, angle)


def region_from_detection(box: Float32, keypoints: Float32 | None = None, scale: float = REGION_SCALE) -> Region:
    """The square in which to look for a face that a detector boxed.

    Args:
        box: [4] x0, y0, x1, y1 pixels.
        keypoints: [6, 2] pixels, BlazeFace order (subject's right eye, left eye, nose, mouth, right ear, left ear).
    """
    angle = 0.0
    if keypoints is not None:
        eyes = keypoints[1] - keypoints[0]
        down = 2.0 * (keypoints[3] - (keypoints[0] + keypoints[1]) / 2)
        angle = math.atan2(float(eyes[1] - down[0]), float(eyes[0] + down[1]))
    side = max(float(box[2] - box[0]), float(box[3] - box[1])) * scale
    return Region(float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2, side, angle)


def crop_region(picture: Pixels, region: Region, size: int = CROP_PX) -> tuple[UInt8, npt.NDArray[np.float64]]:
    """Cuts a region out of a frame, upright and at a fixed size. Outside the frame is black.

    Large regions are first shrunk by area averaging, so that fine texture does not alias into the landmarks.

    Returns:
        The crop [size, size, 3] and the [2, 3] map from crop pixels to frame pixels.
    """
    whole = Region((size - 1) / 2, (size - 1) / 2, size)
    if region == whole and isinstance(picture, np.ndarray) and picture.shape == (size, size, 3):
        return picture, np.eye(2, 3)
    step = region.side / size
    cos, sin = math.cos(region.angle) * step, math.sin(region.angle) * step
    half = (size - 1) / 2
    to_frame = np.array(
        [[cos, -sin, region.x - half * (cos - sin)], [sin, cos, region.y - half * (sin + cos)]], dtype=np.float64
    )
    shrink = max(1, int(step + 0.35))
    height, width = picture.shape[:2]
    reach = 0.5 * region.side * (abs(math.cos(region.angle)) + abs(math.sin(region.angle))) + 1 + shrink
    grid = 2 * shrink if isinstance(picture, PlanarPicture) else shrink
    x0 = max(0, int((region.x - reach) // grid) * grid)
    y0 = max(0, int((region.y - reach) // grid) * grid)
    x1, y1 = min(width, int(region.x + reach) + grid), min(height, int(region.y + reach) + grid)
    x1, y1 = x0 + (x1 - x0) // grid * grid, y0 + (y1 - y0) // grid * grid
    if x1 <= x0 or y1 <= y0:
        return np.zeros((size, size, 3), np.uint8), to_frame
    to_part = to_frame.copy()
    to_part[:, 2] -= (x0 + (shrink - 1) / 2, y0 + (shrink - 1) / 2)
    to_part /= shrink
    if isinstance(picture, PlanarPicture):
        return _crop_planes(picture, (x0, y0, x1, y1), to_part, shrink, size), to_frame
    # OpenCV warps four channels in half the time of three.
    part = _warped(cv2.cvtColor(picture[y0:y1, x0:x1], cv2.COLOR_RGB2RGBA), to_part, shrink, size)
    return cv2.cvtColor(part, cv2.COLOR_RGBA2RGB), to_frame


def _warped(part: Any, to_part: npt.NDArray[np.float64], shrink: int, size: int, outside: float = 0.0) -> Any:
    """A part of a picture, shrunk by area averaging and cut out: [size, size] of what ``to_part`` maps to it."""
    if shrink > 1:
        height, width = part.shape[:2]
        part = cv2.resize(part, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(part, to_part, (size, size), flags=how, borderValue=(outside,) * 4)


def _crop_planes(
    picture: PlanarPicture,
    part: tuple[int, int, int, int],
    to_part: npt.NDArray[np.float64],
    shrink: int,
    size: int,
) -> UInt8:
    """The same from planes, turned into RGB last: what is cut out is smaller than what it is cut from.

    Colour is cut out at half the crop's size, as decoders keep it.

    Args:
        part: x0, y0, x1, y1, multiples of ``2 * shrink``.
        to_part: from pixels of the crop to those of the shrunk part. ``size`` is even.
    """
    x0, y0, x1, y1 = part
    bright, blue, red = picture.planes.planes
    # A sample of colour lies in the middle of two by two pixels, on both sides.
    to_half = to_part.copy()
    to_half[:, 2] = (to_part[:, 2] + 0.5 * to_part[:, :2].sum(axis=1) - 0.5) / 2
    colour = picture.planes.colour
    cut = (
        _warped(bright[y0:y1, x0:x1], to_part, shrink, size, colour.black),
        *(_warped(p[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2], to_half, shrink, size // 2, 128.0) for p in (blue, red)),
    )
    return picture.converter.rgb(Planes(cut, colour), 0, 0, size, size)


def sharpness(crop: UInt8) -> float:
    """Variance of the Laplacian of the middle of a 192-px face crop, in squared grey levels."""
    edge = (crop.shape[0] - SHARPNESS_PX) // 2
    grey = cv2.cvtColor(crop[edge : edge + SHARPNESS_PX, edge : edge + SHARPNESS_PX], cv2.COLOR_RGB2GRAY)
    return float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0]) ** 2


def _mediapipe() -> Any:
    try:
        return load_mediapipe()
    except ImportError as error:
        raise UsageError(f"landmarks backend 'mediapipe' needs mediapipe 0.10.21: {error}") from error


def _refinement_indices() -> tuple[list[npt.NDArray[np.intp]], list[npt.NDArray[np.intp]]]:
    """Which mesh points the lips, eye and iris outputs replace, and whose mean depth each iris takes.

    Read from the graph inside the MediaPipe wheel, so that it always fits the model beside it.
    """
    from google.protobuf import text_format  # type: ignore[import-untyped]

    _mediapipe()
    from mediapipe.calculators.core import split_vector_calculator_pb2  # noqa: F401
    from mediapipe.calculators.tensor import tensors_to_landmarks_calculator_pb2  # noqa: F401
    from mediapipe.calculators.util import landmarks_refinement_calculator_pb2 as refinement_pb2
    from mediapipe.framework import calculator_pb2
    from mediapipe.python._framework_bindings import validated_graph_config

    config = text_format.Parse(_REFINEMENT, calculator_pb2.CalculatorGraphConfig())
    validated = validated_graph_config.ValidatedGraphConfig()
    validated.initialize(graph_config=config)
    expanded = text_format.Parse(validated.text_config, calculator_pb2.CalculatorGraphConfig())
    node = next(n for n in expanded.node if n.calculator == "LandmarksRefinementCalculator")
    options = node.options.Extensions[refinement_pb2.LandmarksRefinementCalculatorOptions.ext]
    targets = [np.array(r.indexes_mapping, dtype=np.intp) for r in options.refinement]
    depths = [np.array(r.z_refinement.assign_average.indexes_for_average, dtype=np.intp) for r in options.refinement]
    return targets, depths


def mesh_backend() -> Backend:
    """What :class:`FaceMesh` is, without building it.

    Raises:
        UsageError: mediapipe is absent, or a version without the network.
    """
    model = pathlib.Path(_mediapipe().__file__).parent / "modules/face_landmark/face_landmark_with_attention.tflite"
    if not model.is_file():
        raise UsageError("landmarks backend 'mediapipe' needs mediapipe 0.10.21, which has the network in its wheel")
    return Backend("landmarks", "mediapipe-face-mesh", hashlib.sha256(model.read_bytes()).hexdigest(), "Apache-2.0")


class FaceMesh:
    """MediaPipe's FaceMesh network with attention (lips, eyes, irises), on regions the caller chooses.

    One CPU thread, no state between calls. Build one per process.
    """

    def __init__(self) -> None:
        from google.protobuf import text_format  # type: ignore[import-untyped]

        _mediapipe()
        # The modules that define the options named in the graph's text must be imported for it to parse.
        from mediapipe.calculators.core import split_vector_calculator_pb2  # noqa: F401
        from mediapipe.calculators.tensor import (  # noqa: F401
            inference_calculator_pb2,
            tensor_converter_calculator_pb2,
            tensors_to_floats_calculator_pb2,
        )
        from mediapipe.framework import calculator_pb2
        from mediapipe.python import packet_creator, packet_getter
        from mediapipe.python._framework_bindings import calculator_graph, image_frame

        streams = " ".join(f'output_stream: "{name}_tensor"' for name in _OUTPUTS)
        ranges = " ".join(f"ranges {{ begin: {i} end: {i + 1} }}" for i in range(len(_OUTPUTS)))
        split = (
            f'node {{ calculator: "SplitTensorVectorCalculator" input_stream: "output" {streams} '
            f"options {{ [mediapipe.SplitVectorCalculatorOptions.ext] {{ {ranges} }} }} }}\n"
        )
        floats = "\n".join(
            f'node {{ calculator: "TensorsToFloatsCalculator" input_stream: "TENSORS:{name}_tensor" '
            f'output_stream: "FLOATS:{name}" }}'
            for name in _OUTPUTS
        )
        config = text_format.Parse(_GRAPH + split + floats, calculator_pb2.CalculatorGraphConfig())
        self._packets: dict[str, Any] = {}
        self._image = packet_creator.create_image_frame
        self._format = image_frame.ImageFormat.SRGB
        self._floats = packet_getter.get_float_list
        self._targets, self._depths = _refinement_indices()
        self._clock = 0
        cv2.setNumThreads(1)  # work is spread over processes
        with without_noise():
            self._graph = calculator_graph.CalculatorGraph(graph_config=config)
            for output in _OUTPUTS:
                self._graph.observe_output_stream(output, self._packets.__setitem__)
            self._graph.start_run({"with_attention": packet_creator.create_bool(True)})
            self.infer(np.zeros((CROP_PX, CROP_PX, 3), np.uint8))
        self.backend = mesh_backend()

    def measure(self, picture: Pixels, region: Region) -> MeshFace:
        """Landmarks of the face in a region of an upright frame."""
        return self.measure_all(picture, [region])[0]

    def measure_all(self, picture: Pixels, regions: Sequence[Region]) -> list[MeshFace]:
        """The same for several regions of one frame.

        They are cut out one after the other before the network runs: each run leaves the caches full of its weights.
        """
        crops = [crop_region(picture, region) for region in regions]
        return [self.read(crop, region, to_frame) for region, (crop, to_frame) in zip(regions, crops, strict=True)]

    def read(self, crop: UInt8, region: Region, to_frame: npt.NDArray[np.float64]) -> MeshFace:
        """Landmarks of a crop of a region that lies ready, and the [2, 3] map from its pixels to the frame's."""
        points, logit = self.infer(crop)
        landmarks = np.empty((N_LANDMARKS, 3), dtype=np.float64)
        # The network's 0..192 runs over pixel edges; pixel centres lie half a pixel inside.
        landmarks[:, :2] = (points[:, :2] - 0.5) @ to_frame[:, :2].T + to_frame[:, 2]
        landmarks[:, 2] = points[:, 2] * (region.side / CROP_PX)
        return MeshFace(landmarks.astype(np.float32), logit, crop, region)

    def infer(self, crop: UInt8) -> tuple[Float32, float]:
        """The bare network: [478, 3] landmarks in crop pixels (0..192) and the presence logit.

        Args:
            crop: [192, 192, 3]; it goes in as it is (MediaPipe's own graph would warp it again, a tenth of a call).
        """
        if crop.shape != (CROP_PX, CROP_PX, 3):
            raise ValueError(f"the landmark network takes {CROP_PX} x {CROP_PX} RGB, not {crop.shape}")
        self._clock += 1
        packet = self._image(np.ascontiguousarray(crop), image_format=self._format, copy=True)
        self._graph.add_packet_to_input_stream("image", packet.at(self._clock))
        self._graph.wait_until_idle()
        values = [np.array(self._floats(self._packets[name]), dtype=np.float32) for name in _OUTPUTS]
        points = np.empty((N_LANDMARKS, 3), dtype=np.float32)
        points[self._targets[0]] = values[0].reshape(-1, 3)
        for value, target in zip(values[1:6], self._targets[1:], strict=True):
            points[target, :2] = value.reshape(-1, 2)
        for target, depth in zip(self._targets[4:], self._depths[4:], strict=True):
            points[target, 2] = points[depth, 2].mean()
        return points, float(values[6][0])

    def close(self) -> None:
        self._graph.close_all_packet_sources()
        self._graph.wait_until_done()
