"""Fitted heads: what the fit, gaze and relate stages produce, on the clip's own clock.

Frames. Camera: OpenCV (x right, y down, z forward), metres. Model: +x the subject's left, +y up, +z out of the
face, metres (FLAME's). A model point ``x`` (after neck, jaw and eyes were posed) is placed by

    X_camera = scale R(rotation) F (x - J_root(shape)) + translation,      F = diag(1, -1, -1)

so that ``rotation`` is zero for a head that faces the camera upright: without F a frontal face would sit at angle pi,
where axis-angle jumps. ``translation`` is the root joint in the camera frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from .tracks import Bool, Float32, Float64


@dataclass(frozen=True)
class HeadTrack:
    """One person's head over the T frames of a clip at its fps. NaN where not ``valid``.

    Attributes:
        shape: [S] identity coefficients (unit variance).
        expression: [T, E] coefficients.
        jaw, neck: [T, 3] axis-angle, radians, model frame (jaw opening is +x). ``neck`` is held at zero.
        rotation: [T, 3] axis-angle, radians, camera frame, zero when facing the camera (see module).
        translation: [T, 3] metres, camera frame: the root joint.
        eyes: [T, 2, 3] axis-angle, radians, of the left and right eyeball relative to the head, model frame.
        gaze_raw: [T, 3] unit vector, camera frame: mean of both eyes' optical axes.
        gaze: [T, 3] the same with the per-person constant offset removed, and drawn to the partner as far as the
            measurement is unsure.
        head_centre: [T, 3] metres, camera frame: midpoint between the eyeballs.
        rotation_sd: [T, 3] radians, of the small turn about the camera's x, y and z axes by which ``rotation`` is off.
        translation_sd: [T] metres, along the line of sight, scale uncertainty included.
        gaze_sd: [T] radians.
        residual: [T] robust mean reprojection error as a fraction of face scale.
        box: [T, 4] pixels. confidence: [T] 0..1. valid: [T].
        scale_log_sd: standard deviation of the log of head size, which landmarks cannot remove.
        scale: factor on the head model with this ``shape``, so that the head has the prior's size or what irises tell.
        child: the iris evidence says that the head is smaller than an adult's.
    """

    track_id: str
    shape: Float32
    expression: Float32
    jaw: Float32
    neck: Float32
    rotation: Float32
    translation: Float32
    eyes: Float32
    gaze_raw: Float32
    gaze: Float32
    head_centre: Float32
    rotation_sd: Float32
    translation_sd: Float32
    gaze_sd: Float32
    residual: Float32
    box: Float32
    confidence: Float32
    valid: Bool
    scale_log_sd: float
    child: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class FittedPair:
    """Both heads of a clip in one metric camera frame.

    Attributes:
        times: [T] seconds on the video clock: start_s + k / fps.
        focal_px: pinhole focal length; the principal point is the image centre, (W - 1, H - 1) / 2.
        focal_source: "user", "metadata" or "prior".
    """

    times: Float64
    fps: float
    width: int
    height: int
    focal_px: float
    focal_source: str
    focal_log_sd: float
    head_model_id: str
    head_model_sha256: str
    head_model_tier: str
    a: HeadTrack
    b: HeadTrack


@dataclass(frozen=True)
class Relation:
    """How the two heads stand to each other, per clip and per frame (T frames).

    Attributes:
        camera_to_dyad: [4, 4] rigid transform: X_dyad = M @ [X_camera, 1]. Dyad frame: origin midway between the head
            centres at the first frame where both are valid, x from a to b, y the camera's up made orthogonal to x.
        distance_m: [T] between the head centres.
        relative_position_sd: [T] metres, one standard deviation of b - a, scale and focal included.
        looking_a, looking_b: [T] radians, angle between the gaze and the direction to the partner's head centre.
        mutual_gaze: [T] probability that both look at the partner's face.
        layout: named scalars and codes, e.g. {"distance_m": 0.9, "facing_a_deg": 31.0, ...}.
        codes: layout code tuple, e.g. ("distance:personal", "arrangement:face_to_face").
        captions: sentences that say the codes.
    """

    camera_to_dyad: Float64
    distance_m: Float32
    relative_position_sd: Float32
    looking_a: Float32
    looking_b: Float32
    mutual_gaze: Float32
    layout: dict[str, float]
    codes: tuple[str, ...]
    captions: tuple[str, ...]
