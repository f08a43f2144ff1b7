"""ICT-FaceKit (Li et al. 2020, MIT licence): a folder of OBJ files in centimetres, one per identity mode and
expression.

The jaw is a blend shape there, so the jaw joint is locked. The look-around shapes move lids; what they do to the
eyeballs is taken out, since eyeballs are joints here.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from .head_model import (
    BACK,
    INNER_MOUTH,
    IRIS_RADIUS,
    JAW,
    LEFT_EYE,
    LEFT_EYEBALL,
    NECK,
    RIGHT_EYE,
    RIGHT_EYEBALL,
    ROOT,
    SKIN,
    Array,
    HeadModel,
    Index,
)

NEUTRAL = "generic_neutral_mesh.obj"
N_VERTICES = 26719
# vertex ranges of the published topology
FACE = slice(0, 14062)
INNER = slice(14062, 21451)  # gums, tongue and teeth
EYEBALLS = {LEFT_EYE: slice(21451, 23021), RIGHT_EYE: slice(23021, 24591)}
CORNEA_TO_CENTRE = 0.0133  # metres, eyeball's centre of rotation behind the corneal apex
_CENTIMETRES = 0.01
_VERSION = 1

# The landmark vertices (iBUG 68) whose FaceMesh counterpart is the very same point: the corners of
# the eyes, subnasale and the lips' borders.
IBUG_TO_FACEMESH = {33: 2, 36: 33, 39: 133, 42: 362, 45: 263, 51: 0, 57: 17}


def load_ict(folder: Path, embedding: Path | None = None) -> HeadModel:
    """Read an ICT-FaceKit folder (the one with ``generic_neutral_mesh.obj``, or its parent).

    The parsed arrays are kept as one ``.npz`` in the user's cache, named by the content of the folder.

    Raises:
        UsageError: naming what is missing or has the wrong size.
    """
    from .embedding import EMPTY, check, load_embedding, register

    root = folder if (folder / NEUTRAL).exists() else folder / "FaceXModel"
    if not (root / NEUTRAL).exists():
        raise UsageError(f"head model {folder}: expected an ICT-FaceKit folder with {NEUTRAL}")
    files = sorted(p for p in root.iterdir() if p.suffix == ".obj")
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    sha256 = digest.hexdigest()
    arrays = _cached(root, files, sha256)

    vertices = arrays["vertices"]
    expression_names = tuple(str(n) for n in arrays["expression_names"])
    expression_dirs = arrays["expression_dirs"]
    parts = np.full(N_VERTICES, BACK, dtype=np.uint8)
    parts[FACE], parts[INNER] = SKIN, INNER_MOUTH
    parts[EYEBALLS[LEFT_EYE]], parts[EYEBALLS[RIGHT_EYE]] = LEFT_EYEBALL, RIGHT_EYEBALL
    weights = np.zeros((N_VERTICES, 5))
    joints = np.zeros((5, 3))
    joint_dirs = np.zeros((5, 3, arrays["shape_dirs"].shape[-1]))
    for joint, rows in EYEBALLS.items():
        expression_dirs[rows] = 0.0
        weights[rows, joint] = 1.0
        ball = vertices[rows]
        joints[joint] = 0.5 * (ball.min(0) + ball.max(0))
        joints[joint, 2] = ball[:, 2].max() - CORNEA_TO_CENTRE
        joint_dirs[joint] = arrays["shape_dirs"][rows].mean(0)
    weights[:, NECK] = 1.0 - weights.sum(1)
    middle = 0.5 * (joints[LEFT_EYE] + joints[RIGHT_EYE])
    joints[ROOT], joints[NECK], joints[JAW] = middle + np.array(
        [[0, -0.115, -0.085], [0, -0.035, -0.08], [0, -0.027, -0.055]]
    )
    joint_dirs[[ROOT, NECK, JAW]] = joint_dirs[[LEFT_EYE, RIGHT_EYE]].mean(0)

    head = HeadModel(
        model_id="ict-facekit",
        sha256=sha256,
        tier="ict",
        license="MIT (USC ICT)",
        vertices=vertices,
        triangles=arrays["triangles"],
        shape_dirs=arrays["shape_dirs"],
        expression_dirs=expression_dirs,
        weights=weights,
        joints=joints,
        joint_dirs=joint_dirs,
        joint_expression_dirs=None,
        pose_dirs=None,
        shape_names=tuple(f"identity{k:03d}" for k in range(arrays["shape_dirs"].shape[-1])),
        expression_names=expression_names,
        expression_sd=np.full(len(expression_names), 0.35),
        jaw_limits=np.zeros((3, 2)),
        eyeball_radius=float(np.hypot(IRIS_RADIUS, CORNEA_TO_CENTRE - 0.003)),
        iris_radius=IRIS_RADIUS,
        embedding=EMPTY,
        parts=parts,
        notes=("the jaw is a blend shape (jawOpen), not a joint",),
    )
    made = load_embedding(embedding, len(head.triangles)) if embedding else register(head, _anchors(root, vertices))
    head = replace(head, embedding=made)
    check(head)
    return head


def _anchors(root: Path, vertices: Array) -> dict[int, Array]:
    """Landmark vertices of ``vertex_indices.json``, where the folder has it."""
    path = root / "vertex_indices.json"
    if not path.exists():
        return {}
    try:
        listed = json.loads(path.read_text())["idx_to_landmark_verts"]
        places = vertices[np.asarray(listed, dtype=np.int64)]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UsageError(f"head model {path}: expected idx_to_landmark_verts with 68 vertices ({error})") from None
    if len(places) != 68:
        raise UsageError(f"head model {path}: expected 68 landmark vertices, found {len(places)}")
    return {face: places[ibug] for ibug, face in IBUG_TO_FACEMESH.items()}


def _cached(root: Path, files: list[Path], sha256: str) -> dict[str, npt.NDArray[Any]]:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duologue"
    cache = base / f"ict-{sha256[:16]}-{_VERSION}.npz"
    if cache.exists():
        try:
            with np.load(cache, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError, KeyError, EOFError):
            cache.unlink(missing_ok=True)
    arrays = _parse(root, files)
    try:
        base.mkdir(parents=True, exist_ok=True)
        partial = cache.with_name(f"{cache.stem}.{os.getpid()}.part.npz")
        np.savez(partial, allow_pickle=False, **arrays)
        os.replace(partial, cache)
    except OSError:
        return arrays  # a read-only home only costs the time of parsing again
    return arrays


def _parse(root: Path, files: list[Path]) -> dict[str, npt.NDArray[Any]]:
    neutral = read_obj_vertices(root / NEUTRAL)
    if neutral.shape != (N_VERTICES, 3):
        raise UsageError(f"head model {root / NEUTRAL}: expected {N_VERTICES} vertices, found {len(neutral)}")
    modes: dict[str, npt.NDArray[np.float32]] = {}
    for path in files:
        if path.name == NEUTRAL or path.stem.startswith("PupilDilate"):
            continue
        vertices = read_obj_vertices(path)
        if vertices.shape != neutral.shape:
            raise UsageError(f"head model {path}: expected {N_VERTICES} vertices, found {len(vertices)}")
        modes[path.stem] = ((vertices - neutral) * _CENTIMETRES).astype(np.float32)
    identity = [name for name in modes if name.startswith("identity")]
    expression = [name for name in modes if not name.startswith("identity")]
    if not identity or not expression:
        raise UsageError(f"head model {root}: expected identity*.obj and expression shapes beside {NEUTRAL}")
    return {
        "vertices": neutral * _CENTIMETRES,
        "triangles": read_obj_triangles(root / NEUTRAL),
        "shape_dirs": np.stack([modes[n] for n in identity], -1),
        "expression_dirs": np.stack([modes[n] for n in expression], -1),
        "expression_names": np.array(expression),
    }


def read_obj_vertices(path: Path) -> Array:
    """``v x y z`` lines of an OBJ file, [V, 3]."""
    lines = [line[2:] for line in path.read_bytes().split(b"\n") if line[:2] == b"v "]
    try:
        flat = np.array(b" ".join(lines).split(), dtype=np.float64)
        return flat.reshape(len(lines), 3)
    except ValueError as error:
        raise UsageError(f"head model {path}: not a readable OBJ ({error})") from None


def read_obj_triangles(path: Path) -> Index:
    """``f`` lines of an OBJ file, polygons fanned into triangles, [F, 3] from zero."""
    triangles: list[tuple[int, int, int]] = []
    for line in path.read_bytes().split(b"\n"):
        if line[:2] == b"f ":
            corner = [int(part.split(b"/")[0]) - 1 for part in line.split()[1:]]
            triangles += [(corner[0], corner[k], corner[k + 1]) for k in range(1, len(corner) - 1)]
    return np.array(triangles, dtype=np.int64)
