"""Fit both heads of a clip in one metric camera frame: tracks in, trajectories on the clip's clock out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..schemas.errors import BadInput
from ..schemas.heads import FittedPair, HeadTrack
from ..schemas.tracks import ClipTracks, FaceTrack
from .camera import choose_camera
from .compiled_model import CompiledModel, compile_model
from .gaze import offset_prior_sd, personal_offset
from .head_track import FLIP, TrackFit, head_track
from .identity import choose_frames, with_anatomy_modes
from .initial_pose import scaled_orthographic_pose
from .measured import MeasuredTrack, measure, observations
from .reduced import ReducedModel
from .residuals import Observations, State, linearise
from .solver import LMOptions, refine_pose, solve
from .temporal import MotionPrior, motion_prior
from .trajectory import clip_times, source_period
from .uncertainty import pose_sd


@dataclass(frozen=True)
class FitOptions:
    """How heads are fitted. Lengths are metres, times seconds, angles radians.

    Attributes:
        fps: clip clock of the result.
        focal_px: the user's focal length; None takes the file's, else the prior.
        shape_modes: identity modes used; more than about 20-30 is noise.
        landmark_sd: sd of a landmark, measurement and head model together, as a fraction of face scale.
        far_side_factor: how much worse landmarks are that face away from the camera.
        expression_mismatch: a landmark that expressions move by r metres (rms) is trusted less by this times r.
        robust_scale: Geman-McClure scale in sd.
        rotation_motion, translation_motion: sqrt spectral density of acceleration, rad / s^1.5 and m / s^1.5.
        motion_student: degrees of freedom of accelerations; small lets nods through.
        longest_link: pose is not tied across longer gaps, seconds.
        anatomy_sd, anatomy_length, anatomy_modes: smooth personal deformation that the head model lacks: metres,
            metres, kernel modes per axis. 0 turns it off.
        identity_frames: frames that determine the identity.
        identity_prior_weight: factor on the identity's prior, for errors that are constant over those frames.
        identity_iterations, track_iterations: most Levenberg-Marquardt steps.
        window, overlap: frames solved together and shared by neighbouring windows.
        min_valid_frames: fewer measured frames of a face cannot be fitted.
        turned_error: sd of the rotation error that FaceMesh makes on turned faces, as a share of the angle between the
            face and the line of sight; stored in ``rotation_sd``. It under-rotates: swept over two rendered heads,
            by 0.17-0.20 of the fitted angle up to 45 degrees and more beyond. 0 for landmarks without that fault.
        held_out: FaceMesh indices that the fit must not see (for honest reprojection errors).
        device: "cpu" or "cuda".
        batch_clips: clips solved together; results do not depend on it beyond rounding. 1 keeps bytes identical.
    """

    fps: float = 25.0
    focal_px: float | None = None
    shape_modes: int = 32
    landmark_sd: float = 0.0225
    far_side_factor: float = 3.0
    expression_mismatch: float = 0.2
    robust_scale: float = 3.0
    rotation_motion: float = 0.25
    translation_motion: float = 0.1
    motion_student: float = 4.0
    longest_link: float = 1.0
    anatomy_sd: float = 0.004
    anatomy_length: float = 0.025
    anatomy_modes: int = 24
    identity_frames: int = 32
    identity_prior_weight: float = 16.0
    identity_iterations: int = 14
    track_iterations: int = 6
    window: int = 500
    overlap: int = 40
    min_valid_frames: int = 12
    turned_error: float = 0.2
    held_out: tuple[int, ...] = ()
    device: str = "cpu"
    batch_clips: int = 1


def fit_clips(
    clips: list[ClipTracks], head: ReducedModel, options: FitOptions = FitOptions()
) -> list[FittedPair | BadInput]:
    """Fit every clip; one that cannot be fitted yields its :class:`BadInput` in place of a result.

    Args:
        clips: measured tracks, landmarks in pixels of the upright image.
        head: reduced landmark model.

    Returns:
        One entry per clip: trajectories on ``clip_times(start_s, end_s, fps)``, or why there are none
        ("landmarks_lost": too few measured frames; "fit_failed": the landmarks are not a face seen from the front,
        are not finite, or the solver found no answer).
    """
    fitter = HeadFitter(head, options)
    results: list[FittedPair | BadInput] = []
    for start in range(0, len(clips), max(options.batch_clips, 1)):
        results += fitter.fit(clips[start : start + max(options.batch_clips, 1)])
    return results


class HeadFitter:
    """A head model compiled for the solver; build it once per process.

    Args:
        head: reduced landmark model. options: see :class:`FitOptions`.
    """

    def __init__(self, head: ReducedModel, options: FitOptions = FitOptions()) -> None:
        self.head = head
        self.options = options
        own = min(options.shape_modes, head.shape_dirs.shape[-1])
        used = replace(head, shape_dirs=head.shape_dirs[..., :own], joint_dirs=head.joint_dirs[..., :own])
        if options.anatomy_sd > 0:
            used = with_anatomy_modes(used, options.anatomy_sd, options.anatomy_length, options.anatomy_modes)
        self.n_shape = own
        self.model = compile_model(used, used.shape_dirs.shape[-1], options.device)
        self.rigid = _rigid_part(self.model)
        # A foreign head's expressions differ from the model's in proportion to how much they move a landmark.
        mismatch = options.expression_mismatch * _mobility(self.model) / (options.landmark_sd * 0.063)
        self.steadiness = 1 / torch.sqrt(1 + mismatch**2)  # [L]
        self.taus = _time_constants(head.expression_names, len(self.model.jaw_axes)).to(options.device)

    def fit(self, clips: list[ClipTracks]) -> list[FittedPair | BadInput]:
        """Fit clips together as one batch."""
        chains: list[MeasuredTrack] = []
        owners: list[tuple[MeasuredTrack, ...] | BadInput] = []
        for clip in clips:
            try:
                people = [("a", clip.a)] + ([("b", clip.b)] if clip.b.track_id else [])
                pair = tuple(self._measure(clip, track, who) for who, track in people)
            except BadInput as bad:
                owners.append(bad)
                continue
            owners.append(pair)
            chains += pair
        fits = self._solve(chains) if chains else []
        results: list[FittedPair | BadInput] = []
        position = 0
        for clip, owner in zip(clips, owners, strict=True):
            if isinstance(owner, BadInput):
                results.append(owner)
                continue
            both = fits[position : position + len(owner)]
            position += len(owner)
            refused = [f for f in both if isinstance(f, BadInput)]
            good = [f for f in both if not isinstance(f, BadInput)]
            results.append(refused[0] if refused else self._pair(clip, owner, good))
        return results

    def _measure(self, clip: ClipTracks, track: FaceTrack, person: str) -> MeasuredTrack:
        o = self.options
        camera = choose_camera(clip.width, clip.height, o.focal_px, clip.focal_px)
        index = self.head.landmarks
        return measure(clip, track, person, camera, index, o.landmark_sd, o.min_valid_frames, o.held_out)

    # -- solving --------------------------------------------------------------------------------------------------

    def _solve(self, chains: list[MeasuredTrack]) -> list[TrackFit | BadInput]:
        options, model = self.options, self.model
        measured = observations(chains, self.options.device)
        rotation, place = self._initial(measured)
        data = self._facing(measured, rotation, place)
        state = self._state(rotation, place)
        state = self._refine(data, state)
        data = self._facing(measured, state.rotation, state.place)
        bad = [self._not_facing(c, state.rotation[k], data.mask[k], k) for k, c in enumerate(chains)]

        state = self._identity(data, state)
        depth = _typical_depth(state.place, data.mask)
        state, square = self._tracks(data, state, depth)
        lin = linearise(model, data, state, options.robust_scale, chunk=self._chunk)
        finite = torch.isfinite(state.place).all(-1) & torch.isfinite(state.rotation).all(-1).all(-1)
        foreign = self._foreign(state)
        sd = pose_sd(lin, state, self._motion(data, depth), foreign)
        out: list[TrackFit | BadInput] = []
        for k, chain in enumerate(chains):
            n = len(chain.frames)
            failed = bad[k]
            if failed is None and not bool(finite[k, :n].all()):
                failed = BadInput("fit_failed", "the solver found no finite answer")
            out.append(failed or TrackFit.take(chain, state, data, square, sd, float(foreign[k]), k))
        return out

    @property
    def _chunk(self) -> int:
        return 64 if self.options.device == "cpu" else 8192

    def _initial(self, data: Observations) -> tuple[Tensor, Tensor]:
        b, t = data.mask.shape
        mean = self.model.head_mean.clone()
        mean[:, self.model.jaw_index] += self.model.jaw_mean
        weight = (data.inv_sigma > 0).reshape(b * t, -1)
        rotation, place = scaled_orthographic_pose(data.points.reshape(b * t, 2, -1), mean, weight)
        missing = ~data.mask.reshape(-1)
        rotation[missing] = FLIP.to(rotation.device)
        place[missing] = 0.0
        return rotation.reshape(b, t, 3, 3), place.reshape(b, t, 3)

    def _state(self, rotation: Tensor, place: Tensor) -> State:
        b, t = rotation.shape[:2]
        model = self.model
        zeros = {"dtype": torch.float64, "device": rotation.device}
        return State(
            expression=torch.zeros(b, t, model.n_expression, **zeros),
            jaw=torch.zeros(b, t, len(model.jaw_axes), **zeros),
            rotation=rotation,
            place=place,
            velocity=torch.zeros(b, t, 6, **zeros),
            shape=torch.zeros(b, model.n_shape, **zeros),
        )

    def _refine(self, data: Observations, state: State) -> State:
        """Pose only, on the points that expressions move least."""
        rigid, index = self.rigid
        small = Observations(data.points[..., index], data.inv_sigma[..., index], data.mask, data.times)
        b, t = data.mask.shape
        zeros = {"dtype": torch.float64, "device": state.place.device}
        reduced = replace(
            state,
            expression=torch.zeros(b, t, 0, **zeros),
            jaw=torch.zeros(b, t, 0, **zeros),
            shape=torch.zeros(b, 0, **zeros),
        )
        reduced = refine_pose(rigid, small, reduced, 4, 6.0, self._chunk)
        return replace(state, rotation=reduced.rotation, place=reduced.place)

    def _facing(self, data: Observations, rotation: Tensor, place: Tensor) -> Observations:
        """Weaken landmarks that face away from the camera. Held fixed afterwards, so that costs stay comparable."""
        one = torch.ones_like(place[..., :1])
        ray = torch.cat([place[..., :2], one], -1)
        ray = ray / ray.norm(dim=-1, keepdim=True)
        towards = -(ray[..., None, :] @ rotation)[..., 0, :].to(data.points.dtype) @ self.model.normals.T  # [B, T, L]
        ramp = ((0.15 - towards) / 0.2).clamp(0.0, 1.0)
        factor = 1 + (self.options.far_side_factor - 1) * ramp
        return replace(data, inv_sigma=data.inv_sigma / factor * self.steadiness)

    def _not_facing(self, chain: MeasuredTrack, rotation: Tensor, mask: Tensor, k: int) -> BadInput | None:
        cosine = -rotation[mask][:, 2, 2]  # model +z against the optical axis
        toward = int((cosine > 0.09).sum())  # within 85 degrees
        if toward >= self.options.min_valid_frames:
            return None
        away = int((cosine < 0).sum())
        person = chain.track.track_id
        if away > len(cosine) / 2:
            why = "left and right landmarks are swapped, or the face is seen from behind"
            detail = f"track {person}: {why} ({away} of {len(cosine)} frames)"
        else:
            detail = (
                f"track {person}: never turns toward the camera ({toward} of {len(cosine)} frames within 85 degrees)"
            )
        return BadInput("fit_failed", detail)

    def _motion(self, data: Observations, depth: Tensor) -> MotionPrior:
        o = self.options
        return motion_prior(
            self.model,
            data,
            depth,
            self.taus,
            o.rotation_motion,
            o.translation_motion,
            o.longest_link,
            o.motion_student,
        )

    def _identity(self, data: Observations, state: State) -> State:
        """Identity from chosen frames, and their expressions as a start for all frames."""
        options = self.options
        chosen, mask = choose_frames(state.rotation, data, options.identity_frames)
        few, part = _gather(data, state, chosen, mask)
        depth = _typical_depth(part.place, mask)
        prior = self._motion(few, depth)
        lm = LMOptions(
            options.identity_iterations, 1e-3, 1e-4, options.robust_scale, self._chunk, options.identity_prior_weight
        )
        part = solve(self.model, few, part, prior, lm, with_shape=True).state
        expression = _spread(part.expression, few.times, few.mask, data.times)
        jaw = _spread(part.jaw, few.times, few.mask, data.times)
        return replace(state, expression=expression, jaw=jaw, shape=part.shape)

    def _foreign(self, state: State) -> Tensor:
        """How far a face is from what the head model's own identity can express: rms over landmarks, [B] m."""
        coefficients = state.shape @ self.model.gauge.T
        coefficients[:, : self.n_shape] = 0
        back = (coefficients @ self.model.gauge).to(self.model.head_mean.dtype)
        moved = (back @ self.model.basis(True)[self.model.n_expression :]).reshape(len(back), 3, -1)
        return (moved.double() ** 2).sum(1).mean(-1).sqrt()

    def _tracks(self, data: Observations, state: State, depth: Tensor) -> tuple[State, Tensor]:
        """All frames, in overlapping windows, identity held."""
        options = self.options
        lm = LMOptions(options.track_iterations, 1e-3, 1e-4, options.robust_scale, self._chunk)
        total = data.mask.shape[1]
        if total <= options.window:
            solution = solve(self.model, data, state, self._motion(data, depth), lm)
            return solution.state, solution.data.square
        stride = options.window - options.overlap
        starts = list(range(0, max(total - options.overlap, 1), stride))
        pieces: dict[str, list[Tensor]] = {k: [] for k in ("expression", "jaw", "rotation", "place", "velocity")}
        squares = []
        for number, start in enumerate(starts):
            end = min(start + options.window, total)
            rows = slice(start, end)
            part = Observations(data.points[:, rows], data.inv_sigma[:, rows], data.mask[:, rows], data.times[:, rows])
            sub = replace(state, **{k: getattr(state, k)[:, rows] for k in pieces})
            solution = solve(self.model, part, sub, self._motion(part, depth), lm)
            low = 0 if number == 0 else options.overlap // 2
            high = end - start if number == len(starts) - 1 else end - start - (options.overlap - options.overlap // 2)
            for name, values in pieces.items():
                values.append(getattr(solution.state, name)[:, low:high])
            squares.append(solution.data.square[:, low:high])
        joined = {name: torch.cat(values, 1) for name, values in pieces.items()}
        return replace(state, **joined), torch.cat(squares, 1)

    # -- results --------------------------------------------------------------------------------------------------

    def _pair(self, clip: ClipTracks, chains: tuple[MeasuredTrack, ...], fits: list[TrackFit]) -> FittedPair | BadInput:
        camera = chains[0].camera
        times = clip_times(clip.start_s, clip.end_s, self.options.fps)
        period = source_period(np.asarray(clip.times, dtype=np.float64))
        partial = [
            head_track(c, f, self.model, self.head, self.n_shape, times, period, self.options.turned_error)
            for c, f in zip(chains, fits, strict=True)
        ]
        heads = []
        for k, (track, gaze) in enumerate(partial):
            if not track.valid.any():
                return BadInput(
                    "landmarks_lost", f"track {track.track_id}: no frame of the clip lies between measurements"
                )
            partner = partial[1 - k][0].head_centre if len(partial) == 2 else np.full((len(times), 3), np.nan)
            heads.append(personal_offset(track, gaze, partner, offset_prior_sd(fits[k].foreign)))
        if len(heads) == 1:
            heads.append(nobody(heads[0]))
        return FittedPair(
            times=times,
            fps=self.options.fps,
            width=clip.width,
            height=clip.height,
            focal_px=camera.focal_px,
            focal_source=camera.source,
            focal_log_sd=camera.log_sd,
            head_model_id=self.head.model_id,
            head_model_sha256=self.head.sha256,
            head_model_tier=self.head.tier,
            a=heads[0],
            b=heads[1],
        )


def nobody(like: HeadTrack) -> HeadTrack:
    """A track that is valid nowhere, of the sizes of ``like``: person b of a single-speaker clip."""
    empty: dict[str, Any] = {
        name: np.full_like(value, np.nan)
        for name, value in vars(like).items()
        if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)
    }
    empty |= {"shape": np.zeros_like(like.shape), "confidence": np.zeros_like(like.confidence)}
    return replace(
        like, track_id="", **empty, valid=np.zeros_like(like.valid), scale_log_sd=0.0, child=False
    )  # fmt: skip


