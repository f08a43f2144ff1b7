"""Mesh tools behind the analytic heads: triangles from edges, mirror maps, biharmonic spreading, eyeballs, back of
head.

Everything here works in millimetres, on FaceMesh's 468 skin vertices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


def triangles_from_edges(edges: Iterable[tuple[int, int]]) -> Index:
    """Triangles [F, 3] of a manifold mesh given only its edges.

    A triangle is a 3-clique, except the separating ones: cliques all of whose edges already belong to two others.
    """
    neighbours: dict[int, set[int]] = {}
    for a, b in edges:
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    cliques = {
        tuple(sorted((a, b, c))) for a in neighbours for b in neighbours[a] for c in neighbours[a] & neighbours[b]
    }
    uses: dict[tuple[int, ...], int] = {}
    for clique in cliques:
        for edge in combinations(clique, 2):
            uses[edge] = uses.get(edge, 0) + 1
    kept = [c for c in sorted(cliques) if not all(uses[e] > 2 for e in combinations(c, 2))]
    return np.array(kept, dtype=np.int64)


def orient(triangles: Index, seed: int, outward: bool) -> Index:
    """Give a connected mesh one winding, flipped so that triangle ``seed`` keeps (or loses) its own."""
    result = triangles.copy()
    by_edge: dict[tuple[int, ...], list[int]] = {}
    for f, t in enumerate(triangles):
        for edge in combinations(sorted(t), 2):
            by_edge.setdefault(edge, []).append(f)
    if not outward:
        result[seed] = result[seed][::-1]
    done, stack = {seed}, [seed]
    while stack:
        f = stack.pop()
        t = result[f]
        for k in range(3):
            a, b = int(t[k]), int(t[(k + 1) % 3])
            for g in by_edge[tuple(sorted((a, b)))]:
                if g in done:
                    continue
                u = result[g].tolist()
                if any(u[m] == a and u[(m + 1) % 3] == b for m in range(3)):
                    result[g] = result[g][::-1]
                done.add(g)
                stack.append(g)
    return result


def mirror_map(points: Array) -> Index:
    """For nearly symmetric points (about x = 0), the index of each one's mirror image."""
    gap = points[:, None] - points[None] * [-1.0, 1.0, 1.0]
    return np.asarray(linear_sum_assignment((gap**2).sum(-1))[1], dtype=np.int64)


class SkinMesh:
    """Biharmonic displacement fields and geodesic distances on the skin."""

    def __init__(self, vertices: Array, triangles: Index) -> None:
        n = len(vertices)
        edges = np.unique(
            np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1), axis=0
        )
        length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
        graph = csr_matrix((length, (edges[:, 0], edges[:, 1])), shape=(n, n))
        self.distance: Array = dijkstra(graph, directed=False)
        laplacian = np.zeros((n, n))
        for (a, b), d in zip(edges, length, strict=True):
            laplacian[a, b] = laplacian[b, a] = -1.0 / d
        np.fill_diagonal(laplacian, -laplacian.sum(1))
        area = 1.0 / np.diag(laplacian)
        self.laplacian = laplacian
        self.bilaplacian = laplacian @ (area[:, None] * laplacian)
        self.n = n

    def spread(self, handles: Mapping[int, npt.ArrayLike], radius: float, harmonic: bool = False) -> Array:
        """The smoothest field [n, D] through ``handles`` that is zero beyond ``radius`` mm (along the skin) of all."""
        held = np.array(sorted(handles), dtype=np.int64)
        values = np.array([np.atleast_1d(np.asarray(handles[int(i)], dtype=np.float64)) for i in held])
        near = self.distance[held].min(axis=0) < radius
        near[held] = False
        free = np.flatnonzero(near)
        field = np.zeros((self.n, values.shape[1]))
        field[held] = values
        matrix = self.laplacian if harmonic else self.bilaplacian
        field[free] = np.linalg.solve(matrix[np.ix_(free, free)], -(matrix[free] @ field))
        return field


