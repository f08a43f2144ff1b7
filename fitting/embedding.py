"""Placing FaceMesh's landmarks on any head mesh, and telling when that went wrong.

The canonical head is registered to the mesh: by its eyes first, then by contours that every posable head gives away
(the lids are where skin ends over the eyeball; the lips part where neighbouring skin moves differently), then
everywhere by non-rigid closest points. Lid and lip landmarks are held on their own contour, since nearest points
would let upper and lower edges collapse onto one triangle without any error.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from .canonical import canonical_skin
from .head_model import (
    LEFT_EYE,
    LEFT_EYEBALL,
    RIGHT_EYE,
    RIGHT_EYEBALL,
    SKIN,
    Array,
    HeadModel,
    Index,
    LandmarkEmbedding,
)
from .mesh_query import closest_points, first_hit, vertex_normals, visible_triangles

EMPTY = LandmarkEmbedding(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)), "none")

# The subject's right side, outer corner to inner; the left follows by the canonical head's mirror map.
LIDS = ((246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155))
CANTHI = (33, 133)
INNER_LIPS = ((13, 82, 81, 80, 191), (14, 87, 178, 88, 95))  # middle to corner

# Millimetres: what an adult head at rest may measure. Wider than anatomy, narrow enough for a collapsed contour.
LIMITS_MM = {
    "lid_aperture": (5.0, 15.0),
    "inner_lip_gap": (0.0, 5.0),
    "mouth_width": (36.0, 68.0),
    "eye_distance": (52.0, 72.0),
    "outer_eye_distance": (74.0, 106.0),
}


def face_measures(points: Array) -> dict[str, float]:
    """Anatomical distances of 468 landmark points [468, 3]: the self-check of an embedding (same unit as the points).

    ``lid_aperture`` is the mean over both eyes of the largest gap; ``eye_distance`` is between the canthi's midpoints.
    """

    def gap(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return float(np.linalg.norm(points[list(a)] - points[list(b)], axis=-1).max())

    middle = 0.5 * (points[[33, 263]] + points[[133, 362]])
    return {
        "lid_aperture": 0.5 * (gap((160, 159, 158), (144, 145, 153)) + gap((387, 386, 385), (373, 374, 380))),
        "inner_lip_gap": gap((82, 13, 312), (87, 14, 317)),
        "mouth_width": gap((61,), (291,)),
        "eye_distance": float(np.linalg.norm(middle[0] - middle[1])),
        "outer_eye_distance": gap((33,), (263,)),
        "face_height": gap((10,), (152,)),
        "face_width": gap((234,), (454,)),
    }


def check(head: HeadModel) -> dict[str, float]:
    """Measure an embedding on the head at rest.

    Returns:
        :func:`face_measures` in metres, empty when the embedding does not hold the landmarks needed.

    Raises:
        UsageError: naming each measure that no adult head has.
    """
    points = np.full((468, 3), np.nan)
    points[head.embedding.landmarks] = head.landmarks(head.vertices)
    measures = {k: v for k, v in face_measures(points).items() if np.isfinite(v)}
    bad = [
        f"{name} {1e3 * measures[name]:.1f} mm (expected {low:g}-{high:g})"
        for name, (low, high) in LIMITS_MM.items()
        if name in measures and not low <= 1e3 * measures[name] <= high
    ]
    if bad:
        raise UsageError(f"head model {head.model_id}: landmarks do not sit where they should: {', '.join(bad)}")
    return measures


def load_embedding(path: Path, n_triangles: int) -> LandmarkEmbedding:
    """Read ``lmk_face_idx`` [L], ``lmk_b_coords`` [L, 3], ``landmark_indices`` [L] from an ``.npz``."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            faces = archive["lmk_face_idx"].astype(np.int64)
            barycentric = archive["lmk_b_coords"].astype(np.float64)
            landmarks = archive["landmark_indices"].astype(np.int64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"landmark embedding {path}: expected an .npz with lmk_face_idx, lmk_b_coords, landmark_indices ({error})"
        ) from None
    n = len(landmarks)
    if landmarks.shape != (n,) or faces.shape != (n,) or barycentric.shape != (n, 3) or n == 0:
        raise UsageError(
            f"landmark embedding {path}: expected shapes [L], [L, 3], [L] for lmk_face_idx, lmk_b_coords, "
            f"landmark_indices; found {faces.shape}, {barycentric.shape}, {landmarks.shape}"
        )
    if faces.min() < 0 or faces.max() >= n_triangles:
        raise UsageError(f"landmark embedding {path}: triangle {faces.max()} of a mesh with {n_triangles}")
    if landmarks.min() < 0 or landmarks.max() > 467 or len(np.unique(landmarks)) != n:
        raise UsageError(f"landmark embedding {path}: landmark_indices must be different FaceMesh indices, 0-467")
    if not np.allclose(barycentric.sum(1), 1.0, atol=1e-3):
        raise UsageError(f"landmark embedding {path}: the rows of lmk_b_coords do not sum to 1")
    order = np.argsort(landmarks)
    barycentric = barycentric / barycentric.sum(1, keepdims=True)
    return LandmarkEmbedding(landmarks[order], faces[order], barycentric[order], str(path.name))


