"""GNM Head v3 (Google, Apache-2.0), from its ``gnm_head.npz``: read directly, without the GNM package.

Joints are neck, head, left eye, right eye; there is no jaw joint (the mouth opens by expression), so ours is locked.
GNM's neck and head stand where our root and neck do. Teeth identity and tongue, pupil expressions are left out:
landmarks cannot see them.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from .head_model import (
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
    HeadModel,
)

KEYS = frozenset(
    {
        "template_vertex_positions",
        "triangles",
        "vertex_identity_basis",
        "expression_basis",
        "template_joint_positions",
        "joint_identity_basis",
        "skinning_weights",
    }
)
JOINT_ORDER = ("neck", "head", "left_eye", "right_eye")
_OURS = (ROOT, NECK, LEFT_EYE, RIGHT_EYE)
_UNSEEN_IDENTITY = ("teeth",)
_UNSEEN_EXPRESSION = ("tongue", "pupil", "eyeballs")
CORNEA_TO_CENTRE = 0.0133  # metres


def load_gnm(path: Path, embedding: Path | None = None) -> HeadModel:
    """Read a GNM Head ``.npz``.

    Raises:
        UsageError: naming the array that is missing or has the wrong shape, and what was expected.
    """
    from .embedding import EMPTY, check, load_embedding, register

    a = _read(path)
    vertices = a["template_vertex_positions"].astype(np.float64)
    n, s, e = len(vertices), len(a["vertex_identity_basis"]), len(a["expression_basis"])
    shapes: dict[str, tuple[int, ...]] = {
        "template_vertex_positions": (n, 3),
        "vertex_identity_basis": (s, n, 3),
        "expression_basis": (e, n, 3),
        "template_joint_positions": (4, 3),
        "joint_identity_basis": (s, 4, 3),
        "skinning_weights": (4, n),
    }
    for name, expected in shapes.items():
        if a[name].shape != expected:
            raise UsageError(f"head model {path}: {name} has shape {a[name].shape}, expected {expected}")
        if not np.isfinite(a[name]).all():
            raise UsageError(f"head model {path}: {name} holds values that are not finite")
    triangles = a["triangles"].astype(np.int64)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.min() < 0 or triangles.max() >= n:
        raise UsageError(f"head model {path}: triangles has shape {triangles.shape}, expected [F, 3] indices below {n}")
    if "joint_names" in a and tuple(str(j) for j in a["joint_names"]) != JOINT_ORDER:
        raise UsageError(f"head model {path}: joint_names {a['joint_names'].tolist()}, expected {list(JOINT_ORDER)}")
    height = float(np.ptp(vertices[:, 1]))
    if not 0.15 < height < 0.6:
        raise UsageError(f"head model {path}: the template is {height:.3g} high, expected metres (0.15-0.6)")

    identity_names = _names(a, "identity_names", "identity", s)
    expression_names = _names(a, "expression_names", "expression", e)
    seen_identity = [k for k, name in enumerate(identity_names) if not name.startswith(_UNSEEN_IDENTITY)]
    seen_expression = [k for k, name in enumerate(expression_names) if not name.startswith(_UNSEEN_EXPRESSION)]
    seen_expression = _interleaved(expression_names, seen_expression)
    weights = np.zeros((n, 5))
    weights[:, _OURS] = a["skinning_weights"].T
    weights /= weights.sum(1, keepdims=True)
    joints = np.zeros((5, 3))
    joints[list(_OURS)] = a["template_joint_positions"]
    joints[JAW] = joints[NECK]
    joint_dirs = np.zeros((5, 3, len(seen_identity)))
    joint_dirs[list(_OURS)] = a["joint_identity_basis"][seen_identity].transpose(1, 2, 0)
    joint_dirs[JAW] = joint_dirs[NECK]
    parts = _parts(a, weights, path)
    cornea = np.mean(
        [
            vertices[parts == p, 2].max() - joints[j, 2]
            for p, j in ((LEFT_EYEBALL, LEFT_EYE), (RIGHT_EYEBALL, RIGHT_EYE))
        ]
    )
    head = HeadModel(
        model_id="gnm-head-" + str(a.get("version", np.array("3"))),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        tier="gnm",
        license="Apache-2.0 (Google)",
        vertices=vertices,
        triangles=triangles,
        shape_dirs=np.ascontiguousarray(a["vertex_identity_basis"][seen_identity].transpose(1, 2, 0), dtype=np.float32),
        expression_dirs=np.ascontiguousarray(
            a["expression_basis"][seen_expression].transpose(1, 2, 0), dtype=np.float32
        ),
        weights=weights,
        joints=joints,
        joint_dirs=joint_dirs,
        joint_expression_dirs=None,
        pose_dirs=_pose_dirs(a, n, path),
        shape_names=tuple(identity_names[k] for k in seen_identity),
        expression_names=tuple(expression_names[k] for k in seen_expression),
        expression_sd=np.ones(len(seen_expression)),
        jaw_limits=np.zeros((3, 2)),
        # the iris plane lies 3 mm behind the corneal apex
        eyeball_radius=float(np.hypot(IRIS_RADIUS, max(float(cornea) - 0.003, 0.008))),
        iris_radius=IRIS_RADIUS,
        embedding=EMPTY,
        parts=parts,
        notes=("the mouth opens by expression, not by a jaw joint",),
    )
    made = load_embedding(embedding, len(triangles)) if embedding else register(head)
    head = replace(head, embedding=made)
    check(head)
    return head


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    wanted = KEYS | {
        "identity_names",
        "expression_names",
        "joint_names",
        "vertex_groups",
        "vertex_group_names",
        "pose_correctives_regressor",
        "version",
    }
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in wanted}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"head model {path}: not a readable GNM .npz ({error})") from None
    missing = sorted(KEYS - arrays.keys())
    if missing:
        raise UsageError(f"head model {path}: GNM's {', '.join(missing)} missing")
    return arrays


def _interleaved(names: tuple[str, ...], kept: list[int]) -> list[int]:
    """The strongest mode of each region first, then the second of each, so that any first N are a fair choice."""
    rank: dict[str, int] = {}
    order = []
    for k in kept:
        region = names[k].rstrip("0123456789").rstrip("_")
        order.append((rank.setdefault(region, 0), k))
        rank[region] += 1
    return [k for _, k in sorted(order)]


def _names(arrays: dict[str, npt.NDArray[Any]], key: str, stem: str, count: int) -> tuple[str, ...]:
    if key in arrays and len(arrays[key]) == count:
        return tuple(str(n) for n in arrays[key])
    return tuple(f"{stem}{k:03d}" for k in range(count))


def _parts(arrays: dict[str, npt.NDArray[Any]], weights: npt.NDArray[np.float64], path: Path) -> npt.NDArray[np.uint8]:
    """Skin, eyeballs and inner mouth from the vertex groups, or from the skinning where there are none."""
    parts = np.full(len(weights), SKIN, dtype=np.uint8)
    if "vertex_groups" in arrays and "vertex_group_names" in arrays:
        groups = dict(zip((str(n) for n in arrays["vertex_group_names"]), arrays["vertex_groups"], strict=False))
        for name, members in groups.items():
            if name in ("tongue", "teeth") or "gums" in name or name.endswith("_teeth"):
                parts[members > 0.5] = INNER_MOUTH
    parts[weights[:, LEFT_EYE] > 0.9] = LEFT_EYEBALL
    parts[weights[:, RIGHT_EYE] > 0.9] = RIGHT_EYEBALL
    for part, joint in ((LEFT_EYEBALL, "left_eye"), (RIGHT_EYEBALL, "right_eye")):
        if not (parts == part).any():
            raise UsageError(
                f"head model {path}: skinning_weights give no eyeball, expected vertices moved by {joint} alone"
            )
    return parts


def _pose_dirs(arrays: dict[str, npt.NDArray[Any]], n: int, path: Path) -> npt.NDArray[np.float32] | None:
    """GNM's correctives [36, 3 V] over its own joints, brought to FLAME's four; None where all are zero (v3)."""
    regressor = arrays.get("pose_correctives_regressor")
    if regressor is None or not np.any(regressor):
        return None
    if regressor.shape != (36, 3 * n):
        raise UsageError(
            f"head model {path}: pose_correctives_regressor has shape {regressor.shape}, expected {(36, 3 * n)}"
        )
    by_joint = regressor.reshape(4, 9, n, 3)
    out = np.zeros((n, 3, 4, 9), dtype=np.float32)
    for theirs, ours in (
        (1, 0),
        (2, 2),
        (3, 3),
    ):  # head, left eye, right eye -> neck, left eye, right eye; root is at rest
        out[:, :, ours] = by_joint[theirs].transpose(1, 2, 0)
    return out.reshape(n, 3, 36)