def _rigid_part(model: CompiledModel) -> tuple[CompiledModel, Tensor]:
    """The landmarks that expressions and jaw move least, as a model without free coefficients, and their rows."""
    motion = _mobility(model)
    motion[model.jaw_index] += motion.amax()
    count = max(len(motion) * 2 // 5, min(len(motion), 24))
    index = torch.sort(torch.argsort(motion, stable=True)[:count]).values
    mean = model.head_mean.clone()
    mean[:, model.jaw_index] += model.jaw_mean
    empty = mean.new_zeros(0, 3 * count)
    none = mean.new_zeros(0, 0)
    return (
        replace(
            model,
            head_mean=mean[:, index].contiguous(),
            jaw_mean=mean.new_zeros(3, 0),
            head_expression=empty,
            jaw_expression=none,
            head_shape=empty,
            jaw_shape=none,
            jaw_correctives=None,
            jaw_index=index[:0],
            jaw_axes=(),
            expression_sd=model.expression_sd[:0],
            jaw_sd=model.jaw_sd[:0],
            normals=model.normals[index],
            landmarks=model.landmarks[index],
            expression_products=mean.new_zeros(6 * count, 0),
            shape_products=None,
        ),
        index,
    )


def _mobility(model: CompiledModel) -> Tensor:
    """How far expressions and jaw move each landmark: rms over their priors, [L] metres."""
    dtype = model.head_mean.dtype
    modes = model.basis(False).reshape(model.n_expression, 3, model.head_mean.shape[1])
    square = ((modes * model.expression_sd[:, None, None].to(dtype)) ** 2).sum((0, 1))
    if model.jaw_axes:
        arm = model.jaw_mean.norm(dim=0) * float(model.jaw_sd.norm())
        square[model.jaw_index] += arm**2
    return square.sqrt()


_TIME_CONSTANTS = (  # seconds; the first part of a name that matches decides
    (("blink", "squint", "wide", "lid", "eye"), 0.06),
    (("jaw", "mouth", "lip", "tongue", "viseme"), 0.15),
    (("brow", "cheek", "nose", "sneer"), 0.4),
)


def _time_constants(names: tuple[str, ...], n_jaw: int) -> Tensor:
    """How long an expression keeps its value: [E + J] seconds. 0.15 where the name says nothing."""
    out = []
    for name in names:
        low = name.lower()
        out.append(next((tau for keys, tau in _TIME_CONSTANTS if any(k in low for k in keys)), 0.15))
    return torch.tensor(out + [0.15] * n_jaw, dtype=torch.float64)


def _typical_depth(place: Tensor, mask: Tensor) -> Tensor:
    """Median depth of each chain, [B] metres."""
    log_depth = torch.where(mask, place[..., 2], torch.full_like(place[..., 2], float("nan")))
    return torch.nanmedian(log_depth, dim=1).values.exp()


def _gather(data: Observations, state: State, chosen: Tensor, mask: Tensor) -> tuple[Observations, State]:
    def rows(value: Tensor) -> Tensor:
        index = chosen.reshape(*chosen.shape, *[1] * (value.ndim - 2)).expand(-1, -1, *value.shape[2:])
        return torch.gather(value, 1, index)

    few = Observations(rows(data.points), rows(data.inv_sigma) * mask[..., None], mask, rows(data.times))
    names = ("expression", "jaw", "rotation", "place", "velocity")
    return few, replace(state, **{k: rows(getattr(state, k)) for k in names})


def _spread(values: Tensor, times: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
    """Interpolate [B, K, E] at ``times`` [B, K] to ``wanted`` [B, T] linearly: only a start for the solver."""
    last = torch.where(mask, times, torch.full_like(times, float("inf")))
    after = torch.searchsorted(last.contiguous(), wanted.contiguous())
    count = mask.sum(1, keepdim=True)
    high = torch.minimum(after, count - 1)
    low = (after - 1).clamp_min(0)
    low = torch.minimum(low, high)
    t0, t1 = torch.gather(times, 1, low), torch.gather(times, 1, high)
    span = (t1 - t0).clamp_min(1e-6)
    f = ((wanted - t0) / span).clamp(0, 1)[..., None]

    def at(index: Tensor) -> Tensor:
        return torch.gather(values, 1, index[..., None].expand(-1, -1, values.shape[-1]))

    return at(low) * (1 - f) + at(high) * f
