"""Frames of a head that were not measured, filled in where something needs a motion without holes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..schemas.errors import UsageError
from ..schemas.heads import HeadTrack
from .turns import unwrapped, wrapped

_MOVING = ("expression", "jaw", "neck", "rotation", "eyes", "translation", "head_centre")


def bridged(head: HeadTrack) -> HeadTrack:
    """The head with its gaps bridged in straight lines, and held at the ends; ``valid`` and gaze stay.

    Raises:
        UsageError: no frame was measured.
    """
    frames = np.arange(len(head.valid))
    arrays: dict[str, Any] = {}
    for name in _MOVING:
        values = getattr(head, name)
        flat = values.reshape(len(frames), -1)
        if name == "rotation":  # near half a turn neighbours may be written a whole turn apart
            flat = unwrapped(np.where(head.valid[:, None], flat, np.nan))
        good = head.valid & np.isfinite(flat).all(1)
        if not good.any():
            raise UsageError(f"the partner's {name} was measured in no frame")
        lines = np.stack([np.interp(frames, frames[good], column[good]) for column in flat.T], 1)
        lines = wrapped(lines) if name == "rotation" else lines
        arrays[name] = lines.reshape(values.shape).astype(np.float32)
    return replace(head, **arrays)
