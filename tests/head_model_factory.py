"""Head-model files in the published layouts with the quirks of the originals, and a reference skinning."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from duologue.fitting.head_model import PARENTS, HeadModel
from duologue.fitting.load_head import load_head_model
from scipy.spatial.transform import Rotation


def flame_arrays(seed: int = 0) -> dict[str, Any]:
    """Every array of a FLAME pickle: 300 + 100 modes, posedirs, sparse regressor, uint32 kintree."""
    rng = np.random.default_rng(seed)
    head = load_head_model("canonical")
    n = len(head.vertices)
    dirs = np.zeros((n, 3, 400))
    smooth = np.sin(head.vertices @ rng.normal(size=(3, 400)) * 40 + rng.uniform(0, 6, 400))
    dirs[:] = 2e-4 * smooth[:, None] * rng.normal(size=(3, 400))
    dirs[..., : len(head.shape_names)] = head.shape_dirs
    dirs[..., 300 : 300 + len(head.expression_names)] = head.expression_dirs
    regressor = np.zeros((5, n))
    for j, joint in enumerate(head.joints):
        # barycentric-like regression from scattered vertices, exact for the template
        rows = rng.choice(n, 24, replace=False) if j < 3 else np.flatnonzero(head.parts == j - 2)[::9]
        a = np.vstack([head.vertices[rows].T, np.ones(len(rows))])
        regressor[j, rows] = np.linalg.lstsq(a, np.r_[joint, 1.0], rcond=None)[0]
    kintree = np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32)
    return {
        "v_template": head.vertices.copy(),
        "shapedirs": dirs,
        "posedirs": 2e-3 * rng.normal(size=(n, 3, 36)) * (head.parts == 0)[:, None, None],
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "kintree_table": kintree,
        "weights": head.weights.copy(),
        "f": head.triangles.astype(np.uint32),
        "J": head.joints.copy(),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


_PurePickler: Any = pickle._Pickler  # type: ignore[attr-defined]


class _Python2Pickler(_PurePickler):  # type: ignore[misc]
    """Writes byte strings as Python 2 did (BINSTRING), to be read back as latin1 text."""

    dispatch = _PurePickler.dispatch.copy()

    def save_bytes(self, obj: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(obj)) + obj)

    dispatch[bytes] = save_bytes


def write_flame_pickle(
    path: Path, arrays: dict[str, Any], chumpy: tuple[str, ...] = ("v_template", "shapedirs")
) -> Path:
    """A protocol-2, Python-2 style pickle in which some arrays are ``chumpy.ch.Ch`` objects."""
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x: Any) -> None:
            self.x = x
            self._dirty_vars = {"x"}
            self._make_dense = False

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("chumpy", "chumpy.ch")}
    sys.modules.update({"chumpy": package, "chumpy.ch": module})
    try:
        buffer = io.BytesIO()
        content = {k: Ch(v) if k in chumpy else v for k, v in arrays.items()}
        _Python2Pickler(buffer, protocol=2).dump(content)
    finally:
        for name, old in before.items():
            if old is None:
                sys.modules.pop(name)
            else:
                sys.modules[name] = old
    data = buffer.getvalue()
    for new, written in (
        (b"numpy._core.multiarray", b"numpy.core.multiarray"),
        (b"scipy.sparse._csc", b"scipy.sparse.csc"),
    ):
        data = data.replace(b"c" + new + b"\n", b"c" + written + b"\n")
    path.write_bytes(data)
    return path


def write_flame_npz(path: Path, arrays: dict[str, Any]) -> Path:
    dense = {k: v.toarray() if scipy.sparse.issparse(v) else v for k, v in arrays.items()}
    dense["posedirs"] = dense["posedirs"].reshape(-1, 36).T  # as converters write it
    np.savez(path, **dense)
    return path


def gnm_arrays(correctives: bool = False, seed: int = 0) -> dict[str, Any]:
    """GNM Head v3's layout at the canonical head's size: [modes, V, 3] bases, [4, V] skinning, regions in the names."""
    rng = np.random.default_rng(seed)
    head: HeadModel = load_head_model("canonical")
    n = len(head.vertices)
    identity_names = (
        [f"head_{k}" for k in range(32)] + [f"eyes_{k}" for k in range(3)] + [f"teeth_{k}" for k in range(5)]
    )
    identity = np.zeros((len(identity_names), n, 3), np.float32)
    identity[:32] = head.shape_dirs.transpose(2, 0, 1)
    jaw = (head.pose(jaw=[0.25, 0, 0]) - head.vertices).astype(np.float32)
    expression = np.concatenate([head.expression_dirs.transpose(2, 0, 1), jaw[None], np.zeros((4, n, 3), np.float32)])
    regions = (
        ["left_eye_region"] * 6 + ["right_eye_region"] * 6 + ["lower_face_region"] * 23 + ["tongue"] * 3 + ["pupils"]
    )
    seen: dict[str, int] = {}
    names = []
    for region in regions:
        names.append(f"{region}_{seen.setdefault(region, 0)}")
        seen[region] += 1
    skinning = np.zeros((4, n), np.float32)
    skinning[0] = head.weights[:, 0]
    skinning[1] = head.weights[:, 1] + head.weights[:, 2]
    skinning[2:] = head.weights[:, 3:].T
    joint_basis = np.zeros((len(identity_names), 4, 3), np.float32)
    joint_basis[:32] = head.joint_dirs[[0, 1, 3, 4]].transpose(2, 0, 1)
    regressor = np.zeros((36, 3 * n), np.float32)
    if correctives:
        regressor[:] = 1e-3 * rng.normal(size=regressor.shape)
    return {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        "template_vertex_positions": head.vertices.astype(np.float32),
        "triangles": head.triangles.astype(np.int32),
        "vertex_identity_basis": identity,
        "expression_basis": expression,
        "identity_names": np.array(identity_names),
        "expression_names": np.array(names),
        "template_joint_positions": head.joints[[0, 1, 3, 4]].astype(np.float32),
        "joint_identity_basis": joint_basis,
        "joint_names": np.array(["neck", "head", "left_eye", "right_eye"]),
        "joint_parent_indices": np.array([-1, 0, 1, 1], np.int32),
        "skinning_weights": skinning,
        "pose_correctives_regressor": regressor,
        "vertex_group_names": np.array(["skin", "tongue", "upper_teeth_and_gums"]),
        "vertex_groups": np.stack([head.parts == 0, np.zeros(n), head.parts == 3]).astype(np.float32),
    }


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def write_task(path: Path, vertices_cm: np.ndarray, triangles: np.ndarray, packed: bool = True) -> Path:
    """A MediaPipe bundle with nothing but the geometry metadata, floats packed or one by one."""
    floats = np.c_[vertices_cm, np.zeros((len(vertices_cm), 2))].astype("<f4").ravel()
    mesh = b"\x08\x00\x10\x00"
    if packed:
        body = floats.tobytes()
        mesh += b"\x1a" + _varint(len(body)) + body
        body = b"".join(_varint(int(i)) for i in triangles.ravel())
        mesh += b"\x22" + _varint(len(body)) + body
    else:
        mesh += b"".join(b"\x1d" + f.tobytes() for f in floats)
        mesh += b"".join(b"\x20" + _varint(int(i)) for i in triangles.ravel())
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("geometry_pipeline_metadata_landmarks.binarypb", b"\x0a" + _varint(len(mesh)) + mesh)
    return path


def reference_lbs(
    head: HeadModel, shape: np.ndarray, expression: np.ndarray, jaw: np.ndarray, neck: np.ndarray, eyes: np.ndarray
) -> np.ndarray:
    """4x4 forward kinematics, one vertex sum per joint, as the FLAME paper writes it."""
    offset = head.shape_dirs.astype(float) @ shape + head.expression_dirs.astype(float) @ expression
    joints = head.joints + head.joint_dirs @ shape
    if head.joint_expression_dirs is not None:
        joints = joints + head.joint_expression_dirs @ expression
    local = [np.zeros(3), neck, jaw, eyes[0], eyes[1]]
    rotations = [Rotation.from_rotvec(v).as_matrix() for v in local]
    rest: np.ndarray = head.vertices + offset
    if head.pose_dirs is not None:
        rest = rest + head.pose_dirs.astype(float) @ np.concatenate([(r - np.eye(3)).ravel() for r in rotations[1:]])
    world: list[np.ndarray] = []
    for j, parent in enumerate(PARENTS):
        step = np.eye(4)
        step[:3, :3] = rotations[j]
        step[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        world.append(step if parent < 0 else world[parent] @ step)
    out = np.zeros_like(rest)
    for j in range(5):
        bind = np.eye(4)
        bind[:3, 3] = -joints[j]
        moved = np.c_[rest, np.ones(len(rest))] @ (world[j] @ bind).T
        out += head.weights[:, j, None] * moved[:, :3]
    return out


def random_parameters(head: HeadModel, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "shape": rng.normal(size=len(head.shape_names)),
        "expression": rng.normal(size=len(head.expression_names)) * head.expression_sd,
        "jaw": rng.uniform([-0.05, -0.2, -0.1], [0.6, 0.2, 0.1]),
        "neck": rng.normal(size=3) * 0.3,
        "eyes": rng.normal(size=(2, 3)) * 0.3,
    }


def with_everything(seed: int = 0) -> HeadModel:
    """The canonical head with pose correctives and joints that follow the expression, as FLAME has them."""
    head = load_head_model("canonical")
    rng = np.random.default_rng(seed)
    return replace(
        head,
        pose_dirs=(2e-3 * rng.normal(size=(len(head.vertices), 3, 36))).astype(np.float32),
        joint_expression_dirs=1e-3 * rng.normal(size=(5, 3, len(head.expression_names))),
    )
