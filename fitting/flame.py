"""FLAME 2020, 2023 and 2023 Open (Li et al. 2017), from the original pickles or an ``.npz`` of the same arrays.

The pickles are read by :mod:`.safe_pickle`, which runs nothing from the file. Coefficients of different FLAME
releases are not
interchangeable: rows name the file by its hash.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from .head_model import (
    IRIS_RADIUS,
    LEFT_EYE,
    LEFT_EYEBALL,
    PARENTS,
    RIGHT_EYE,
    RIGHT_EYEBALL,
    SKIN,
    HeadModel,
)
from .mesh_query import sphere_fit
from .safe_pickle import load_arrays

KEYS = frozenset({"v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f"})
N_IDENTITY, N_EXPRESSION = 300, 100
N_POSE_FEATURES = 36  # 4 joints x vec(R - I)
OPEN_LICENSE = "CC-BY-4.0 (FLAME 2023 Open, Max Planck Institute for Intelligent Systems)"
CLOSED_LICENSE = "FLAME licence, non-commercial (Max Planck Institute for Intelligent Systems)"


def load_flame(path: Path, embedding: Path | None = None) -> HeadModel:
    """Read a FLAME file.

    ``no_jaw`` in its name locks the jaw joint (that release opens the mouth by expression); ``open`` in its name
    states the open licence, which the arrays do not tell.

    Raises:
        UsageError: naming the array that is missing or has the wrong shape, and what was expected.
    """
    from .embedding import EMPTY, check, load_embedding, register

    arrays = _read(path)
    template = arrays["v_template"]
    n = len(template)
    shapes = {
        "v_template": (n, 3),
        "shapedirs": (n, 3, N_IDENTITY + N_EXPRESSION),
        "weights": (n, 5),
        "J_regressor": (5, n),
        "kintree_table": (2, 5),
    }
    for name, expected in shapes.items():
        if arrays[name].shape != expected:
            raise UsageError(f"head model {path}: {name} has shape {arrays[name].shape}, expected {expected}")
        if not np.issubdtype(arrays[name].dtype, np.number) or not np.isfinite(arrays[name]).all():
            raise UsageError(f"head model {path}: {name} holds values that are not finite numbers")
    parents = arrays["kintree_table"][0].astype(np.int64)
    parents[0] = -1  # stored as uint32, where -1 is 4294967295
    if tuple(parents) != PARENTS:
        raise UsageError(f"head model {path}: kintree_table has parents {parents.tolist()}, expected {list(PARENTS)}")
    triangles = arrays["f"].astype(np.int64)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.min() < 0 or triangles.max() >= n:
        raise UsageError(f"head model {path}: f has shape {triangles.shape}, expected [F, 3] indices below {n}")
    height = float(np.ptp(template[:, 1]))
    if not 0.15 < height < 0.6:
        raise UsageError(f"head model {path}: the template is {height:.3g} high, expected metres (0.15-0.6)")

    weights = arrays["weights"].astype(np.float64)
    regressor = arrays["J_regressor"].astype(np.float64)
    shapedirs = arrays["shapedirs"].astype(np.float32)
    joint_dirs = np.einsum("jv,vdk->jdk", regressor, arrays["shapedirs"].astype(np.float64))
    parts = np.full(n, SKIN, dtype=np.uint8)
    parts[weights[:, LEFT_EYE] > 0.9] = LEFT_EYEBALL
    parts[weights[:, RIGHT_EYE] > 0.9] = RIGHT_EYEBALL
    if not (parts == LEFT_EYEBALL).any() or not (parts == RIGHT_EYEBALL).any():
        raise UsageError(
            f"head model {path}: weights give no eyeballs, expected vertices moved by joints 3 and 4 alone"
        )
    radius = float(np.mean([sphere_fit(template[parts == part])[1] for part in (LEFT_EYEBALL, RIGHT_EYEBALL)]))
    name = path.stem.lower()
    head = HeadModel(
        model_id=f"flame-{name.removeprefix('flame').strip('_-') or 'model'}",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        tier="flame",
        license=OPEN_LICENSE if "open" in name else CLOSED_LICENSE,
        vertices=template.astype(np.float64),
        triangles=triangles,
        shape_dirs=shapedirs[..., :N_IDENTITY],
        expression_dirs=shapedirs[..., N_IDENTITY:],
        weights=weights / weights.sum(1, keepdims=True),
        joints=regressor @ template,
        joint_dirs=joint_dirs[..., :N_IDENTITY],
        joint_expression_dirs=joint_dirs[..., N_IDENTITY:],
        pose_dirs=_pose_dirs(arrays["posedirs"], n, path),
        shape_names=tuple(f"shape{k:03d}" for k in range(N_IDENTITY)),
        expression_names=tuple(f"expression{k:03d}" for k in range(N_EXPRESSION)),
        expression_sd=np.ones(N_EXPRESSION),
        jaw_limits=np.zeros((3, 2)) if "no_jaw" in name else np.array([[-0.05, 0.6], [-0.2, 0.2], [-0.1, 0.1]]),
        eyeball_radius=radius,
        iris_radius=IRIS_RADIUS,
        embedding=EMPTY,
        parts=parts,
    )
    made = load_embedding(embedding, len(triangles)) if embedding else register(head)
    head = replace(head, embedding=made)
    check(head)
    return head


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    if path.suffix.lower() == ".pkl":
        arrays = load_arrays(path)
    else:
        with np.load(path, allow_pickle=False) as archive:
            try:
                arrays = {name: archive[name] for name in archive.files if name in KEYS}
            except ValueError as error:
                raise UsageError(
                    f"head model {path}: an array holds objects, which are never unpickled ({error})"
                ) from None
    missing = sorted(KEYS - arrays.keys())
    if missing:
        raise UsageError(f"head model {path}: FLAME's {', '.join(missing)} missing or not a plain array")
    return arrays


def _pose_dirs(posedirs: npt.NDArray[Any], n: int, path: Path) -> npt.NDArray[np.float32]:
    """[V, 3, 36], also from the flattened [36, 3 V] that converters write."""
    if posedirs.shape == (N_POSE_FEATURES, 3 * n):
        posedirs = posedirs.T.reshape(n, 3, N_POSE_FEATURES)
    if posedirs.shape != (n, 3, N_POSE_FEATURES):
        raise UsageError(
            f"head model {path}: posedirs has shape {posedirs.shape}, expected {(n, 3, N_POSE_FEATURES)} or "
            f"{(N_POSE_FEATURES, 3 * n)}"
        )
    return np.ascontiguousarray(posedirs, dtype=np.float32)
