"""Find every face of at least a wanted size in one frame.

A detector sees a small fixed square (192 px for MediaPipe's full-range model), so a face must cover enough of it
to be found. The frame is therefore searched as a whole and, where faces may be smaller than that allows, again in
overlapping square tiles whose side follows from the smallest wanted face. Few tiles are used where faces are large.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from ..schemas.records import Backend
from ..schemas.tracks import Float32
from .detection_graph import DetectionGraph, for_input, full_range_graph
from .onnx_pack import open_from_pack
from .quiet import without_noise

UInt8 = npt.NDArray[np.uint8]
Tile = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, end-exclusive

SURE = 0.6  # a score above which a detection counts when asking whether enough faces are found
MERGE_IOU = 0.4  # two boxes that overlap more than this are one face
MERGE_INSIDE = 0.7  # so are two of which this much of the smaller lies in the larger
MERGE_CUT = 0.4  # the same where the smaller was cut by its tile's edge


@dataclass(frozen=True)
class Detections:
    """Faces in one image, best first.

    Attributes:
        boxes: [N, 4] x0, y0, x1, y1 in pixels of the image given; may reach past its edges.
        scores: [N] 0..1.
        keypoints: [N, 6, 2] pixels: subject's right eye, left eye, nose tip, mouth centre, right ear, left ear.
            NaN where the backend has no such point.
    """

    boxes: Float32
    scores: Float32
    keypoints: Float32

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: npt.NDArray[Any] | Sequence[int]) -> Detections:
        """The detections at these indices, or where this mask holds, in that order."""
        rows = np.asarray(index)
        rows = rows if rows.dtype == np.bool_ else rows.astype(np.int64)
        return Detections(self.boxes[rows], self.scores[rows], self.keypoints[rows])

    @property
    def widths(self) -> Float32:
        """[N] box widths in pixels."""
        return np.asarray(self.boxes[:, 2] - self.boxes[:, 0], dtype=np.float32)


def no_detections() -> Detections:
    """An empty result."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 6, 2), np.float32))


class FaceFinder(Protocol):
    """What the scan and the tracker need of a face detector, whatever its model.

    Attributes:
        input_px: side of the model's square input.
        least_px: smallest face, in pixels of that input, that it finds reliably.
    """

    backend: Backend
    input_px: int
    least_px: float

    def detect(self, rgb: UInt8, smallest_px: float, enough: int = 0, seen: Detections | None = None) -> Detections: ...


def plan_tiles(width: int, height: int, smallest_px: float, input_px: int, least_px: float) -> list[list[Tile]]:
    """Square tiles, coarse to fine, on which no face of at least ``smallest_px`` is too small or cut everywhere.

    The first level is the whole frame. Each finer level's tiles overlap by the smallest face that the level above
    finds, so a face cut by every tile of one level is whole and large enough on the level above.

    Args:
        width, height: image size in pixels.
        smallest_px: width of the smallest face box that must be found.
        input_px: side of the model's square input.
        least_px: smallest face, in pixels of that input, that the model finds reliably.

    Returns:
        Levels of tiles; a level's tiles lie on a regular grid, the same for the same sizes.
    """
    if smallest_px <= 0:
        raise ValueError(f"smallest_px must be positive, not {smallest_px}")
    whole = max(width, height)
    finest = min(float(whole), max(smallest_px * input_px / least_px, input_px / 4.0))
    # A level at most 4 times finer than the one above keeps the overlap under a third of a tile.
    # 7 % too small for the whole frame is as good as large enough.
    n_finer = 0 if finest > 0.93 * whole else max(1, math.ceil(math.log(whole / finest, 4.0) - 1e-9))
    levels: list[list[Tile]] = [[(0, 0, width, height)]]
    for k in range(1, n_finer + 1):
        side = whole * (finest / whole) ** (k / n_finer)
        above = whole * (finest / whole) ** ((k - 1) / n_finer)
        overlap = 1.1 * above * least_px / input_px
        xs, ys = _starts(width, side, overlap), _starts(height, side, overlap)
        w, h = min(width, round(side)), min(height, round(side))
        levels.append([(x, y, x + w, y + h) for y in ys for x in xs])
    return levels


def _starts(length: int, side: float, overlap: float) -> list[int]:
    if side >= length:
        return [0]
    n = max(2, math.ceil((length - overlap) / (side - overlap) - 1e-9))
    last = length - round(side)
    return [round(last * i / (n - 1)) for i in range(n)]


