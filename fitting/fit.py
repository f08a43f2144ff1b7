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
from .compiled_model import compile_model, mobility, rigid_part
from .gaze_offset import personal_offset, prior_sd
from .head_track import TrackFit, head_track
from .identity import fit_identity, foreign_anatomy, with_anatomy_modes
from .initial_pose import facing_weights, initial_state, refine_on_rigid
from .landmark_bias import load_bias
from .measured import MeasuredTrack, measure, observations
from .reduced import ReducedModel
from .residuals import Observations, residual_vectors
from .solver import LMOptions
from .temporal import MotionPrior, motion_prior, time_constants, typical_depth
from .trajectory import clip_times
from .uncertainty import pose_sd
from .windows import solve_windows

BEHIND = np.radians(100.0)  # between where a face points and the way to the camera
IDENTITY_TOLERANCE = 1e-4  # of the cost; at ten times that some faces stop two degrees before their rest
NO_FACE = 0.25  # median residual, of face scale: faces are under 0.1, shuffled landmarks over 0.7


@dataclass(frozen=True)
class FitOptions:
    """How heads are fitted. Lengths are metres, times seconds, angles radians.

    Attributes:
        fps: clip clock of the result.
        focal_px: the user's focal length of every video, pixels of the original image; None takes the file's, else the
            prior.
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
        constant_share: how much less the landmarks weigh there, for errors that are constant over those frames.
        identity_prior_weight: factor on the identity's prior, for the same reason.
        pose_iterations, identity_iterations, track_iterations: most Levenberg-Marquardt steps.
        window, overlap: frames solved together and shared by neighbouring windows.
        min_valid_frames: fewer measured frames of a face cannot be fitted.
        detector_bias: take FaceMesh's own mean error on turned faces off the landmarks before they are fitted (see
            ``fitting/landmark_bias.py``). False for landmarks without that fault.
        turned_error: sd, radians, of the detector's own rotation error, about the axes across the way the face looks:
            half of it about that way, more of it near profile (see ``detector_variance``); stored in ``rotation_sd``.
            0 for landmarks without it.
        iris_error: sd, radians per axis, of the gaze error that is neither noise nor constant: FaceMesh's irises, and
            eyeballs whose error changes with the pose. It decides how far a gaze is drawn to the partner, and is stored
            in ``gaze_sd``. 0 for irises without that.
        held_out: FaceMesh indices that the fit must not see (for honest reprojection errors).
        device: "cpu" or "cuda".
        batch_clips: clips that :func:`fit_clips` solves together; results do not depend on it beyond the solver's
            tolerance. ``curate`` and ``refit`` solve one at a time, which keeps bytes identical.
    """

    fps: float = 25.0
    focal_px: float | None = None
    shape_modes: int = 32
    landmark_sd: float = 0.0225
    far_side_factor: float = 3.0
    expression_mismatch: float = 0.2
    robust_scale: float = 3.0
    rotation_motion: float = 0.7
    translation_motion: float = 0.1
    motion_student: float = 4.0
    longest_link: float = 1.0
    anatomy_sd: float = 0.004
    anatomy_length: float = 0.025
    anatomy_modes: int = 16
    identity_frames: int = 48
    constant_share: float = 4.0
    identity_prior_weight: float = 4.0
    pose_iterations: int = 4
    identity_iterations: int = 40
    track_iterations: int = 6
    window: int = 500
    overlap: int = 40
    min_valid_frames: int = 12
    detector_bias: bool = True
    turned_error: float = 0.037
    iris_error: float = 0.105
    held_out: tuple[int, ...] = ()
    device: str = "cpu"
    batch_clips: int = 1

    def __post_init__(self) -> None:
        if self.focal_px is not None and not 0 < self.focal_px < float("inf"):
            raise ValueError(f"focal_px must be a positive number of pixels, not {self.focal_px}")


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
        self.n_anatomy = used.shape_dirs.shape[-1] - own
        self.model = compile_model(used, used.shape_dirs.shape[-1], options.device)
        self.rigid = rigid_part(self.model)
        # A foreign head's expressions differ from the model's in proportion to how much they move a landmark.
        mismatch = options.expression_mismatch * mobility(self.model) / (options.landmark_sd * 0.063)
        self.steadiness = 1 / torch.sqrt(1 + mismatch**2)  # [L]
        self.taus = time_constants(head.expression_names, len(self.model.jaw_axes)).to(options.device)

    def fit(self, clips: list[ClipTracks]) -> list[FittedPair | BadInput]:
        """Fit clips together as one batch."""
        chains: list[MeasuredTrack] = []
        owners: list[int | BadInput] = []  # how many people the clip has
        for clip in clips:
            try:
                people = [("a", clip.a)] + ([("b", clip.b)] if clip.b.track_id else [])
                pair = [self._measure(clip, track, who) for who, track in people]
            except BadInput as bad:
                owners.append(bad)
                continue
            owners.append(len(pair))
            chains += pair
        fits = self._solve(chains) if chains else []
        results: list[FittedPair | BadInput] = []
        position = 0
        for clip, owner in zip(clips, owners, strict=True):
            if isinstance(owner, BadInput):
                results.append(owner)
                continue
            both = fits[position : position + owner]
            position += owner
            refused = [f for f in both if isinstance(f, BadInput)]
            good = [f for f in both if not isinstance(f, BadInput)]
            results.append(refused[0] if refused else self._pair(clip, good))
        return results

    def _measure(self, clip: ClipTracks, track: FaceTrack, person: str) -> MeasuredTrack:
        o = self.options
        camera = choose_camera(clip.width, clip.height, o.focal_px, clip.focal)
        index = self.head.landmarks
        if o.detector_bias:
            track = replace(track, landmarks=load_bias().correct(track.landmarks))
        return measure(clip, track, person, camera, index, o.landmark_sd, o.min_valid_frames, o.held_out)

    # -- solving --------------------------------------------------------------------------------------------------

    def _solve(self, chains: list[MeasuredTrack]) -> list[tuple[MeasuredTrack, TrackFit] | BadInput]:
        """Each chain, without the frames that cannot be, and its fit."""
        options, model = self.options, self.model
        measured = observations(chains, self.options.device)
        start = initial_state(model, measured)
        data = facing_weights(model, measured, start, options.far_side_factor, self.steadiness)
        state = refine_on_rigid(self.rigid, data, start, options.pose_iterations, self._chunk)
        data = facing_weights(model, measured, state, options.far_side_factor, self.steadiness)
        bad = [self._not_facing(c, state.rotation[k], data.mask[k]) for k, c in enumerate(chains)]
        # No landmark network sees a face from behind: in such frames it swapped left and right.
        seen = (-state.rotation[..., 2, 2] > np.cos(BEHIND)).cpu().numpy()
        kept = [c if b else c.only(seen[k, : len(c.frames)]) for k, (b, c) in enumerate(zip(bad, chains, strict=True))]
        if any(len(k.frames) < len(c.frames) for k, c in zip(kept, chains, strict=True)):
            return self._solve(kept)

        lm = LMOptions(
            options.identity_iterations,
            tolerance=IDENTITY_TOLERANCE,
            robust_scale=options.robust_scale,
            chunk=self._chunk,
            shape_weight=options.identity_prior_weight,
            adaptive_from=self.model.n_shape - self.n_anatomy if self.n_anatomy else None,
        )
        state, constant = fit_identity(
            model, data, state, self._motion, lm, options.identity_frames, options.constant_share
        )
        depth = typical_depth(state.place, data.mask)
        lm = LMOptions(options.track_iterations, robust_scale=options.robust_scale, chunk=self._chunk)
        cleaned = replace(data, points=data.points - constant[:, None])
        state = solve_windows(model, cleaned, state, self._motion, depth, lm, options.window, options.overlap)
        length = residual_vectors(model, data, state).norm(dim=2)
        finite = torch.isfinite(state.place).all(-1) & torch.isfinite(state.rotation).all(-1).all(-1)
        foreign = foreign_anatomy(model, state.shape, self.n_shape)
        sd = pose_sd(model, data, state, self._motion(data, depth), foreign, options.robust_scale)
        out: list[tuple[MeasuredTrack, TrackFit] | BadInput] = []
        for k, chain in enumerate(chains):
            n = len(chain.frames)
            failed = bad[k]
            if failed is None and not bool(finite[k, :n].all()):
                failed = BadInput("fit_failed", "the solver found no finite answer")
            fit = TrackFit.take(chain, state, data, length, sd, float(foreign[k]), k)
            left = float(np.nanmedian(fit.residual))
            if failed is None and not left < NO_FACE:
                why = f"the landmarks are not a face's: {100 * left:.0f} % of face scale off the best fit"
                failed = BadInput("fit_failed", f"track {chain.track.track_id}: {why}, at most {100 * NO_FACE:.0f} %")
            out.append(failed or (chain, fit))
        return out

    @property
    def _chunk(self) -> int:
        return 64 if self.options.device == "cpu" else 8192

    def _not_facing(self, chain: MeasuredTrack, rotation: Tensor, mask: Tensor) -> BadInput | None:
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

    # -- results --------------------------------------------------------------------------------------------------

    def _pair(self, clip: ClipTracks, fits: list[tuple[MeasuredTrack, TrackFit]]) -> FittedPair | BadInput:
        camera = fits[0][0].camera
        times = clip_times(clip.start_s, clip.end_s, self.options.fps)
        source = np.asarray(clip.times, dtype=np.float64)
        partial = [
            head_track(
                c,
                f,
                self.model,
                self.head,
                self.n_shape,
                times,
                source,
                self.options.turned_error,
                self.options.iris_error,
            )
            for c, f in fits
        ]
        heads = []
        for k, (track, gaze) in enumerate(partial):
            if not track.valid.any():
                return BadInput(
                    "landmarks_lost", f"track {track.track_id}: no frame of the clip lies between measurements"
                )
            partner = partial[1 - k][0].head_centre if len(partial) == 2 else np.full((len(times), 3), np.nan)
            offset_sd = prior_sd(fits[k][1].foreign, self.head.eyeball_radius, track.scale_log_sd)
            iris_error = self.options.iris_error if fits[k][0].track.gaze is None else 0.0  # no irises were read
            # A detector's irises are off by more than a ball's place explains; exact ones are not.
            angular = iris_error > 0 or fits[k][0].track.gaze is not None
            heads.append(personal_offset(track, gaze, partner, offset_sd, self.options.fps, iris_error, angular))
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
