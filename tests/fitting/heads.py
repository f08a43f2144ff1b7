"""A small analytic head for tests: an ellipsoid face with a jaw, random smooth modes and named expressions."""

from __future__ import annotations

import numpy as np
from duologue.fitting.reduced import ReducedModel

FLIP = np.diag([1.0, -1.0, -1.0])


def ellipsoid_head(
    n_landmarks: int = 468, n_shape: int = 6, n_expression: int = 8, jaw: bool = True, seed: int = 0
) -> ReducedModel:
    """Landmarks on an ellipsoid, metres, model frame; smooth modes of 2-3 mm; the lower part turns with the jaw."""
    rng = np.random.default_rng(seed)
    golden = np.pi * (3 - np.sqrt(5))
    k = np.arange(n_landmarks)
    y = 1 - 2 * (k + 0.5) / n_landmarks
    azimuth = golden * k
    flat = np.sqrt(1 - y * y)
    points = np.stack([flat * np.cos(azimuth), y, np.abs(flat * np.sin(azimuth))], -1) * [0.075, 0.1, 0.09]
    points[:, 2] += 0.012 * np.exp(-((points[:, 0] / 0.015) ** 2) - ((points[:, 1] + 0.02) / 0.03) ** 2)  # a nose
    if n_landmarks > 263:  # the outer eye corners, which set the face scale
        points[33], points[263] = [-0.0447, 0.03, 0.06], [0.0447, 0.03, 0.06]

    def modes(count: int, size: float) -> np.ndarray:
        centres = points[rng.integers(0, n_landmarks, count)]
        bump = np.exp(-0.5 * ((points[:, None] - centres[None]) ** 2).sum(-1) / 0.03**2)
        return size * bump[:, None, :] * rng.standard_normal((1, 3, count))

    jaw_weight = np.clip((-points[:, 1] - 0.02) / 0.03, 0, 1) if jaw else np.zeros(n_landmarks)
    weights = np.stack([1 - jaw_weight, jaw_weight])
    joints = np.array(
        [[0, -0.1, -0.05], [0, -0.05, -0.05], [0, -0.01, 0.01], [0.0315, 0.03, 0.05], [-0.0315, 0.03, 0.05]]
    )
    correctives = (
        2e-4 * rng.standard_normal((2, n_landmarks, 3, 9)) * jaw_weight[:, None, None] if jaw else (None, None)
    )
    names = ("eyeBlinkLeft", "mouthSmileLeft", "browInnerUp", "jawForward")
    return ReducedModel(
        model_id="ellipsoid",
        sha256="0" * 64,
        tier="canonical",
        license="test",
        landmarks=np.arange(n_landmarks),
        mean=weights[..., None] * points,
        shape_dirs=weights[..., None, None] * modes(n_shape, 0.003),
        expression_dirs=weights[..., None, None] * modes(n_expression, 0.004),
        weights=weights,
        jaw_correctives=correctives[0],
        joints=joints,
        joint_dirs=2e-4 * rng.standard_normal((5, 3, n_shape)),
        expression_sd=np.full(n_expression, 0.5),
        expression_names=tuple(names[k % 4] for k in range(n_expression)),
        jaw_limits=np.array([[-0.05, 0.6], [-0.1, 0.1], [0.0, 0.0]]) if jaw else np.zeros((3, 2)),
        eyeball_radius=0.0105,
        iris_radius=0.00585,
        mesh_vertices=points,
        mesh_triangles=np.zeros((1, 3), dtype=np.int64),
        jaw_correctives_turned=correctives[1],
        joint_expression_dirs=1e-4 * rng.standard_normal((5, 3, n_expression)),
    )