def register(head: HeadModel, anchors: Mapping[int, npt.ArrayLike] | None = None) -> LandmarkEmbedding:
    """All 468 landmarks on the skin of ``head``.

    Args:
        anchors: known places, FaceMesh index -> [3] metres, that go before what the contours say.

    Raises:
        UsageError: no eyeballs, no mouth that opens, or a result that fails :func:`check`.
    """
    canon, triangles, mirror = canonical_skin()
    v = head.vertices
    part = head.parts[head.triangles]
    eyes = head.joints[[LEFT_EYE, RIGHT_EYE]]
    scale = float(np.linalg.norm(eyes[0] - eyes[1]) / 0.063)
    points = canon * scale + eyes.mean(0)
    low, high = points.min(0) - 0.03, points.max(0) + 0.03
    around = ((v >= low) & (v <= high)).all(1)[head.triangles].all(1)
    skin = (part == SKIN).all(1) & around
    eyeballs = ((part == LEFT_EYEBALL) | (part == RIGHT_EYEBALL)).all(1)
    if not eyeballs.any():
        raise UsageError(f"head model {head.model_id}: no eyeballs, so lids cannot be found; give a landmark embedding")
    fixed: dict[int, Array] = {}
    skin_faces = head.triangles[skin]
    fixed |= _lids(v, skin_faces, head.triangles[eyeballs], points, mirror)
    fixed |= _mouth(head, skin_faces, points, mirror)
    fixed |= {int(k): np.asarray(p, dtype=np.float64) for k, p in (anchors or {}).items()}
    seen = visible_triangles(v, skin_faces)
    faces = skin_faces[seen]

    points = _similar(canon, fixed) if len(fixed) > 3 else points
    bending = _bilaplacian(canon, triangles)
    for stiffness in (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.4):
        f, b = closest_points(v, faces, points, vertex_normals(points, triangles))
        target = np.einsum("lk,lkd->ld", b, v[faces[f]])
        weight = np.where(np.linalg.norm(target - points, axis=1) < 0.015, 1.0, 0.05)
        for index, place in fixed.items():
            target[index], weight[index] = place, 200.0
        points = _smooth_fit(points, target, weight, stiffness * bending)
    normals = vertex_normals(points, triangles)
    for index, place in fixed.items():
        points[index] = place
    f, b = closest_points(v, faces, points, normals)
    # contours lie at the rim of what is seen: look for them among all skin
    held = np.array(sorted(fixed), dtype=np.int64)
    chosen = np.flatnonzero(skin)[np.flatnonzero(seen)][f]
    if len(held):
        f_held, b_held = closest_points(v, skin_faces, points[held], normals[held])
        chosen[held], b[held] = np.flatnonzero(skin)[f_held], b_held
    return LandmarkEmbedding(np.arange(468), chosen, b, "registered")


def embedding_distance(head: HeadModel) -> tuple[float, float]:
    """Mean and largest distance in metres of the embedded points to the similarity-aligned canonical landmarks."""
    canon = canonical_skin()[0][head.embedding.landmarks]
    points = head.landmarks(head.vertices)
    moved = _align(canon, points)
    distance = np.linalg.norm(moved - points, axis=1)
    return float(distance.mean()), float(distance.max())