def merge_detections(found: Detections, cut: npt.NDArray[np.bool_] | None = None) -> Detections:
    """Keep one detection per face (greedy suppression by overlap, best score first).

    Args:
        found: N detections of one image from several tiles.
        cut: [N] the detection touches an inner edge of its tile, so a whole one is preferred to it.

    Returns:
        The kept ones, highest score first.
    """
    n = len(found)
    if n == 0:
        return found
    cut = np.zeros(n, np.bool_) if cut is None else cut
    rank = found.scores - cut.astype(np.float32)
    order = np.argsort(-rank, kind="stable")
    boxes = found.boxes.astype(np.float64)
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    kept: list[int] = []
    for i in order:
        inside = MERGE_CUT if cut[i] else MERGE_INSIDE
        for j in kept:
            size = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
            shared = float(np.prod(np.maximum(size, 0)))
            if shared > MERGE_IOU * (area[i] + area[j] - shared) or shared > inside * min(area[i], area[j]):
                break
        else:
            kept.append(int(i))
    kept.sort(key=lambda i: (-float(found.scores[i]), i))
    return found.take(kept)


class _TiledDetector(ABC):
    """Runs a single-square model over the tiles of a frame; subclasses supply the model."""

    input_px: int
    least_px: float
    backend: Backend

    @abstractmethod
    def _detect_tile(self, rgb: UInt8) -> Detections:
        """Faces in one square tile, in the tile's pixels."""

    def detect(self, rgb: UInt8, smallest_px: float, enough: int = 0, seen: Detections | None = None) -> Detections:
        """Faces whose box is at least about ``smallest_px`` wide.

        Args:
            rgb: [H, W, 3] uint8.
            smallest_px: width in pixels of the smallest face box that must be found; smaller ones may be found too.
            enough: stop refining once so many sure faces are found; 0 searches all levels. With 2, a
                frame with two large faces costs one call, and a small third face in it may be missed.
            seen: what one look at the whole frame has found; None where nobody has looked.

        Returns:
            Detections in pixels of ``rgb``.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"rgb must be uint8 [H, W, 3], not {rgb.dtype} {rgb.shape}")
        height, width = rgb.shape[:2]
        found = no_detections() if seen is None else seen
        cut = np.zeros(len(found), np.bool_)
        levels = plan_tiles(width, height, smallest_px, self.input_px, self.least_px)
        for tiles in levels if seen is None else levels[1:]:
            for x0, y0, x1, y1 in tiles:
                part = self._detect_tile(rgb[y0:y1, x0:x1])
                if not len(part):
                    continue
                shift = np.array([x0, y0], np.float32)
                part = Detections(part.boxes + np.tile(shift, 2), part.scores, part.keypoints + shift)
                margin = 0.02 * (x1 - x0)
                inner = np.array([x0 > 0, y0 > 0, x1 < width, y1 < height])
                reach = np.array([x0 + margin, y0 + margin, -x1 + margin, -y1 + margin], np.float32)
                touches = (part.boxes * np.array([1, 1, -1, -1], np.float32) < reach) & inner
                found = Detections(
                    np.concatenate([found.boxes, part.boxes]),
                    np.concatenate([found.scores, part.scores]),
                    np.concatenate([found.keypoints, part.keypoints]),
                )
                cut = np.concatenate([cut, touches.any(axis=1)])
            if enough and (merge_detections(found, cut).scores >= SURE).sum() >= enough:
                break
        return merge_detections(found, cut)


class FaceDetector(_TiledDetector):
    """MediaPipe's full-range face detector (model inside the wheel), on tiles.

    Measured on two frontal portraits: all found at 13 px of the 192 px input, 92 % at 12, 48 % at 10. About 2.4 ms
    of CPU a tile. Build one per process, and do not pickle it.

    Args:
        min_score: detections under this are dropped. The wheel's graph fixes 0.6 and ignores its own option; the
            graph is edited here, because profiles score lower.
        wide: look at wide and tall pictures without bars beside them: a third cheaper. Large faces are found as well,
            a turned one at the limit of size less surely: not for the scan.

    Raises:
        UsageError: mediapipe is absent or is a version without the bundled model.
    """

    input_px = 192
    least_px = 14.0

    def __init__(self, min_score: float = 0.45, wide: bool = False) -> None:
        self.wide = wide
        self._text, model = full_range_graph(min_score)
        self._model = model.read_bytes()
        weights = hashlib.sha256(self._model).hexdigest()
        self.backend = Backend("faces", "mediapipe-full-range", weights, "Apache-2.0")
        self._graphs: dict[tuple[int, int], DetectionGraph] = {}
        cv2.setNumThreads(1)  # work is spread over processes
        self._graph(self.input_px, self.input_px)

    def _graph(self, width: int, height: int) -> DetectionGraph:
        """The running graph whose input has this size."""
        if (width, height) not in self._graphs:
            model, square = self._model, (width, height) == (self.input_px, self.input_px)
            if not square:
                from .wide_model import resized

                model = resized(model, width, height)
            with without_noise():
                graph = DetectionGraph(for_input(self._text, width, height), model)
                graph.process(np.zeros((height, width, 3), np.uint8))
            self._graphs[width, height] = graph
        return self._graphs[width, height]

    def _detect_tile(self, rgb: UInt8) -> Detections:
        height, width = rgb.shape[:2]
        longest = self.input_px
        shape = input_size(width, height, longest) if self.wide else (longest, longest)
        found = self._graph(*shape).process(rgb)
        if not found:
            return no_detections()
        size = np.array([width, height], np.float32)
        boxes = np.empty((len(found), 4), np.float32)
        points = np.empty((len(found), 6, 2), np.float32)
        for i, one in enumerate(found):
            box = one.location_data.relative_bounding_box
            boxes[i] = box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height
            points[i] = [(p.x, p.y) for p in one.location_data.relative_keypoints]
        scores = np.array([one.score[0] for one in found], np.float32)
        return Detections(boxes * np.tile(size, 2), scores, points * size)

    def close(self) -> None:
        """Stop the graphs."""
        for graph in self._graphs.values():
            graph.close()


def input_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """The input in which a picture is looked at: two thirds of a square where it fits into that with a border of 4 %.

    Bars beside a picture are searched at the same cost as the picture.
    """
    part = longest * 2 // 3
    if height * longest <= 0.92 * part * width:
        return longest, part
    if width * longest <= 0.92 * part * height:
        return part, longest
    return longest, longest


class InsightFaceDetector(_TiledDetector):
    """An InsightFace detection model (SCRFD) from a pack's folder, or one ``.onnx`` file, on tiles.

    InsightFace's own pretrained packs are for non-commercial research only; none is bundled or downloaded.

    Args:
        path: folder that holds the pack's ``.onnx`` files (the one detector among them is used), or the file.
        min_score: detections under this are dropped.

    Raises:
        UsageError: the package, the folder or a detection model in it is missing.
    """

    input_px = 640
    least_px = 14.0

    def __init__(self, path: str | Path, min_score: float = 0.5) -> None:
        # 6, 9, 10 or 15 outputs: boxes and scores (and points) per stride.
        file, session = open_from_pack(path, "faces", "detection", lambda net: len(net.get_outputs()) in (6, 9, 10, 15))
        try:
            from insightface.model_zoo.scrfd import SCRFD
        except ImportError as error:
            raise UsageError(f"faces backend 'insightface' needs insightface and onnxruntime: {error}") from error
        self._model = SCRFD(model_file=str(file), session=session)
        self._model.prepare(-1, det_thresh=min_score, input_size=(self.input_px, self.input_px))
        weights = hashlib.sha256(file.read_bytes()).hexdigest()
        self.backend = Backend("faces", f"insightface-{file.stem}", weights, "see the model pack's licence")

    def _detect_tile(self, rgb: UInt8) -> Detections:
        boxes, points = self._model.detect(np.ascontiguousarray(rgb[..., ::-1]))
        if not len(boxes):
            return no_detections()
        keypoints = np.full((len(boxes), 6, 2), np.nan, np.float32)
        if points is not None:  # SCRFD: the eye at image left (the subject's right) first, nose, mouth corners
            keypoints[:, :3] = points[:, :3]
            keypoints[:, 3] = points[:, 3:5].mean(axis=1)
        return Detections(boxes[:, :4].astype(np.float32), boxes[:, 4].astype(np.float32), keypoints)


def face_detector(name: str, path: str = "", wide: bool = False) -> FaceFinder:
    """The detector called ``name``: "mediapipe", or "insightface" with the model's folder or file as ``path``.

    Args:
        wide: as in :class:`FaceDetector`.

    Raises:
        UsageError: unknown name, or the backend cannot be had.
    """
    if name == "mediapipe":
        return FaceDetector(wide=wide)
    if name == "insightface":
        if not path:
            raise UsageError("faces backend 'insightface' needs the path of a model pack")
        return InsightFaceDetector(path)
    raise UsageError(f"unknown faces backend '{name}': choose mediapipe or insightface")
