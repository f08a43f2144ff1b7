"""From a solved chain to a stored head track: camera-frame poses on the clip's clock, uncertainties, gaze."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..schemas.heads import HeadTrack
from ..schemas.tracks import LEFT_IRIS, RIGHT_IRIS
from .compiled_model import CompiledModel
from .gaze import GazeTrack, eyes_open, gaze_rays, solve_gaze
from .measured import MeasuredTrack
from .metric import head_size
from .reduced import ReducedModel
from .residuals import Observations, State
from .rotations import FLIP, log_so3
from .trajectory import resampling
from .uncertainty import detector_variance


@dataclass(frozen=True)
class TrackFit:
    """One track's result at its measured frames (numpy fp64 but ``shape``)."""

    expression: npt.NDArray[np.float64]
    jaw: npt.NDArray[np.float64]
    rotation: npt.NDArray[np.float64]  # [N, 3, 3] model to camera
    position: npt.NDArray[np.float64]  # [N, 3] of the pivot
    shape: Tensor
    residual: npt.NDArray[np.float64]  # [N] median over landmarks, fraction of face scale
    rotation_sd: npt.NDArray[np.float64]  # [N, 3] about the camera's axes
    depth_log_sd: npt.NDArray[np.float64]
    foreign: float  # metres of anatomy beyond the model

    @classmethod
    def take(
        cls,
        measured: MeasuredTrack,
        state: State,
        data: Observations,
        length: Tensor,
        sd: tuple[Tensor, Tensor],
        foreign: float,
        k: int,
    ) -> TrackFit:
        """Chain ``k`` of a solved batch; ``length`` [B, T, L] of its residuals in normalised image coordinates."""
        n = len(measured.frames)
        used = data.inv_sigma[k, :n] > 0
        # Median over landmarks: outliers and occluders do not count.
        length = torch.where(used, length[k, :n], float("nan"))

        def array(value: Tensor) -> npt.NDArray[np.float64]:
            return value[:n].double().cpu().numpy()

        return cls(
            expression=array(state.expression[k]),
            jaw=array(state.jaw[k]),
            rotation=array(state.rotation[k]),
            position=array(state.translation()[k]),
            shape=state.shape[k].cpu(),
            residual=array(length.nanmedian(-1).values) / measured.scale,
            rotation_sd=array(sd[0][k]),
            depth_log_sd=array(sd[1][k]),
            foreign=foreign,
        )


def head_track(
    measured: MeasuredTrack,
    fit: TrackFit,
    model: CompiledModel,
    head: ReducedModel,
    n_shape: int,
    times: npt.NDArray[np.float64],
    source: npt.NDArray[np.floating],
    turned_error: float,
    iris_error: float,
) -> tuple[HeadTrack, GazeTrack]:
    """A fitted track on the clip's clock; ``gaze`` and ``gaze_sd`` are filled once the partner is known.

    Args:
        n_shape: identity modes of the head model itself; what follows them in the solver is not stored.
        times: [T] clip times. source: [M] times of the source's frames, measured or not.
        turned_error, iris_error: see :class:`~duologue.fitting.fit.FitOptions`.
    """
    camera, track = measured.camera, measured.track
    eyes = (model.eyes.cpu() + torch.einsum("s,sij->ij", fit.shape, model.eyes_shape.cpu())).numpy()
    root = (model.root.cpu() + fit.shape @ model.root_shape.cpu()).numpy()
    eye_positions = np.einsum("nij,ej->nei", fit.rotation, eyes) + fit.position[:, None]
    upright = fit.rotation @ FLIP.numpy()  # what is stored: identity when facing the camera
    landmarks = track.landmarks[measured.frames].astype(np.float64)
    rays = gaze_rays(landmarks[:, [LEFT_IRIS[0], RIGHT_IRIS[0]], :2], eye_positions, head.eyeball_radius, camera)
    apart = float(np.linalg.norm(eyes[0] - eyes[1]))
    depth = eye_positions[..., 2] + head.eyeball_radius * rays[..., 2]
    size = head_size(landmarks, upright, rays, depth, eyes_open(landmarks), camera, apart)
    plan = resampling(measured.times, times, source)
    rotation = plan.rotation(upright)
    vector = log_so3(torch.as_tensor(rotation)).numpy().astype(np.float32)
    vector[~plan.valid] = np.nan
    position = size.scale * plan.linear(fit.position)
    jaw = np.zeros((len(fit.jaw), 3))
    jaw[:, list(model.jaw_axes)] = fit.jaw
    full_rotation = rotation @ FLIP.numpy()
    translation = (size.scale * np.einsum("tij,j->ti", full_rotation, root) + position).astype(np.float32)
    own_shape = _own_shape(head, fit.shape, n_shape)
    own_size = 1 + float(model.growth.cpu()[:n_shape] @ fit.shape[:n_shape])  # that the coefficients bring with them
    centre = (size.scale * np.einsum("tij,j->ti", full_rotation, eyes.mean(0)) + position).astype(np.float32)
    ray = position / np.linalg.norm(position, axis=-1, keepdims=True)
    # d(viewing angle) / d(log focal): a head turns with its line of sight, about the axis across the way to the centre.
    swing = np.stack([-ray[:, 1], ray[:, 0], np.zeros(len(ray))], -1) * ray[:, 2:]
    left = turned_error**2 * detector_variance(rotation[:, :, 2], ray)
    rotation_sd = np.sqrt(plan.linear(fit.rotation_sd) ** 2 + left + (swing * camera.log_sd) ** 2)
    log_sd = np.sqrt(plan.linear(fit.depth_log_sd) ** 2 + size.log_sd**2 + camera.log_sd**2)
    seen = None if track.gaze is None else track.gaze[measured.frames]
    # Eyeballs are as large in a small head as in a large one; here lengths are those of a head of the model's size.
    radius = head.eyeball_radius / size.scale
    gaze = solve_gaze(
        landmarks, fit.rotation, eye_positions, radius, camera, measured.times, plan, seen, iris_error, fit.foreign
    )
    empty = np.full((len(times), 3), np.nan, dtype=np.float32)
    valid = plan.valid
    return (
        HeadTrack(
            track_id=track.track_id,
            shape=own_shape,
            expression=plan.linear(fit.expression),
            jaw=plan.linear(jaw),
            neck=np.where(valid[:, None], 0.0, np.nan).astype(np.float32).repeat(3, 1),
            rotation=vector,
            translation=translation,
            eyes=gaze.eyes,
            gaze_raw=gaze.direction,
            gaze=empty,
            head_centre=centre,
            rotation_sd=rotation_sd.astype(np.float32),
            translation_sd=(np.linalg.norm(position, axis=-1) * log_sd).astype(np.float32),
            gaze_sd=empty[:, 0],
            residual=plan.linear(fit.residual),
            box=plan.linear(track.box[measured.frames]),
            confidence=np.nan_to_num(plan.linear(track.confidence[measured.frames])),
            valid=valid,
            scale_log_sd=size.log_sd,
            child=size.child,
            scale=size.scale / own_size,
        ),
        gaze,
    )


def _own_shape(head: ReducedModel, z: Tensor, n_shape: int) -> npt.NDArray[np.float32]:
    shape = np.zeros(head.shape_dirs.shape[-1], dtype=np.float32)
    shape[:n_shape] = z[:n_shape].numpy()
    return shape
