"""Both heads of a clip in one metric camera frame, from its measured tracks (the solver is in ``fitting/``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..fitting.fit import FitOptions, HeadFitter
from ..fitting.load_head import load_head_model
from ..fitting.reduce import reduce
from ..schemas.errors import BadInput, UsageError
from ..schemas.heads import FittedPair, HeadTrack
from ..schemas.tracks import ClipTracks


def check_device(name: str) -> None:
    """Raises UsageError for a device that is none, or not on this machine.

    Devices are counted without starting CUDA: worker processes may be forked from this one.
    """
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UsageError(f"fit.device is cpu or cuda (cuda:1 for the second), not {name!r}")
    found = torch.cuda.device_count() if kind == "cuda" else 1
    if int(number or 0) >= found:
        raise UsageError(f"fit.device={name}: this machine has {found} such device{'s' if found != 1 else ''}")


def head_fitter(path: str, options: FitOptions) -> HeadFitter:
    """A head model compiled for the solver; costly, so one per worker process.

    Raises:
        UsageError: the head model cannot be read.
    """
    # One thread: the bytes of a result must not depend on the machine's cores, and processes give the parallelism.
    torch.set_num_threads(1)
    return HeadFitter(reduce(load_head_model(path or None)), options)


def fit_pair(tracks: ClipTracks, fitter: HeadFitter) -> FittedPair:
    """Fit one clip.

    Raises:
        BadInput: "landmarks_lost" or "fit_failed".
    """
    result = fitter.fit([tracks])[0]
    if isinstance(result, BadInput):
        raise result
    return result


def fitted_to_arrays(fitted: FittedPair) -> dict[str, npt.NDArray[Any]]:
    """A fitted pair as plain arrays for a work file: ``fps``, ``a.rotation``, ..."""
    arrays = {item.name: np.asarray(getattr(fitted, item.name)) for item in fields(fitted) if item.name not in "ab"}
    for who in "ab":
        head = getattr(fitted, who)
        arrays |= {f"{who}.{item.name}": np.asarray(getattr(head, item.name)) for item in fields(head)}
    return arrays


def fitted_from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> FittedPair:
    """Inverse of :func:`fitted_to_arrays`."""
    heads = {
        who: HeadTrack(**{item.name: _value(arrays[f"{who}.{item.name}"]) for item in fields(HeadTrack)})
        for who in "ab"
    }
    rest: dict[str, Any] = {
        item.name: _value(arrays[item.name]) for item in fields(FittedPair) if item.name not in "ab"
    }
    return FittedPair(**rest, a=heads["a"], b=heads["b"])


def _value(array: npt.NDArray[Any]) -> Any:
    return array if array.ndim else array.item()