def eyeball(radius: float, iris_radius: float, segments: int = 16) -> tuple[Array, Index]:
    """A sphere about the origin, pole at +z, cut flat at the iris: vertex 0 is the iris centre.

    Rings: pupil, iris edge (the limbus, on the sphere), then the sclera back to the pole behind.
    """
    limbus = float(np.arcsin(iris_radius / radius))
    depth = radius * np.cos(limbus)
    rings = [(0.4 * iris_radius, depth), (iris_radius, depth)]
    for polar in np.linspace(limbus, np.pi, 9)[1:-1]:
        rings.append((radius * np.sin(polar), radius * np.cos(polar)))
    angle = np.arange(segments) * (2 * np.pi / segments)
    points = [np.array([[0.0, 0.0, depth]])]
    points += [np.stack([r * np.cos(angle), r * np.sin(angle), np.full(segments, z)], 1) for r, z in rings]
    points.append(np.array([[0.0, 0.0, -radius]]))
    faces: list[tuple[int, int, int]] = []
    last = 1 + segments * len(rings)
    for k in range(segments):
        n = (k + 1) % segments
        faces.append((0, 1 + k, 1 + n))
        for r in range(len(rings) - 1):
            a, b = 1 + r * segments + k, 1 + r * segments + n
            c, d = a + segments, b + segments
            faces += [(a, c, d), (a, d, b)]
        faces.append((1 + (len(rings) - 1) * segments + k, last, 1 + (len(rings) - 1) * segments + n))
    return np.concatenate(points), np.array(faces, dtype=np.int64)


def back_of_head(oval: Array, first: int, ring_indices: Index, rings: int = 11) -> tuple[Array, Index]:
    """Close the face behind its oval with a skull and a neck.

    Directions from the skull's centre go from each oval point to the pole behind; the radius blends from the oval's own
    into the union of a skull ellipsoid and a neck.

    Args:
        oval: [N, 3] mm, in order around the face. ring_indices: [N] their vertex indices.
        first: index that the first new vertex will get.

    Returns:
        New vertices [rings * N + 1, 3] and triangles that join them to the oval.
    """
    centre = np.array([0.0, 2.0, -78.0])
    pole = np.array([0.0, 0.1, -1.0])
    pole /= np.linalg.norm(pole)
    ray = oval - centre
    start = np.linalg.norm(ray, axis=1)
    direction = ray / start[:, None]
    angle = np.arccos(np.clip(direction @ pole, -1, 1))
    points = []
    for k in range(1, rings + 1):
        u = k / (rings + 1)
        d = (np.sin((1 - u) * angle) / np.sin(angle))[:, None] * direction
        d = d + (np.sin(u * angle) / np.sin(angle))[:, None] * pole
        blend = np.clip(u / 0.35, 0, 1)
        blend = blend * blend * (3 - 2 * blend)
        points.append(centre + d * ((1 - blend) * start + blend * _skull_radius(d))[:, None])
    points.append(centre + pole[None] * _skull_radius(pole[None])[:, None])
    n = len(oval)
    layers = [ring_indices] + [first + r * n + np.arange(n) for r in range(rings)]
    tip = first + rings * n
    faces: list[tuple[int, int, int]] = []
    for inner, outer in pairwise(layers):
        for k in range(n):
            m = (k + 1) % n
            faces += [(int(inner[k]), int(outer[k]), int(outer[m])), (int(inner[k]), int(outer[m]), int(inner[m]))]
    faces += [(int(layers[-1][k]), tip, int(layers[-1][(k + 1) % n])) for k in range(n)]
    return np.concatenate(points), np.array(faces, dtype=np.int64)


def _skull_radius(direction: Array) -> Array:
    """Distance from the skull's centre to the surface of skull and neck along unit ``direction`` [N, 3]."""
    skull = 1.0 / np.sqrt(((direction / [72.0, 88.0, 97.0]) ** 2).sum(1))
    # the neck: an elliptic cylinder (half axes 54, 52 mm) along y, 12 mm behind the centre, cut 165 mm below it
    x, y, z = direction.T
    a = (x / 54.0) ** 2 + (z / 52.0) ** 2
    b = z * (12.0 / 52.0**2)
    c = (12.0 / 52.0) ** 2 - 1.0
    side = (-b + np.sqrt(np.maximum(b * b - a * c, 0.0))) / np.maximum(a, 1e-9)
    bottom = np.where(y < -1e-6, 165.0 / np.maximum(-y, 1e-6), np.inf)
    neck = np.where(y < 0, np.minimum(side, bottom), 0.0)
    return np.asarray(np.maximum(skull, neck))
