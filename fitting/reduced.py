"""The reduced landmark model: a head model cut down to the rows that landmarks see (fit contract).

Exact linear blend skinning over the channels ``head`` (root and neck, rigid together) and ``jaw``:

    x_l = sum_c [ R_c (m_lc - w_lc J_c) + w_lc J_c ],   m_lc = mean_lc + shape_dirs_lc beta + expression_dirs_lc psi

with R_head = I, R_jaw = R(jaw), J_c(beta) the jaw joint. Pose correctives (FLAME's ``posedirs``) of the jaw act before
skinning, so they come in two parts: ``jaw_correctives @ vec(R_jaw - I)`` is added as it is, and
``R_jaw @ jaw_correctives_turned @ vec(R_jaw - I)`` turns with the jaw. In FLAME joints follow the expression too:
J_c(beta, psi) = joints + joint_dirs beta + joint_expression_dirs psi. Model frame and units: see
:mod:`duologue.schemas.heads`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
ROOT, NECK, JAW, LEFT_EYE, RIGHT_EYE = range(5)


@dataclass(frozen=True)
class ReducedModel:
    """Rows of a head model for L landmarks, S identity and E expression modes.

    Attributes:
        model_id, sha256, tier, license: provenance. ``tier`` is "flame", "gnm", "ict" or "canonical".
        landmarks: [L] FaceMesh indices (0-467) of the rows.
        mean: [2, L, 3] metres, channel (head, jaw), skinning weight already multiplied in.
        shape_dirs: [2, L, 3, S]; expression_dirs: [2, L, 3, E]; coefficients have prior sd 1 resp. ``expression_sd``.
        weights: [2, L] summed skinning weight per channel (columns sum to 1).
        jaw_correctives, jaw_correctives_turned: [L, 3, 9] or None (both or neither), vec row by row.
        joints: [5, 3] metres at zero shape (root, neck, jaw, left eye, right eye); joint_dirs: [5, 3, S].
        expression_sd: [E] prior standard deviations. expression_names: length E. jaw_limits: [3, 2] radians.
        eyeball_radius: metres, eyeball centre to iris-centre sphere (rho of the gaze geometry).
        iris_radius: metres.
        joint_expression_dirs: [5, 3, E] or None (joints do not follow the expression).
        mesh_vertices, mesh_triangles: full template [V, 3], [F, 3] for drawing.
    """

    model_id: str
    sha256: str
    tier: str
    license: str
    landmarks: npt.NDArray[np.int64]
    mean: Array
    shape_dirs: Array
    expression_dirs: Array
    weights: Array
    jaw_correctives: Array | None
    joints: Array
    joint_dirs: Array
    expression_sd: Array
    expression_names: tuple[str, ...]
    jaw_limits: Array
    eyeball_radius: float
    iris_radius: float
    mesh_vertices: Array
    mesh_triangles: npt.NDArray[np.int64]
    jaw_correctives_turned: Array | None = None
    joint_expression_dirs: Array | None = None
