"""The scripts that make the embedded heads: their geometry, and that the committed files are what they write."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from duologue.fitting.canonical import canonical_skin
from duologue.fitting.load_head import load_head_model
from duologue.synthesis import second_head
from duologue.synthesis.head_geometry import (
    SkinMesh,
    back_of_head,
    eyeball,
    mirror_map,
    orient,
    triangles_from_edges,
)


def directed_edges(triangles: np.ndarray) -> Counter[tuple[int, int]]:
    return Counter((int(t[k]), int(t[(k + 1) % 3])) for t in triangles for k in range(3))


def test_triangles_of_an_octahedron_and_their_winding() -> None:
    points = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    edges = [(a, b) for a in range(6) for b in range(6) if a < b and not np.allclose(points[a], -points[b])]
    triangles = triangles_from_edges(edges)
    assert len(triangles) == 8
    a, b, c = points[triangles[0]]
    wound = orient(triangles, 0, bool(np.cross(b - a, c - a) @ (a + b + c) > 0))
    p = points[wound]
    assert (np.einsum("fd,fd->f", np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), p.sum(1)) > 0).all()


def test_a_separating_clique_is_no_triangle() -> None:
    # two tetrahedra glued on 0-1-2, whose common face is inside
    edges = [(0, 1), (1, 2), (0, 2), *((k, 3) for k in range(3)), *((k, 4) for k in range(3))]
    found = {tuple(t) for t in triangles_from_edges(edges)}
    assert (0, 1, 2) not in found
    assert len(found) == 6


def test_mirror_map_is_found_again() -> None:
    skin, _, mirror = canonical_skin()
    noise = np.random.default_rng(0).normal(size=skin.shape) * 2e-4
    assert np.array_equal(mirror_map(skin + noise), mirror)


def test_spread_meets_its_handles_and_stops_at_its_radius() -> None:
    skin, triangles, _ = canonical_skin()
    mesh = SkinMesh(skin * 1e3, triangles)
    field = mesh.spread({61: (1.0, 2.0, 3.0), 291: (0.0, 0.0, 0.0)}, 25)
    assert np.array_equal(field[61], [1, 2, 3])
    assert not field[mesh.distance[[61, 291]].min(0) >= 25].any()
    assert np.abs(field).max() < 4
    harmonic = mesh.spread({0: (1.0,), 152: (0.0,), 10: (0.0,)}, 1e9, harmonic=True)
    assert harmonic.min() >= -1e-12  # no harmonic field leaves the range of its handles
    assert harmonic.max() <= 1 + 1e-12


def test_eyeball_is_closed_and_cut_at_the_iris() -> None:
    points, faces = eyeball(12.0, 5.85)
    edges = directed_edges(faces)
    assert all(n == 1 and edges[b, a] == 1 for (a, b), n in edges.items())
    p = points[faces]
    volume = np.einsum("fd,fd->f", p[:, 0], np.cross(p[:, 1], p[:, 2])).sum() / 6
    assert 0.85 < volume / (4 / 3 * np.pi * 12**3) < 1.0  # outward, and nearly a sphere
    assert np.isclose(points[0, 2], np.sqrt(12**2 - 5.85**2))
    assert np.linalg.norm(points, axis=1).max() <= 12 + 1e-9


def test_back_of_head_closes_the_face() -> None:
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    oval = np.stack([-60 * np.sin(angle), 70 * np.cos(angle) - 20, np.full(36, -20.0)], 1)
    points, faces = back_of_head(oval, 36, np.arange(36))
    edges = directed_edges(faces)
    loose = {e for e in edges if (e[1], e[0]) not in edges}
    assert {v for e in loose for v in e} == set(range(36))  # open only where the face joins
    assert points[:, 2].min() < -150
    assert points[:, 1].min() < -120  # there is a neck


def test_the_whole_canonical_head_is_closed_but_for_eyes() -> None:
    head = load_head_model("canonical")
    not_eyes = ~np.isin(head.parts[head.triangles].max(1), (1, 2))
    edges = directed_edges(head.triangles[not_eyes])
    assert max(edges.values()) == 1
    loose = {v for e in edges if (e[1], e[0]) not in edges for v in e}
    assert len(loose) == 32  # the two rings of lids, with the eyeballs behind


def test_second_head_is_what_its_script_builds() -> None:
    head, built = load_head_model("second"), second_head.build()
    for name in ("vertices", "joints", "shape_dirs", "expression_dirs", "joint_dirs"):
        assert np.abs(getattr(head, name) - built[name]).max() < 2e-6
    assert np.array_equal(head.triangles, built["triangles"])


def test_canonical_head_is_what_its_script_builds() -> None:
    mediapipe = pytest.importorskip("mediapipe")
    from duologue.synthesis.canonical_head import build, portrait_landmarks

    topology = mediapipe.solutions.face_mesh
    built = build(portrait_landmarks(), topology.FACEMESH_TESSELATION, topology.FACEMESH_FACE_OVAL)
    head = load_head_model("canonical")
    # another processor's landmark inference differs by a fraction of a pixel
    assert np.abs(head.vertices - built["vertices"]).max() < 5e-4
    assert np.abs(head.expression_dirs - built["expression_dirs"]).max() < 5e-4
    assert np.array_equal(head.triangles, built["triangles"])
