"""Open a head model of any kind: by its path, by the environment, or the embedded canonical head."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from ..schemas.errors import UsageError
from . import canonical, flame, gnm, ict, task_mesh
from .head_model import HeadModel

ENVIRONMENT = "DUOLOGUE_HEAD_MODEL"


def chosen_head(path: str | Path | None = None) -> str:
    """The first of ``path``, $DUOLOGUE_HEAD_MODEL and "canonical": what :func:`load_head_model` opens."""
    return str(path or os.environ.get(ENVIRONMENT) or "canonical")


def load_head_model(path: str | Path | None = None, embedding: str | Path | None = None) -> HeadModel:
    """Open a head model; the first of ``path``, $DUOLOGUE_HEAD_MODEL and the embedded canonical head wins.

    Args:
        path: a FLAME ``.pkl`` or ``.npz``, a GNM Head ``.npz``, an ICT-FaceKit folder, a MediaPipe ``.task`` bundle,
            a head written by this package (``.npz``), or "canonical" / "second" for the embedded ones.
        embedding: an ``.npz`` with ``lmk_face_idx``, ``lmk_b_coords``, ``landmark_indices``, instead of making one.

    Raises:
        UsageError: with one line that names what was found and what was expected.
    """
    chosen = chosen_head(path)
    given = None if embedding is None else Path(embedding)
    if chosen in canonical.EMBEDDED:
        return canonical.load_embedded(chosen)
    where = Path(chosen)
    if not where.exists():
        raise UsageError(f"head model {chosen}: no such file or folder")
    if where.is_dir():
        return ict.load_ict(where, given)
    suffix = where.suffix.lower()
    if suffix == ".task":
        return task_mesh.load_task(where, given)
    if suffix == ".pkl":
        return flame.load_flame(where, given)
    if suffix == ".npz":
        keys = _npz_keys(where)
        if keys >= canonical.KEYS:
            return canonical.load_npz(where)
        if keys >= flame.KEYS:
            return flame.load_flame(where, given)
        if keys >= gnm.KEYS:
            return gnm.load_gnm(where, given)
        raise UsageError(
            f"head model {chosen}: an .npz with {_listed(keys)}; expected FLAME ({_listed(flame.KEYS)}) "
            f"or GNM ({_listed(gnm.KEYS)})"
        )
    raise UsageError(
        f"head model {chosen}: expected a FLAME .pkl or .npz, a GNM Head .npz, an ICT-FaceKit folder or a "
        "MediaPipe .task"
    )


def _npz_keys(path: Path) -> frozenset[str]:
    """Array names of an ``.npz``; UsageError when the file is not one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return frozenset(archive.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"head model {path}: not a readable .npz ({error})") from None


def _listed(keys: frozenset[str]) -> str:
    names = sorted(keys)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
