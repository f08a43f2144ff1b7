"""Face tracks with exact truth, without pixels: two heads posed through the *full* mesh, projected, and corrupted.

What a landmark network does wrong is imitated by white noise, a constant bias of every landmark, worse landmarks on the
far side of the face, occluders that drag a patch away, outliers, and spans where the face is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..fitting.head_model import LEFT_EYE, RIGHT_EYE, HeadModel, rotation_matrix
from ..schemas.tracks import LEFT_IRIS, N_LANDMARKS, RIGHT_IRIS, ClipTracks, FaceTrack

Array = npt.NDArray[np.float64]
FLIP = np.diag([1.0, -1.0, -1.0])
INTER_PUPILLARY = 0.063


@dataclass(frozen=True)
class TrackOptions:
    """What is sampled. Errors are fractions of face scale (px per 63 mm); angles degrees, lengths metres.

    Attributes:
        n_frames, fps: of the clip. width, height: image.
        field_of_view: horizontal. depth, separation: of the two heads.
        yaw: the head turns within +- this. pitch, roll: likewise.
        noise, bias: sd per axis; far_side: their factor on landmarks that face away.
        outliers: share of landmarks thrown off by 0.3 face scales. occlusions: (lost spans, patch spans) per face.
        occlusion_frames: length of each. iris_noise_px: sd per axis of the whole iris. limbus_noise_px: sd per axis of
            a point of its rim, on top. limbus_bias_px: sd of a person's constant error of the iris' diameter.
            iris_sizes: sd of the log of the iris' diameter between people, independent of the head's size.
        sizes: sd of the log of head size on top of the identity modes. expression_sd, blinks_per_minute: activity of
            the face.
    """

    n_frames: int = 250
    fps: float = 25.0
    width: int = 1280
    height: int = 720
    field_of_view: float = 50.0
    depth: float = 1.5
    separation: float = 0.7
    yaw: float = 45.0
    pitch: float = 15.0
    roll: float = 8.0
    noise: float = 0.0175
    bias: float = 0.0175
    far_side: float = 3.0
    outliers: float = 0.02
    occlusions: tuple[int, int] = (1, 2)
    occlusion_frames: int = 25
    iris_noise_px: float = 0.5
    limbus_noise_px: float = 0.5
    limbus_bias_px: float = 0.5
    iris_sizes: float = 0.043
    sizes: float = 0.0
    expression_sd: float = 0.35
    blinks_per_minute: float = 15.0

    @property
    def focal_px(self) -> float:
        return self.width / 2 / float(np.tan(np.radians(self.field_of_view) / 2))


@dataclass(frozen=True)
class HeadTruth:
    """Exact parameters of one head. rotation: [T, 3, 3], identity facing the camera; translation: [T, 3] of the root;
    gaze: [T, 3] camera frame; head_centre: [T, 3]; face_scale: [T] px; size: factor on the head; shape: [S];
    expression: [T, E]; jaw: [T, 3]; eyes_open: [T]; landmarks: [T, 478, 2] px, exact."""

    rotation: Array
    translation: Array
    gaze: Array
    head_centre: Array
    face_scale: Array
    size: float
    shape: Array
    expression: Array
    jaw: Array
    eyes_open: npt.NDArray[np.bool_]
    landmarks: Array


@dataclass(frozen=True)
class TrackTruth:
    """Exact truth of a clip of two."""

    focal_px: float
    a: HeadTruth
    b: HeadTruth


def sample_clip(
    head: HeadModel,
    options: TrackOptions,
    seed: int,
    shapes: tuple[Array, Array] | None = None,
    irises: Array | None = None,
) -> tuple[ClipTracks, TrackTruth]:
    """Two people in front of one camera.

    Args:
        shapes: identity coefficients of both; sampled N(0, I) by default.
        irises: [2, 2] of both: their size and the constant error of their rims, in standard deviations; likewise.
        seed: everything random follows from it.

    Returns:
        tracks with ``focal_px`` unset, and the truth.
    """
    rng = np.random.default_rng(seed)
    t = options.n_frames
    count = head.shape_dirs.shape[2]
    betas = (rng.standard_normal(count), rng.standard_normal(count)) if shapes is None else shapes
    motions: list[tuple[Array, Array]] = []
    for side in (-1.0, 1.0):
        yaw = np.radians(options.yaw) * np.sin(1.6 * smooth_noise(rng, t, 30.0) + rng.uniform(-1, 1))
        pitch = np.radians(options.pitch) * np.tanh(0.7 * smooth_noise(rng, t, 30.0)) + _nods(rng, t)
        roll = np.radians(options.roll) * np.tanh(0.7 * smooth_noise(rng, t, 30.0))
        rotation = (
            rotation_matrix(np.stack([0 * yaw, yaw, 0 * yaw], -1))
            @ rotation_matrix(np.stack([pitch, 0 * yaw, 0 * yaw], -1))
            @ rotation_matrix(np.stack([0 * yaw, 0 * yaw, roll], -1))
        )
        centre = np.array([side * options.separation / 2, 0.0, options.depth]) + 0.02 * smooth_noise(rng, t, 25.0, 3)
        motions.append((rotation, centre))
    drawn = rng.standard_normal((2, 2)) if irises is None else irises
    truths, tracks = [], []
    for person, (rotation, centre) in enumerate(motions):
        size = float(np.exp(options.sizes * rng.standard_normal()))
        beta = np.asarray(betas[person], dtype=np.float64)
        iris = float(np.exp(options.iris_sizes * drawn[person, 0]))
        truth = _pose_head(rng, head, options, rotation, centre, motions[1 - person][1], beta, size, iris)
        truths.append(truth)
        limbus = options.limbus_bias_px * float(drawn[person, 1])
        tracks.append(_measure(rng, head, options, truth, f"face-{'ab'[person]}", limbus))
    times = np.arange(t) / options.fps
    clip = ClipTracks(
        video_id=f"synthetic-{seed}", shot_index=0, start_s=0.0, end_s=t / options.fps, width=options.width,
        height=options.height, times=times, a=tracks[0], b=tracks[1],
    )  # fmt: skip
    return clip, TrackTruth(options.focal_px, truths[0], truths[1])


def smooth_noise(rng: np.random.Generator, n: int, width: float, channels: int | None = None) -> Array:
    """Unit-variance Gaussian noise filtered over ``width`` frames (sd of the kernel): [n] or [n, channels]."""
    half = int(4 * width)
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / width) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    columns = [np.convolve(rng.standard_normal(n + 2 * half), kernel, "valid") for _ in range(channels or 1)]
    return np.asarray(columns[0] if channels is None else np.stack(columns, -1))


def _nods(rng: np.random.Generator, n: int) -> Array:
    """Now and then two small nods, radians."""
    out = np.zeros(n)
    for _ in range(rng.poisson(n / 250)):
        at, length = int(rng.integers(0, n)), 20
        wave = np.radians(3.0) * np.sin(np.linspace(0, 4 * np.pi, length)) * np.hanning(length)
        end = min(at + length, n)
        out[at:end] += wave[: end - at]
    return out


def _expressions(rng: np.random.Generator, head: HeadModel, options: TrackOptions) -> tuple[Array, Array, Array]:
    """Coefficients [T, E] >= 0, jaw [T, 3], lids' closure [T]."""
    t = options.n_frames
    psi = np.zeros((t, len(head.expression_names)))
    closure = np.zeros(t)
    for _ in range(max(rng.poisson(options.blinks_per_minute * t / options.fps / 60), 0)):
        at = int(rng.integers(0, t))
        for k, value in enumerate((0.5, 1.0, 1.0, 0.6, 0.2)):
            if at + k < t:
                closure[at + k] = value
    for k, name in enumerate(head.expression_names):
        low = name.lower()
        if "eyelook" in low or "pupil" in low:
            continue
        if "blink" in low:
            psi[:, k] = closure
            continue
        width = 3.0 if any(s in low for s in ("mouth", "jaw", "lip")) else 12.0
        psi[:, k] = options.expression_sd * np.maximum(smooth_noise(rng, t, width) - 0.4, 0.0) * 1.5
        if "jawopen" in low:
            psi[:, k] = np.clip(0.4 * np.maximum(smooth_noise(rng, t, 3.0), 0), 0, 1)
    jaw = np.zeros((t, 3))
    if head.weights[:, 2].any():
        jaw[:, 0] = np.clip(0.12 * np.maximum(smooth_noise(rng, t, 3.0), 0), 0, head.jaw_limits[0, 1])
    return psi, jaw, closure