def _align(source: Array, target: Array, apply_to: Array | None = None) -> Array:
    """Similarity of ``source`` onto ``target`` (Umeyama 1991), applied to ``apply_to`` or to the source."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    d = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = float((s * d).sum() / (a**2).sum())
    points = source if apply_to is None else apply_to
    return np.asarray(scale * (points - source.mean(0)) @ (u * d @ vt).T + target.mean(0))


def _similar(canon: Array, fixed: Mapping[int, Array]) -> Array:
    index = np.array(sorted(fixed))
    return _align(canon[index], np.array([fixed[int(i)] for i in index]), canon)


def _bilaplacian(points: Array, triangles: Index) -> Array:
    """[N, N] bending energy of a displacement on the mesh, scaled to about one per vertex."""
    n = len(points)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    laplacian = np.zeros((n, n))
    laplacian[edges[:, 0], edges[:, 1]] = -1.0
    laplacian[edges[:, 1], edges[:, 0]] = -1.0
    degree = -laplacian.sum(1)
    laplacian = laplacian / degree[:, None]
    np.fill_diagonal(laplacian, 1.0)
    return np.asarray(laplacian.T @ laplacian)


def _smooth_fit(points: Array, target: Array, weight: Array, bending: Array) -> Array:
    """Minimise sum w |x - target|^2 + (x - points)' B (x - points)."""
    move = np.linalg.solve(np.diag(weight) + bending, weight[:, None] * (target - points))
    return np.asarray(points + move)


def _lids(v: Array, skin: Index, eyeballs: Index, start: Array, mirror: Index) -> dict[int, Array]:
    """Lid rings and canthi, from where the eyeball shows between the lids, seen from the front."""
    out: dict[int, Array] = {}
    for side in (False, True):
        name = (lambda i: int(mirror[i])) if side else int
        ring = [[name(i) for i in row] for row in LIDS]
        outer, inner = name(CANTHI[0]), name(CANTHI[1])
        middle = 0.5 * (start[outer] + start[inner])
        xs = middle[0] + np.arange(-0.021, 0.02101, 0.0005)
        ys = middle[1] + np.arange(-0.014, 0.01401, 0.00025)
        grid = np.stack(np.meshgrid(xs, ys, indexing="ij"), -1)
        flat = grid.reshape(-1, 2)
        ball = first_hit(v, eyeballs, flat)[2].reshape(len(xs), len(ys))
        lid = first_hit(v, skin, flat)[2].reshape(len(xs), len(ys))
        # a ray through the aperture meets the ball before any skin, or, beside the ball, only what lies far behind
        rim = np.interp(xs, *_sorted(start[[outer, inner], 0], start[[outer, inner], 2]))[:, None]
        shows = np.where(np.isfinite(ball), lid < ball - 1e-5, lid < rim - 0.008)
        shows = _largest_patch(shows)
        columns = np.flatnonzero(shows.sum(1) >= 2)
        if len(columns) < 16:
            raise UsageError("head model: the eyeballs do not show between the lids; give a landmark embedding")
        top = np.array([ys[np.flatnonzero(shows[c]).max()] for c in columns]) + 0.0003
        bottom = np.array([ys[np.flatnonzero(shows[c]).min()] for c in columns]) - 0.0003
        x = xs[columns]
        ends = (x[-1], x[0]) if side else (x[0], x[-1])  # outer, inner
        span = start[outer, 0] - start[inner, 0]
        for row, edge in zip(ring, (top, bottom), strict=True):
            share = (start[row, 0] - start[inner, 0]) / span
            wanted = ends[1] + np.clip(share, 0.04, 0.96) * (ends[0] - ends[1])
            height = np.interp(wanted, x, edge)
            out |= _on_skin(v, skin, row, np.stack([wanted, height], 1), edge is top)
        sign = 1.0 if side else -1.0
        for index, end, step in ((outer, ends[0], sign), (inner, ends[1], -sign)):
            column = columns[np.abs(xs[columns] - end).argmin()]
            y = ys[np.flatnonzero(shows[column])].mean()
            out |= _on_skin(v, skin, [index], np.array([[end + step * 0.0008, y]]), None)
    return out


def _sorted(x: Array, y: Array) -> tuple[Array, Array]:
    order = np.argsort(x)
    return x[order], y[order]


def _on_skin(v: Array, skin: Index, names: list[int], places: Array, upper: bool | None) -> dict[int, Array]:
    """The skin in front of ``places`` [K, 2]; a miss or a hit deep behind is looked for a little further out."""
    step = 0.0 if upper is None else (0.0003 if upper else -0.0003)
    found: dict[int, Array] = {}
    for attempt in range(6):
        faces, _, z = first_hit(v, skin, places + np.array([0.0, attempt * step]))
        typical = np.median(z[np.isfinite(z)]) if np.isfinite(z).any() else 0.0
        for name, place, face, depth in zip(names, places, faces, z, strict=True):
            if name not in found and face >= 0 and depth > typical - 0.012:
                found[name] = np.array([place[0], place[1] + attempt * step, depth])
    return found


