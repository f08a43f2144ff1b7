"""The second analytic head: another shape and another deformation basis, for tests where generator and fit must differ.

    python -m duologue.synthesis.second_head

It keeps FaceMesh's topology, so its landmarks are exact. Its rest shape bends the canonical one by a seeded random
field that no canonical mode follows, at the canonical head's size; identity modes are random smooth fields of space
that leave size alone, expression modes are the canonical ones re-cut (other reach, other strength, left-right uneven)
with skin slack on top, and the jaw turns about another hinge with correctives of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..fitting import canonical
from ..fitting.head_model import JAW, LEFT_EYE, RIGHT_EYE, HeadModel
from .head_geometry import SkinMesh

Array = npt.NDArray[np.float64]

SEED = 20240607
N_SHAPE, N_SLACK = 24, 6
REST_MM, SHAPE_MM, SLACK_MM = 3.0, 0.65, 1.0  # root mean square displacements over the skin


def random_field(rng: np.random.Generator, points: Array, wavelength: float, waves: int = 24) -> Array:
    """A smooth random vector field on ``points`` [N, 3]: a sum of plane waves about ``wavelength`` long, unit RMS."""
    direction = rng.normal(size=(waves, 3))
    direction *= (2 * np.pi / (wavelength * rng.uniform(0.7, 1.6, size=(waves, 1)))) / np.linalg.norm(
        direction, axis=1, keepdims=True
    )
    phase = rng.uniform(0, 2 * np.pi, size=waves)
    amplitude = rng.normal(size=(waves, 3))
    field = np.sin(points @ direction.T + phase) @ amplitude
    return np.asarray(field / np.sqrt((field[:468] ** 2).sum(1).mean()))


def _size_direction(move: Array, skin: Array) -> float:
    """Inner product of a displacement with growth about the centroid."""
    return float(((move - move.mean(0)) * (skin - skin.mean(0))).sum())


def _rigid_eyes(head: HeadModel, field: Array, at_joints: Array) -> Array:
    """Eyeballs move as one, with their centres."""
    for part, joint in ((1, LEFT_EYE), (2, RIGHT_EYE)):
        field[head.parts == part] = at_joints[joint]
    return field


def build() -> dict[str, npt.NDArray[Any]]:
    """Arrays of the second head, in metres, as :func:`duologue.fitting.canonical.save_npz` takes them."""
    base = canonical.load_embedded("canonical")
    skin, triangles, mirror = canonical.canonical_skin()
    rng = np.random.default_rng(SEED)
    everything = np.concatenate([base.vertices, base.joints])
    n = len(base.vertices)

    def spatial(wavelength: float, rms_mm: float, symmetric: bool) -> tuple[Array, Array]:
        field = random_field(rng, everything, wavelength)
        if symmetric:  # odd in x for the x component, even for the others: most of a face's variation is symmetric
            state = rng.bit_generator.state
            reflected = random_field(np.random.default_rng(SEED + 1), everything * [-1, 1, 1], wavelength)
            plain = random_field(np.random.default_rng(SEED + 1), everything, wavelength)
            field = field * 0.25 + plain + reflected * [-1, 1, 1]
            rng.bit_generator.state = state
        field *= rms_mm * 1e-3 / np.sqrt((field[:468] ** 2).sum(1).mean())
        return _rigid_eyes(base, field[:n].copy(), field[n:]), field[n:]

    rest, rest_joints = spatial(0.09, REST_MM, True)
    stretch = np.array([0.96, 1.05, 1.03])
    vertices, joints = base.vertices * stretch + rest, base.joints * stretch + rest_joints
    for part, joint in ((1, LEFT_EYE), (2, RIGHT_EYE)):
        rows = base.parts == part
        vertices[rows] = base.vertices[rows] - base.joints[joint] + joints[joint]
    joints[JAW] += [0.0, 0.004, -0.006]
    centre = 0.5 * (joints[LEFT_EYE] + joints[RIGHT_EYE])
    size = float(_size_direction(vertices[:468], skin) / _size_direction(skin, skin))
    eyeball_scale = np.where(np.isin(base.parts, (1, 2)), 1.0, 1.0 / size)[:, None]
    vertices, joints = (vertices - centre) * eyeball_scale, (joints - centre) / size
    for part, joint in ((1, LEFT_EYE), (2, RIGHT_EYE)):
        rows = base.parts == part
        vertices[rows] = base.vertices[rows] - base.joints[joint] + joints[joint]

    shapes, joint_shapes = [], []
    for k in range(N_SHAPE):
        move, at_joints = spatial(0.05 + 0.15 * rng.random(), SHAPE_MM * (1.3 - 0.6 * k / N_SHAPE), False)
        growth = _size_direction(move[:468], vertices[:468]) / _size_direction(vertices[:468], vertices[:468])
        at_joints = at_joints - growth * joints
        move = _rigid_eyes(base, move - growth * vertices, at_joints)
        shapes.append(move)
        joint_shapes.append(at_joints)

    mesh = SkinMesh(skin * 1e3, triangles)
    diffusion = np.linalg.inv(np.eye(468) + 6.0 * (mesh.laplacian / np.diag(mesh.laplacian)[:, None]))
    names, moves = [], []
    for k, name in enumerate(base.expression_names):
        move = base.expression_dirs[..., k].astype(np.float64)
        if not name.startswith("eye"):  # lids must still close on the eyeball
            uneven = 1.0 + 0.25 * rng.normal() + 0.2 * rng.normal() * np.tanh(skin[:, :1] / 0.02)
            move[:468] = 0.6 * move[:468] * uneven + 0.5 * diffusion @ move[:468] @ _tilt(rng)
        names.append(name)
        moves.append(move)
    below = np.exp(-0.5 * ((everything[:n, 1:2] + 0.065) / 0.03) ** 2) * (everything[:n, 2:3] > -0.04)
    for k in range(N_SLACK):
        slack = random_field(rng, everything, 0.035)[:n] * SLACK_MM * 1e-3 * below
        slack[base.parts != 0] = 0.0
        slack[base.parts == 3] = 0.0
        names.append(f"slack{k}")
        moves.append(slack)
    return {
        "vertices": vertices,
        "triangles": base.triangles,
        "weights": base.weights,
        "joints": joints,
        "shape_dirs": np.stack(shapes, -1),
        "joint_dirs": np.stack(joint_shapes, -1),
        "expression_dirs": np.stack(moves, -1),
        "shape_names": np.array([f"field{k:02d}" for k in range(N_SHAPE)]),
        "expression_names": np.array(names),
        "expression_sd": np.concatenate([base.expression_sd, np.full(N_SLACK, 1.0)]),
        "jaw_limits": base.jaw_limits,
        "eye_radii": np.array([base.eyeball_radius, base.iris_radius]),
        "parts": base.parts,
        "mirror": mirror,
    }


def _tilt(rng: np.random.Generator) -> Array:
    """A small random rotation, so that a muscle pulls another way."""
    axis = rng.normal(size=3) * 0.25
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + k + 0.5 * k @ k)


def main() -> None:
    """Write ``second_head.npz`` beside the loader."""
    canonical.save_npz(canonical.FOLDER / "second_head.npz", "second-1", build())


if __name__ == "__main__":
    main()
