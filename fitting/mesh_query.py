"""Questions asked of a triangle mesh: what lies in front, what is nearest, what can be seen. numpy only, metres."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
_CHUNK = 1 << 24  # pairs looked at together
_CELL = 0.004  # metres, rays are handled together by square cells


def first_hit(vertices: Array, triangles: Index, points: Array) -> tuple[Index, Array, Array]:
    """Look from the front (down -z) at ``points`` [Q, 2]; the nearest triangle each ray meets.

    Returns:
        faces [Q] (-1: none), barycentric [Q, 3], z [Q] (-inf: none).
    """
    corners = vertices[triangles]
    low, high = corners.min(1)[:, :2], corners.max(1)[:, :2]
    faces = np.full(len(points), -1, dtype=np.int64)
    best = np.full(len(points), -np.inf)
    barycentric = np.zeros((len(points), 3))
    cells = np.unique(np.floor(points / _CELL).astype(np.int64), axis=0, return_inverse=True)[1].reshape(-1)
    for cell in range(int(cells.max()) + 1 if len(points) else 0):
        rows = np.flatnonzero(cells == cell)
        p = points[rows]
        near = np.flatnonzero(((high >= p.min(0)) & (low <= p.max(0))).all(1))
        if not len(near):
            continue
        a, b, c = (corners[near, k] for k in range(3))
        ab, ac = b - a, c - a
        area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
        area = np.where(np.abs(area) > 1e-14, area, np.nan)
        d = p[:, None] - a[:, :2]
        v = (d[..., 0] * ac[:, 1] - d[..., 1] * ac[:, 0]) / area
        w = (ab[:, 0] * d[..., 1] - ab[:, 1] * d[..., 0]) / area
        hit = (v >= -1e-9) & (w >= -1e-9) & (v + w <= 1 + 1e-9)
        z = np.where(hit, a[:, 2] + v * ab[:, 2] + w * ac[:, 2], -np.inf)
        pick = z.argmax(1)
        k = np.arange(len(p))
        found = np.isfinite(z[k, pick])
        k, pick = k[found], pick[found]
        best[rows[k]] = z[k, pick]
        faces[rows[k]] = near[pick]
        barycentric[rows[k]] = np.stack([1 - v[k, pick] - w[k, pick], v[k, pick], w[k, pick]], -1)
    return faces, barycentric, best


def closest_points(
    vertices: Array, triangles: Index, points: Array, normals: Array | None = None, candidates: int = 32
) -> tuple[Index, Array]:
    """The nearest point of the mesh to each of ``points`` [Q, 3] (Ericson, Real-Time Collision Detection, 5.1.5).

    Args:
        normals: [Q, 3]: triangles whose normal points away from it are avoided (their distance counts 20 mm more).
        candidates: triangles looked at exactly, those with the nearest centroids.

    Returns:
        faces [Q], barycentric [Q, 3].
    """
    corners = vertices[triangles]
    centroid = corners.mean(1)
    radius = np.linalg.norm(corners - centroid[:, None], axis=-1).max(1)
    normal = triangle_normals(vertices, triangles)
    candidates = min(candidates, len(triangles))
    faces = np.zeros(len(points), dtype=np.int64)
    barycentric = np.zeros((len(points), 3))
    step = max(1, _CHUNK // len(triangles))
    for start in range(0, len(points), step):
        p = points[start : start + step]
        d2 = (p**2).sum(1)[:, None] - 2 * p @ centroid.T + (centroid**2).sum(1)
        bound = np.sqrt(np.maximum(d2, 0)) - radius
        penalty = None
        if normals is not None:
            penalty = 0.02 * (normals[start : start + step] @ normal.T < 0.2)
            bound = bound + penalty
        near = np.argpartition(bound, candidates - 1, axis=1)[:, :candidates]
        bary, distance = _closest_in_triangles(p[:, None], corners[near])
        if penalty is not None:
            distance = distance + np.take_along_axis(penalty, near, axis=1)
        pick = distance.argmin(1)
        rows = np.arange(len(p))
        faces[start : start + step] = near[rows, pick]
        barycentric[start : start + step] = bary[rows, pick]
    return faces, barycentric


def _closest_in_triangles(p: Array, corners: Array) -> tuple[Array, Array]:
    """Barycentric coordinates of the nearest points and their distances; p [Q, 1, 3], corners [Q, K, 3, 3]."""
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    ab, ac, ap = b - a, c - a, p - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    det = np.maximum(d00 * d11 - d01 * d01, 1e-20)
    v, w = (d11 * d20 - d01 * d21) / det, (d00 * d21 - d01 * d20) / det
    inner = np.stack([1 - v - w, v, w], -1)
    options = [np.where((inner >= 0).all(-1, keepdims=True), inner, np.nan)]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        s, e = corners[..., i, :], corners[..., j, :]
        length = np.maximum(((e - s) ** 2).sum(-1), 1e-20)
        t = np.clip(((p - s) * (e - s)).sum(-1) / length, 0, 1)
        edge = np.zeros((*t.shape, 3))
        edge[..., i], edge[..., j] = 1 - t, t
        options.append(edge)
    stacked = np.stack(options)  # [4, Q, K, 3]
    position = np.einsum("oqkc,qkcd->oqkd", stacked, corners)
    distance = np.linalg.norm(position - p, axis=-1)
    distance = np.where(np.isnan(distance), np.inf, distance)
    best = distance.argmin(0)[None]
    bary = np.take_along_axis(stacked, best[..., None], axis=0)[0]
    return bary, np.take_along_axis(distance, best, axis=0)[0]


def triangle_normals(vertices: Array, triangles: Index) -> Array:
    """Unit normals [F, 3]; zero for degenerate triangles."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    n = np.cross(b - a, c - a)
    length = np.linalg.norm(n, axis=1, keepdims=True)
    return np.asarray(n / np.maximum(length, 1e-20))