def _pose_head(
    rng: np.random.Generator, head: HeadModel, options: TrackOptions, rotation: Array, centre: Array, partner: Array,
    shape: Array, size: float, iris: float,
) -> HeadTruth:  # fmt: skip
    t = options.n_frames
    psi, jaw, closure = _expressions(rng, head, options)
    joints = head.posed_joints(shape)
    full = rotation @ FLIP
    middle = 0.5 * (joints[LEFT_EYE] + joints[RIGHT_EYE])
    translation = centre - size * np.einsum("tij,j->ti", full, middle - joints[0])
    gaze = _fixations(rng, options, full, centre, partner)
    # Expression and jaw only: the skin landmarks do not follow the eyeballs.
    skin = np.concatenate(
        [
            head.landmarks(head.pose(shape, psi[rows], jaw[rows]))
            for rows in np.array_split(np.arange(t), max(t // 25, 1))
        ]
    )
    camera = size * np.einsum("tij,tlj->tli", full, skin - joints[0]) + translation[:, None]
    points = np.full((t, N_LANDMARKS, 3), np.nan)
    points[:, head.embedding.landmarks] = camera
    for joint, ring in ((LEFT_EYE, LEFT_IRIS), (RIGHT_EYE, RIGHT_IRIS)):
        ball = size * np.einsum("tij,j->ti", full, joints[joint] - joints[0]) + translation
        middle_of_iris = ball + size * head.iris_depth * gaze
        across = np.cross(gaze, full[:, :, 1])
        across /= np.linalg.norm(across, axis=-1, keepdims=True)
        up = np.cross(across, gaze)
        radius = head.iris_radius * iris
        points[:, ring[0]] = middle_of_iris
        for k, direction in enumerate((across, up, -across, -up)):
            points[:, ring[k + 1]] = middle_of_iris + radius * direction
    image_centre = (np.array([options.width, options.height]) - 1) / 2  # pixel centres at integers
    landmarks = points[..., :2] / points[..., 2:] * options.focal_px + image_centre
    return HeadTruth(
        rotation=rotation, translation=translation, gaze=gaze, head_centre=centre,
        face_scale=options.focal_px * INTER_PUPILLARY * size / centre[:, 2], size=size, shape=shape, expression=psi,
        jaw=jaw,
        eyes_open=closure < 0.5, landmarks=np.concatenate([landmarks, _relative_depth(points, options)], -1),
    )  # fmt: skip


def _relative_depth(points: Array, options: TrackOptions) -> Array:
    """FaceMesh's z: depth relative to the face's middle in the pixel scale of x and y."""
    middle = np.nanmean(points[..., 2:], axis=1, keepdims=True)
    return np.asarray((points[..., 2:] - middle) * options.focal_px / middle)


def _fixations(rng: np.random.Generator, options: TrackOptions, full: Array, centre: Array, partner: Array) -> Array:
    """Gaze directions [T, 3]: fixations of about half a second, 60 % of them on the partner's eyes where reachable."""
    t = len(full)
    gaze = np.zeros((t, 3))
    start = 0
    while start < t:
        end = min(start + 4 + int(rng.exponential(0.5 * options.fps)), t)
        at_partner = rng.random() < 0.6
        wander = np.radians(rng.normal(0.0, (10.0, 7.0)))
        for k in range(start, end):
            local = np.array([np.sin(wander[0]), np.sin(wander[1]), 0.0])
            local[2] = np.sqrt(1 - (local**2).sum())
            if at_partner:
                d = full[k].T @ (partner[k] - centre[k])
                d /= np.linalg.norm(d)
                if d[2] > np.cos(np.radians(40)):
                    local = d
            gaze[k] = full[k] @ local
        start = end
    return gaze


def _measure(
    rng: np.random.Generator, head: HeadModel, options: TrackOptions, truth: HeadTruth, track_id: str, limbus: float
) -> FaceTrack:
    t = options.n_frames
    index = head.embedding.landmarks
    scale = truth.face_scale[:, None, None]
    error = np.full((t, N_LANDMARKS), 1.0)
    normals = _landmark_normals(head)
    full = truth.rotation @ FLIP
    ray = truth.head_centre / np.linalg.norm(truth.head_centre, axis=-1, keepdims=True)
    away = np.einsum("tij,lj,ti->tl", full, normals, ray) > 0
    error[:, index] = np.where(away, options.far_side, 1.0)
    bias = options.bias * rng.standard_normal((1, N_LANDMARKS, 3))
    noise = options.noise * rng.standard_normal((t, N_LANDMARKS, 3))
    measured = truth.landmarks + scale * error[..., None] * (bias + noise)
    irises = [*LEFT_IRIS, *RIGHT_IRIS]
    measured[:, irises] = truth.landmarks[:, irises]
    for ring in (LEFT_IRIS, RIGHT_IRIS):
        outward = truth.landmarks[:, ring[1:], :2] - truth.landmarks[:, ring[:1], :2]
        radius = np.linalg.norm(outward, axis=-1, keepdims=True)
        measured[:, ring[1:], :2] += 0.5 * limbus * outward / np.maximum(radius.max(1, keepdims=True), 1e-6)
        measured[:, ring[1:]] += options.limbus_noise_px * rng.standard_normal((t, 4, 3))
        measured[:, ring] += options.iris_noise_px * rng.standard_normal((t, 1, 3))
    wild = rng.random((t, N_LANDMARKS)) < options.outliers
    wild[:, irises] = False
    measured += np.where(wild[..., None], 0.3 * scale * rng.standard_normal((t, N_LANDMARKS, 3)), 0.0)
    valid = np.ones(t, dtype=bool)
    lost, patches = options.occlusions
    for number in range(lost + patches):
        at = int(rng.integers(0, max(t - options.occlusion_frames, 1)))
        rows = np.arange(at, min(at + options.occlusion_frames, t))
        if number < lost:
            valid[rows] = False
            continue
        middle = truth.landmarks[rows[0], int(rng.choice(index)), :2]
        near = np.linalg.norm(truth.landmarks[rows[0], index, :2] - middle, axis=-1) < 0.5 * truth.face_scale[rows[0]]
        shift = 0.15 * scale[rows] * rng.standard_normal((1, int(near.sum()), 3))
        measured[np.ix_(rows, index[near])] += shift
    measured[~valid] = np.nan
    finite = measured[..., :2]
    with np.errstate(all="ignore"):
        low, high = np.min(finite[:, index], axis=1), np.max(finite[:, index], axis=1)
    one = np.where(valid, 1.0, 0.0).astype(np.float32)
    return FaceTrack(
        track_id=track_id,
        landmarks=measured.astype(np.float32),
        box=np.concatenate([low, high], -1).astype(np.float32),
        valid=valid,
        confidence=one,
        sharpness=np.where(valid, 100.0, np.nan).astype(np.float32),
        identity=np.zeros(8, dtype=np.float32),
    )


def _landmark_normals(head: HeadModel) -> Array:
    """Mesh normals at the landmarks, [L, 3]."""
    corners = head.vertices[head.triangles[head.embedding.faces]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12))