def _largest_patch(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The part of a mask that hangs together around its densest column."""
    if not mask.any():
        return mask
    out = np.zeros_like(mask)
    column = int(mask.sum(1).argmax())
    for direction in (1, -1):
        rows = np.flatnonzero(mask[column])
        low, high = rows.min(), rows.max()
        c = column
        while 0 <= c < len(mask):
            here = np.flatnonzero(mask[c])
            here = here[(here >= low - 6) & (here <= high + 6)]
            if len(here) == 0:
                break
            out[c, here] = True
            low, high = here.min(), here.max()
            c += direction
    return out


def _mouth(head: HeadModel, skin: Index, start: Array, mirror: Index) -> dict[int, Array]:
    """Inner lip edges and mouth corners, from where skin that is next to each other moves apart.

    The features of a vertex are its displacements under jaw and expression modes; going down a vertical line over
    the mouth, upper and lower lip differ by a jump.
    """
    v = head.vertices
    centre = 0.5 * (start[13] + start[14])
    xs = centre[0] + np.arange(-0.034, 0.03401, 0.001)
    ys = centre[1] + np.arange(0.022, -0.0261, -0.0004)
    flat = np.stack(np.meshgrid(xs, ys, indexing="ij"), -1).reshape(-1, 2)
    faces, barycentric, z = first_hit(v, skin, flat)
    features = _motion(head)[skin[faces]]  # [Q, 3, K]
    seen = np.einsum("qk,qkm->qm", barycentric, features).reshape(len(xs), len(ys), -1)
    z = z.reshape(len(xs), len(ys))
    size = np.sqrt((seen**2).sum(-1)).max()
    if size < 1e-4:
        raise UsageError(f"head model {head.model_id}: nothing moves the mouth; give a landmark embedding")
    seam = np.full((len(xs), 3), np.nan)  # jump, y above, y below
    for i in range(len(xs)):
        around = z[i, (np.abs(ys - centre[1]) < 0.010) & np.isfinite(z[i])]
        if len(around) < 10:
            continue
        rows = np.flatnonzero(np.isfinite(z[i]) & (z[i] > np.median(around) - 0.010))  # not the inside of the mouth
        step = np.sqrt(((seen[i, rows[1:]] - seen[i, rows[:-1]]) ** 2).sum(-1))
        k = int(step.argmax())
        seam[i] = step[k], ys[rows[k]], ys[rows[k + 1]]
    middle = int(np.nanargmax(np.where(np.abs(xs - centre[0]) < 0.012, seam[:, 0], np.nan)))
    strong = 0.2 * np.nanmedian(seam[max(0, middle - 8) : middle + 9, 0])
    reach = []
    for direction in (-1, 1):
        i = middle
        while 0 <= i + direction < len(xs):
            n = i + direction
            follows = abs(seam[n, 1] - seam[i, 1]) < 0.003
            if not (seam[n, 0] > strong and follows):
                break
            i = n
        reach.append(i)
    if reach[1] - reach[0] < 24:
        raise UsageError(
            f"head model {head.model_id}: the mouth does not open where lips should be; give a landmark embedding"
        )
    part = slice(reach[0], reach[1] + 1)
    x, above, below = xs[part], seam[part, 1], seam[part, 2]
    middle_x = 0.5 * (x[0] + x[-1])
    width = x[-1] - x[0]
    out: dict[int, Array] = {}
    half = abs(start[78, 0] - centre[0])
    for side in (False, True):
        name = (lambda i: int(mirror[i])) if side else int
        for row, edge in zip(INNER_LIPS, (above, below), strict=True):
            names = [name(i) for i in row]
            wanted = middle_x + (start[names, 0] - centre[0]) / half * (0.5 * width)
            out |= _on_skin(v, skin, names, np.stack([wanted, np.interp(wanted, x, edge)], 1), edge is above)
        end = x[-1] if side else x[0]
        y = float(np.interp(end, x, 0.5 * (above + below)))
        sign = 1.0 if side else -1.0
        out |= _on_skin(v, skin, [name(78)], np.array([[end, y]]), None)
        out |= _on_skin(v, skin, [name(61)], np.array([[end + sign * 0.0022, y]]), None)
    return out


def _motion(head: HeadModel) -> Array:
    """[V, K] how each vertex moves when the jaw opens and when each of the strongest expressions is made."""
    parts = [head.pose(jaw=[0.2, 0.0, 0.0]) - head.vertices]
    sd = head.expression_sd
    energy = (head.expression_dirs.astype(np.float64) ** 2).sum((0, 1)) * sd**2
    for k in np.argsort(-energy, kind="stable")[:40]:
        parts.append(head.expression_dirs[..., k] * sd[k])
    return np.concatenate(parts, axis=1, dtype=np.float64)