def vertex_normals(vertices: Array, triangles: Index) -> Array:
    """Area-weighted unit normals [V, 3]."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    n = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(total, triangles[:, k], n)
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20))


def visible_triangles(
    vertices: Array, triangles: Index, cell: float = 0.002, slack: float = 0.003
) -> npt.NDArray[np.bool_]:
    """[F] which triangles can be seen from the front half-circle (yaw -75..75 degrees) or from 25 degrees below.

    Depth buffers of ``cell`` metres, filled by points sampled on every triangle; ``slack`` metres of depth are
    forgiven.
    """
    grid = np.array([(i / 5, j / 5, (5 - i - j) / 5) for i in range(6) for j in range(6 - i)])
    samples = np.einsum("sk,fkd->fsd", grid, vertices[triangles])
    normal = triangle_normals(vertices, triangles)
    seen = np.zeros(len(triangles), dtype=bool)
    for yaw, pitch in ((0, 0), (-40, 0), (40, 0), (-75, 0), (75, 0), (0, 25)):
        cy, sy, cp, sp = (f(np.radians(v)) for v in (yaw, pitch) for f in (np.cos, np.sin))
        turn = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        p = samples @ turn.T
        ij = np.floor((p[..., :2] - p[..., :2].min((0, 1))) / cell).astype(np.int64)
        code = ij[..., 0] * (ij[..., 1].max() + 1) + ij[..., 1]
        depth = np.full(int(code.max()) + 1, -np.inf)
        np.maximum.at(depth, code.ravel(), p[..., 2].ravel())
        facing = normal @ turn[2] > 0.05
        seen |= facing & (p[..., 2] > depth[code] - slack).mean(1).__gt__(0.5)
    return seen


def connected_components(n: int, triangles: Index) -> Index:
    """[V] component number of each vertex, by label propagation along edges."""
    label = np.arange(n)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    while True:
        low = np.minimum(label[edges[:, 0]], label[edges[:, 1]])
        new = label.copy()
        np.minimum.at(new, edges[:, 0], low)
        np.minimum.at(new, edges[:, 1], low)
        new = new[new]  # pointer jumping
        if np.array_equal(new, label):
            return np.unique(label, return_inverse=True)[1].astype(np.int64)
        label = new


def sphere_fit(points: Array) -> tuple[Array, float]:
    """Least-squares sphere through ``points`` [N, 3]: centre and radius."""
    a = np.c_[2 * points, np.ones(len(points))]
    solution = np.linalg.lstsq(a, (points**2).sum(1), rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.sqrt(max(solution[3] + centre @ centre, 0.0)))
