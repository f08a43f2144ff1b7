"""Mesh queries against brute force and closed forms."""

from __future__ import annotations

import numpy as np
from duologue.fitting.canonical import canonical_skin
from duologue.fitting.mesh_query import (
    closest_points,
    connected_components,
    first_hit,
    sphere_fit,
    triangle_normals,
    visible_triangles,
)

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float) * 0.01
FACES = np.array([[0, 1, 2], [0, 2, 3]])


def test_first_hit_takes_the_nearer_of_two_layers() -> None:
    v = np.concatenate([SQUARE, SQUARE + np.array([0, 0, 0.005])])
    t = np.concatenate([FACES, FACES + 4])
    faces, barycentric, z = first_hit(v, t, np.array([[0.006, 0.003], [0.5, 0.5]]))
    assert faces[0] == 2
    assert np.isclose(z[0], 0.005)
    assert np.allclose(barycentric[0] @ v[t[2]], [0.006, 0.003, 0.005])
    assert faces[1] == -1
    assert z[1] == -np.inf


def test_closest_points_equal_dense_sampling() -> None:
    skin, triangles, _ = canonical_skin()
    rng = np.random.default_rng(0)
    points = skin[rng.integers(0, 468, 20)] + rng.normal(size=(20, 3)) * 0.004
    faces, barycentric = closest_points(skin, triangles, points)
    found = np.einsum("qk,qkd->qd", barycentric, skin[triangles[faces]])
    grid = np.array([(i, j, 16 - i - j) for i in range(17) for j in range(17 - i)]) / 16
    samples = np.einsum("sk,fkd->fsd", grid, skin[triangles]).reshape(-1, 3)
    dense = np.sqrt(((points[:, None] - samples[None]) ** 2).sum(-1).min(1))
    distance = np.linalg.norm(found - points, axis=1)
    assert np.all(distance <= dense + 1e-9)
    assert np.all(distance >= dense - 1e-3)
    assert np.all(barycentric >= 0)


def test_closest_points_respect_normals() -> None:
    v = np.concatenate([SQUARE, SQUARE + np.array([0, 0, 0.004])])
    t = np.concatenate([FACES[:, ::-1], FACES + 4])  # lower layer faces down, upper layer faces up
    p = np.array([[0.005, 0.002, 0.001]])
    assert closest_points(v, t, p)[0][0] < 2
    assert closest_points(v, t, p, np.array([[0, 0, 1.0]]))[0][0] >= 2


def test_a_wall_hides_what_is_behind() -> None:
    n = 20  # squares of 5 mm
    x, y = np.meshgrid(np.linspace(-0.05, 0.05, n + 1), np.linspace(-0.05, 0.05, n + 1), indexing="ij")
    wall = np.stack([x, y, 0 * x], -1).reshape(-1, 3)
    a = (np.arange(n)[:, None] * (n + 1) + np.arange(n)).ravel()
    faces = np.concatenate([np.stack([a, a + n + 1, a + n + 2], 1), np.stack([a, a + n + 2, a + 1], 1)])
    v = np.concatenate([wall, SQUARE - [0.005, 0.005, 0.008]])
    seen = visible_triangles(v, np.concatenate([faces, FACES + len(wall)]))
    assert seen[:-2].all()
    assert not seen[-2:].any()


def test_normals_components_sphere() -> None:
    assert np.allclose(triangle_normals(SQUARE, FACES), [[0, 0, 1], [0, 0, 1]])
    two = connected_components(8, np.concatenate([FACES, FACES + 4]))
    assert two.tolist() == [0] * 4 + [1] * 4
    rng = np.random.default_rng(1)
    d = rng.normal(size=(50, 3))
    centre, radius = sphere_fit([1, 2, 3] + 0.4 * d / np.linalg.norm(d, axis=1, keepdims=True))
    assert np.allclose(centre, [1, 2, 3])
    assert np.isclose(radius, 0.4)
