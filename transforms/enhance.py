"""Small faces enlarged by a super-resolution or restoration network before landmarks: an ONNX file the user brings.

"Talking Together" puts such a network before its tracker. None ships: the published ones have large weights and
licences of their own. What a network invents moves landmarks too, so measure on your own footage before you use one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from ..schemas.records import Backend
from .face_mesh import CROP_PX, FaceMesh, MeshFace, Region, crop_region
from .onnx_session import open_session
from .planar import Pixels

UInt8 = npt.NDArray[np.uint8]

SIGNED = "onnx-signed"  # values from -1 to 1, as restoration networks take them; "onnx": 0 to 1
STEP_PX = 32  # a network of any size is given multiples of this, which networks in windows or levels can take


class FaceEnhancer:
    """The network, opened once per process.

    Args:
        path: ONNX file with one input [N, 3, H, H], RGB, H fixed or free, and one output [N, 3, K, K], the same picture
            with K of H pixels or more.
        signed: values run from -1 to 1 instead of from 0 to 1, both ways.

    Raises:
        UsageError: onnxruntime is missing, the file does not load, or its shapes are others.
    """

    def __init__(self, path: str, signed: bool = False) -> None:
        name = f"enhance backend '{SIGNED if signed else 'onnx'}'"
        if not Path(path).is_file():
            raise UsageError(f"{name}: no file {path!r}; give it as backends.enhance_path")
        self.session = open_session(Path(path), name)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        shapes = [list(one.shape) for one in (*inputs, *outputs)]
        if len(inputs) != 1 or len(outputs) != 1 or not all(len(s) == 4 and s[1] == 3 for s in shapes):
            raise UsageError(f"{name}: {path} takes and gives {shapes}; expected one [N, 3, H, H] and one [N, 3, K, K]")
        high, wide = shapes[0][2:]
        self.side = high if isinstance(high, int) else None
        if self.side is not None and high != wide:
            raise UsageError(f"{name}: {path} takes {high} x {wide} pixels, not a square")
        self.name, self.input, self.signed = name, inputs[0].name, signed
        self._path = path
        for side in range(STEP_PX, CROP_PX + 1, STEP_PX) if self.side is None else (CROP_PX,):
            self(np.zeros((side, side, 3), np.uint8))  # what it cannot take is told before work starts
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        kind = SIGNED if signed else "onnx"
        self.backend = Backend("enhance", f"{kind}:{Path(path).name}", digest, "as the file's owner states")

    def crop_side(self, region_side: float) -> int:
        """Pixels of the crop to cut out of a region this large: a network is given the pixels that are there."""
        steps = min(max(round(region_side / STEP_PX), 1), CROP_PX // STEP_PX)
        return steps * STEP_PX

    def __call__(self, crop: UInt8) -> UInt8:
        """[n, n, 3] uint8 RGB, n at most 192 -> [192, 192, 3], enhanced.

        Raises:
            UsageError: the network does not run on it, or answers with something that is no picture of the kind.
        """
        given = crop if self.side is None else _resized(crop, self.side)
        values = given.astype(np.float32).transpose(2, 0, 1)[None] / 255.0
        try:
            answer = np.asarray(self.session.run(None, {self.input: 2 * values - 1 if self.signed else values})[0])
        except Exception as error:  # onnxruntime's errors share no narrower public base
            raise UsageError(f"{self.name}: {self._path} does not run on {given.shape}: {error}") from error
        if answer.shape[:2] != (1, 3) or answer.shape[2] != answer.shape[3] or answer.shape[2] < given.shape[0]:
            raise UsageError(f"{self.name}: {self._path} answers {given.shape[:2]} pixels with {list(answer.shape)}")
        picture = answer[0].transpose(1, 2, 0)
        picture = np.nan_to_num((picture + 1) / 2 if self.signed else picture)
        return _resized(np.clip(np.rint(picture * 255.0), 0, 255).astype(np.uint8), CROP_PX)


class EnhancedMesh:
    """The landmark network on enhanced crops, where the frame has fewer pixels of a face than the network takes."""

    def __init__(self, mesh: FaceMesh, enhancer: FaceEnhancer) -> None:
        self.mesh = mesh
        self.enhancer = enhancer

    def measure(self, picture: Pixels, region: Region) -> MeshFace:
        """Landmarks of the face in a region of an upright frame."""
        plain, to_frame = crop_region(picture, region)
        if region.side >= CROP_PX:
            return self.mesh.read(plain, region, to_frame)
        small, _ = crop_region(picture, region, self.enhancer.crop_side(region.side))
        return replace(self.mesh.read(self.enhancer(small), region, to_frame), plain=plain)

    def measure_all(self, picture: Pixels, regions: Sequence[Region]) -> list[MeshFace]:
        """The same for several regions of one frame."""
        return [self.measure(picture, region) for region in regions]


def _resized(picture: UInt8, side: int) -> UInt8:
    if picture.shape[0] == side:
        return picture
    how = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (side, side), interpolation=how), np.uint8)


def enhance_backend(name: str, path: str) -> FaceEnhancer | None:
    """The network, or None for none.

    Raises:
        UsageError: an unknown name, or a network that cannot be used.
    """
    if name == "none":
        return None
    if name in ("onnx", SIGNED):
        return FaceEnhancer(path, signed=name == SIGNED)
    raise UsageError(f"unknown enhance backend {name!r}; choose none, onnx or {SIGNED}")
