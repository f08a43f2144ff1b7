"""A pair as an animated glTF 2.0 scene (one ``.glb`` file): both heads, their joints, expressions, and the camera.

glTF has y up and looks along -z; the camera frame has y down and looks along +z: F = diag(1, -1, -1) takes one to the
other, and rotation vectors turn with it. A head is a skin of five joints (root, neck, jaw, eyes) over a mesh whose
morph targets are the head model's expression modes, so that glTF's own morphing and skinning repeat the model's.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from .. import __version__
from ..fitting.head_model import (
    JOINTS,
    LEFT_EYE,
    LEFT_EYEBALL,
    PARENTS,
    RIGHT_EYE,
    RIGHT_EYEBALL,
    HeadModel,
)
from ..schemas.errors import UsageError
from ..schemas.heads import HeadTrack
from ..schemas.row import Pair
from .write import write_file

Array = npt.NDArray[np.float64]
Json = dict[str, Any]

_FLOAT, _UINT, _USHORT, _UBYTE = 5126, 5125, 5123, 5121
_KINDS = {np.dtype("<f4"): _FLOAT, np.dtype("<u4"): _UINT, np.dtype("<u2"): _USHORT, np.dtype("u1"): _UBYTE}
_SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_TO_GLTF = np.array([1.0, -1.0, -1.0])
SKIN_COLOUR = {"a": (0.86, 0.62, 0.48), "b": (0.70, 0.74, 0.86)}
_WHITE, _IRIS = (0.95, 0.95, 0.93), (0.10, 0.14, 0.22)


class _Buffer:
    """The binary part of the file, and its views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[Json] = []
        self.accessors: list[Json] = []

    def add(self, values: npt.ArrayLike, kind: str, *, target: int | None = None, bounds: bool = False) -> int:
        """Append an array [N] or [N, K]; returns its accessor."""
        array = np.ascontiguousarray(values, dtype=kind)
        flat = array.reshape(len(array), -1)
        while len(self.data) % 4:
            self.data.append(0)
        view: Json = {"buffer": 0, "byteOffset": len(self.data), "byteLength": array.nbytes}
        if target is not None:
            view["target"] = target
        self.data += array.tobytes()
        self.views.append(view)
        accessor: Json = {
            "bufferView": len(self.views) - 1,
            "componentType": _KINDS[array.dtype],
            "count": len(array),
            "type": _SHAPES[flat.shape[1]],
        }
        if bounds:
            accessor["min"], accessor["max"] = flat.min(0).tolist(), flat.max(0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def glb_bytes(pair: Pair, model: HeadModel) -> bytes:
    """The scene of a pair. Key frames stand at valid frames only (seconds from the clip's start); nobody is shown for
    a person who is never valid. The sound is not part of it: glTF has none.

    Raises:
        UsageError: the pair refers to another head model, or nobody is ever valid.
    """
    if model.sha256 != pair.fitted.head_model_sha256:
        raise UsageError(
            f"pair {pair.pair_id} refers to head model {pair.fitted.head_model_id}; give that one with --head-model"
        )
    if model.pose_dirs is not None or model.joint_expression_dirs is not None:
        note = "pose correctives and joints that follow the expression are left out: glTF has neither"
    else:
        note = ""
    buffer = _Buffer()
    scene: Json = {"nodes": [], "meshes": [], "skins": [], "roots": [], "channels": [], "samplers": []}
    people = [(who, head) for who, head in (("a", pair.fitted.a), ("b", pair.fitted.b)) if head.valid.any()]
    if not people:
        raise UsageError(f"pair {pair.pair_id} has no valid frame: nothing to show")
    used = np.any([np.abs(np.nan_to_num(head.expression)).max(0) > 1e-6 for _, head in people], axis=0)
    modes = np.flatnonzero(used)
    targets = [{"POSITION": buffer.add(model.expression_dirs[..., k], "<f4", target=34962, bounds=True)} for k in modes]
    for who, head in people:
        _add_head(buffer, scene, who, head, model, modes, targets, pair.fitted.fps)
    _add_camera(scene, pair)
    gltf: Json = {
        "asset": {"version": "2.0", "generator": f"duologue {__version__}", "extras": {"pair_id": pair.pair_id}},
        "scene": 0,
        "scenes": [{"nodes": scene["roots"]}],
        "nodes": scene["nodes"],
        "meshes": scene["meshes"],
        "skins": scene["skins"],
        "cameras": scene["cameras"],
        "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.8}, "doubleSided": True}],
        "animations": [{"name": "conversation", "channels": scene["channels"], "samplers": scene["samplers"]}],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    if note:
        gltf["asset"]["extras"]["note"] = note
    return _packed(gltf, bytes(buffer.data))


def write_glb(pair: Pair, model: HeadModel, path: Path) -> Path:
    """Write :func:`glb_bytes` to ``path``."""
    write_file(path, glb_bytes(pair, model))
    return path


def _add_head(
    buffer: _Buffer, scene: Json, who: str, head: HeadTrack, model: HeadModel, modes: npt.NDArray[np.int64],
    targets: list[Json], fps: float,
) -> None:  # fmt: skip
    shape = head.shape.astype(np.float64)
    rest, joints = model.neutral(shape), model.posed_joints(shape)
    attributes = {
        "POSITION": buffer.add(rest, "<f4", target=34962, bounds=True),
        "NORMAL": buffer.add(vertex_normals(rest, model.triangles), "<f4", target=34962),
        "COLOR_0": buffer.add(_colours(rest, joints, model, who), "<f4", target=34962),
        **_skinning(buffer, model),
    }
    indices = buffer.add(model.triangles.reshape(-1), "<u4", target=34963)
    primitive: Json = {"attributes": attributes, "indices": indices, "material": 0}
    names = [model.expression_names[k] for k in modes]
    mesh: Json = {"name": f"head {who}", "primitives": [primitive]}
    if len(modes):
        primitive["targets"] = targets
        mesh |= {"weights": [0.0] * len(modes), "extras": {"targetNames": names}}
    scene["meshes"].append(mesh)
    nodes: list[Json] = scene["nodes"]
    first = len(nodes)
    for j, name in enumerate(JOINTS):
        parent = PARENTS[j]
        offset = joints[j] - (joints[parent] if parent >= 0 else joints[j])
        nodes.append({"name": f"{who} {name}", "translation": offset.tolist()})
        if parent < 0:
            nodes[-1]["scale"] = [float(head.scale)] * 3
        else:
            nodes[first + parent].setdefault("children", []).append(first + j)
    inverse = np.tile(np.eye(4), (len(JOINTS), 1, 1))
    inverse[:, :3, 3] = -joints
    skin = {
        "joints": [first + j for j in range(len(JOINTS))],
        "skeleton": first,
        "inverseBindMatrices": buffer.add(inverse.transpose(0, 2, 1).reshape(-1, 16), "<f4"),  # column by column
    }
    scene["skins"].append(skin)
    nodes.append({"name": f"head {who}", "mesh": len(scene["meshes"]) - 1, "skin": len(scene["skins"]) - 1})
    scene["roots"] += [first, len(nodes) - 1]
    at = np.flatnonzero(head.valid)
    times = buffer.add((at / fps).reshape(-1, 1), "<f4", bounds=True)

    def animate(node: int, path: str, values: Array) -> None:
        scene["samplers"].append({"input": times, "output": buffer.add(values, "<f4"), "interpolation": "LINEAR"})
        scene["channels"].append({"sampler": len(scene["samplers"]) - 1, "target": {"node": node, "path": path}})

    animate(first, "translation", head.translation[at].astype(np.float64) * _TO_GLTF)
    animate(first, "rotation", _quaternions(head.rotation[at].astype(np.float64) * _TO_GLTF))
    for joint, vectors in ((1, head.neck), (2, head.jaw), (LEFT_EYE, head.eyes[:, 0]), (RIGHT_EYE, head.eyes[:, 1])):
        animate(first + joint, "rotation", _quaternions(vectors[at].astype(np.float64)))
    if len(modes):
        animate(len(nodes) - 1, "weights", head.expression[at][:, modes].reshape(-1, 1).astype(np.float64))


def _skinning(buffer: _Buffer, model: HeadModel) -> Json:
    """The four heaviest of five joints of each vertex, weights summing to one."""
    order = np.argsort(-model.weights, axis=1, kind="stable")[:, :4]
    weights = np.take_along_axis(model.weights, order, axis=1)
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    order = np.where(weights > 0, order, 0)
    return {
        "JOINTS_0": buffer.add(order, "u1", target=34962),
        "WEIGHTS_0": buffer.add(weights, "<f4", target=34962),
    }


def _add_camera(scene: Json, pair: Pair) -> None:
    fitted = pair.fitted
    lens = {
        "yfov": 2 * float(np.arctan(fitted.height / 2 / fitted.focal_px)),
        "aspectRatio": fitted.width / fitted.height,
        "znear": 0.05,
        "zfar": 50.0,
    }
    scene["cameras"] = [{"type": "perspective", "perspective": lens}]
    scene["nodes"].append({"name": "camera", "camera": 0})
    scene["roots"].append(len(scene["nodes"]) - 1)


def _quaternions(vectors: Array) -> Array:
    """Unit quaternions x, y, z, w of rotation vectors [N, 3], neighbours on the same side."""
    quaternions = Rotation.from_rotvec(vectors).as_quat()
    flips = np.cumprod(np.where(np.sum(quaternions[1:] * quaternions[:-1], axis=1) < 0, -1.0, 1.0))
    quaternions[1:] *= flips[:, None]
    return np.asarray(quaternions)


def vertex_normals(points: Array, triangles: npt.NDArray[np.int64]) -> Array:
    """Unit normals [V, 3], area-weighted; +z where a vertex belongs to no triangle."""
    corner = points[triangles]
    flat = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    out = np.zeros_like(points)
    for k in range(3):
        np.add.at(out, triangles[:, k], flat)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.where(length > 1e-15, out / np.maximum(length, 1e-15), [0.0, 0.0, 1.0])


def _colours(rest: Array, joints: Array, model: HeadModel, who: str) -> Array:
    """[V, 3] linear colours: skin by person, white eyeballs with dark irises."""
    colours = np.tile(np.asarray(SKIN_COLOUR[who]), (len(rest), 1))
    limit = np.arcsin(min(model.iris_radius / model.eyeball_radius, 1.0))
    for part, joint in ((LEFT_EYEBALL, LEFT_EYE), (RIGHT_EYEBALL, RIGHT_EYE)):
        ball = model.parts == part
        axis = rest[ball] - joints[joint]
        angle = np.arctan2(np.linalg.norm(axis[:, :2], axis=1), axis[:, 2])
        colours[ball] = np.where((angle < limit)[:, None], _IRIS, _WHITE)
    return colours


def _packed(gltf: Json, binary: bytes) -> bytes:
    text = json.dumps(gltf, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    head = struct.pack("<III", 0x46546C67, 2, total)
    return (
        head + struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    )
