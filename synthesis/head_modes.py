"""Identity and expression modes of the analytic heads, built from named anatomical moves on FaceMesh's vertices.

Millimetres; origin midway between the eyeballs' centres, +x the subject's left, +y up, +z out of the face. Vertex
numbers are FaceMesh's; those written here lie on the subject's right (-x) and are mirrored for the left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from .head_geometry import SkinMesh

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

UPPER_LID, LOWER_LID = (246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155)
CANTHI = (33, 133)
INNER_UPPER, INNER_LOWER = (13, 82, 81, 80, 191), (14, 87, 178, 88, 95)
MID_UPPER, MID_LOWER = (12, 38, 41, 42, 183), (15, 86, 179, 89, 96)
OUT_UPPER, OUT_LOWER = (11, 72, 73, 74, 184), (16, 85, 180, 90, 77)
EDGE_UPPER, EDGE_LOWER = (0, 37, 39, 40, 185), (17, 84, 181, 91, 146)
CORNER = (61, 76, 62, 78)  # outer to inner
BROW_TOP, BROW_BOTTOM = (107, 66, 105, 63, 70), (55, 65, 52, 53, 46)  # inner to outer
LID_CLEARANCE = 0.9  # mm between the eyeball and the inside of the lids


def smoothstep(value: Array, low: float, high: float) -> Array:
    """0 below ``low``, 1 above ``high``, smooth between (also for low > high)."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def identity_modes(skin: Array, eyes: Array) -> dict[str, Callable[[Array], Array]]:
    """Smooth displacement fields of space, one standard deviation each: name -> f(points [N, 3]) -> [N, 3] mm.

    Args:
        skin: [468, 3] neutral vertices. eyes: [2, 3] eyeball centres, left first.
    """

    def bump(p: Array, centre: npt.ArrayLike, radii: npt.ArrayLike) -> Array:
        return np.asarray(np.exp(-0.5 * (((p - np.asarray(centre)) / np.asarray(radii)) ** 2).sum(1)))

    def along(axis: int, amount: Array) -> Array:
        out = np.zeros((len(amount), 3))
        out[:, axis] = amount
        return out

    def side(p: Array, width: float = 8.0) -> Array:
        return np.tanh(p[:, 0] / width)

    def both(p: Array, centre: npt.ArrayLike, radii: npt.ArrayLike) -> Array:
        c = np.asarray(centre)
        return bump(p, c, radii) + bump(p, c * [-1, 1, 1], radii)

    v = skin
    nose_tip, nasion, chin, mouth = v[4], v[168], v[152], 0.5 * (v[13] + v[14])
    front = -60.0  # the face proper lies in front of this z; the back of the head follows less
    ramp_down = (v[2, 1], v[152, 1])
    alar, cheekbone, jaw_corner = np.abs(v[64]) * [-1, 0, 0] + v[64] * [0, 1, 1], v[50], v[172]
    return {
        "width": lambda p: along(0, 0.040 * p[:, 0]),
        "height": lambda p: along(1, 0.045 * (p[:, 1] + 30)),
        "depth": lambda p: along(2, 0.055 * (p[:, 2] + 40)),
        "lowerFaceLength": lambda p: along(
            1, -3.6 * smoothstep(p[:, 1], *ramp_down) * smoothstep(p[:, 2], -110, front)
        ),
        "foreheadHeight": lambda p: along(1, 3.2 * smoothstep(p[:, 1], 8, v[10, 1])),
        "foreheadSlope": lambda p: along(2, -2.6 * smoothstep(p[:, 1], 12, v[10, 1] + 10)),
        "jawWidth": lambda p: along(0, 3.0 * side(p, 25) * bump(p, jaw_corner * [0, 1, 1], (1e3, 26, 34))),
        "cheekboneWidth": lambda p: along(0, 2.4 * side(p, 25) * bump(p, [0, -18, -20], (1e3, 24, 40))),
        "templeWidth": lambda p: along(0, 2.2 * side(p, 25) * bump(p, [0, 26, -20], (1e3, 22, 40))),
        "chinProjection": lambda p: along(2, 3.0 * bump(p, chin, (26, 24, 30))),
        "chinLength": lambda p: along(1, -2.4 * bump(p, chin, (30, 18, 30))),
        "chinWidth": lambda p: along(0, 2.0 * side(p, 10) * bump(p, chin, (30, 20, 30))),
        "profileConvexity": lambda p: along(2, 2.4 * bump(p, [0, nose_tip[1] - 8, 10], (45, 30, 60))),
        "noseProjection": lambda p: along(2, 2.2 * bump(p, nose_tip, (14, 15, 22))),
        "noseLength": lambda p: along(1, -2.2 * bump(p, nose_tip, (15, 16, 25))),
        "noseWidth": lambda p: along(0, 1.6 * side(p, 5) * both(p, alar, (9, 12, 16))),
        "noseBridge": lambda p: along(2, 1.8 * bump(p, (nasion + v[197]) / 2, (9, 15, 18))),
        "browRidge": lambda p: along(2, 1.6 * both(p, v[66], (22, 8, 25))),
        "browHeight": lambda p: along(1, 1.8 * both(p, v[105], (22, 10, 30))),
        "browTilt": lambda p: along(1, 1.6 * (both(p, v[70], (12, 10, 25)) - both(p, v[107], (12, 10, 25)))),
        "eyeSpacing": lambda p: along(0, 1.0 * side(p, 6) * both(p, eyes[1], (16, 14, 25))),
        "eyeHeight": lambda p: along(1, 1.3 * both(p, eyes[1], (20, 12, 25))),
        "eyeDepth": lambda p: along(2, 1.4 * both(p, eyes[1], (18, 13, 30))),
        "eyeSlant": lambda p: along(1, 1.2 * both(p, v[33], (10, 12, 20))),
        "cheekFullness": lambda p: along(2, 2.2 * both(p, cheekbone, (18, 18, 40))),
        "lowerCheekFullness": lambda p: along(0, 2.4 * side(p, 12) * both(p, v[214], (20, 20, 40))),
        "mouthHeight": lambda p: along(1, 1.8 * bump(p, mouth, (34, 14, 30))),
        "mouthWidth": lambda p: along(0, 1.2 * side(p, 12) * both(p, v[61], (12, 12, 25))),
        "mouthProjection": lambda p: along(2, 1.8 * bump(p, mouth, (26, 14, 25))),
        "lipFullness": lambda p: along(1, 1.1 * (bump(p, v[0], (18, 5, 15)) - bump(p, v[17], (18, 6, 15)))),
        "noseDeviation": lambda p: along(0, 1.2 * bump(p, nose_tip, (20, 20, 30))),
        "jawDeviation": lambda p: along(0, 2.0 * smoothstep(p[:, 1], *ramp_down) * smoothstep(p[:, 2], -110, front)),
    }


class ExpressionBuilder:
    """Expression modes at coefficient 1, ARKit names; the jaw's opening and swing are the jaw joint's."""

    def __init__(self, skin: Array, mesh: SkinMesh, mirror: Index, eyes: Array, eye_radius: float) -> None:
        self.skin, self.mesh, self.mirror = skin, mesh, mirror
        self.right_eye, self.eye_radius = eyes[1], eye_radius

    def mirrored(self, field: Array) -> Array:
        return np.asarray(field[self.mirror] * [-1.0, 1.0, 1.0])

    def build(self) -> dict[str, Array]:
        """name -> displacement [468, 3] mm."""
        modes: dict[str, Array] = {}
        for name, field in (
            ("eyeBlink", self.blink(1.0)),
            ("eyeWide", self.lids(upper=1.8, lower=-0.5)),
            ("eyeSquint", self.lids(upper=-0.6, lower=2.4, cheek=1.5)),
            ("browDown", self.brow([(1.2, -4.5, 0.5), (0.8, -4.5, 0.4), (0.3, -3.5, 0), (0, -1.8, 0), (0, -0.8, 0)])),
            ("browOuterUp", self.brow([(0, 0.3, 0), (0, 1.8, 0), (0, 4.5, -0.5), (0, 6, -1), (0, 5, -1)])),
            (
                "noseSneer",
                self.one_side(
                    {
                        64: (0.4, 3.5, -0.4),
                        98: (0, 2.8, 0),
                        48: (0, 3.2, 0),
                        129: (0, 3.4, 0),
                        36: (0, 3.6, 1.0),
                        40: (0, 2.2, 0.3),
                        55: (0.4, -1.6, 0),
                    },
                    24,
                ),
            ),
            ("mouthSmile", self.lips(corner=(-7.0, 7.5, -4.5), middle=(0, 0.6, -1.2), cheek=(-2.0, 5.0, 3.2))),
            ("mouthFrown", self.lips(corner=(-0.8, -4.5, -0.8), middle=(0, 0.3, 0), cheek=(0, -1, 0))),
            ("mouthStretch", self.lips(corner=(-4.5, -2.0, -2.5), middle=(0, -0.2, -0.5), cheek=(-1, -0.5, 0))),
            ("mouthPress", self.press()),
            ("mouthUpperUp", self.lip_edge(upper=3.4, lower=0.0)),
            ("mouthLowerDown", self.lip_edge(upper=0.0, lower=-4.2)),
        ):
            modes[f"{name}Left"] = self.mirrored(field)
            modes[f"{name}Right"] = field
        centre = {
            107: (1.2, 6.0, 0),
            66: (0.6, 3.6, 0),
            55: (1.0, 5.0, 0),
            65: (0.5, 3.0, 0),
            105: (0, 1, 0),
            9: (0, 3, 0.3),
        }
        modes["browInnerUp"] = self.two_sided(centre, 30)
        modes["cheekPuff"] = self.two_sided(
            {
                207: (-8, 0, 6),
                187: (-8, 0, 5),
                214: (-7, 0, 4),
                205: (-3, 0, 4),
                61: (0.6, 0, 0.6),
                13: (0, 0, 0.5),
                14: (0, 0, 0.5),
            },
            34,
        )
        modes["mouthPucker"] = self.lips(corner=(7.0, 0.0, 4.0), middle=(0, 0, 5.0), cheek=(1.8, 0, 0.4), sides=2)
        modes["mouthFunnel"] = self.funnel()
        modes["mouthLeft"] = self.sideways()
        modes["mouthClose"] = self.close()
        modes["mouthRollUpper"] = self.roll(upper=True)
        modes["mouthRollLower"] = self.roll(upper=False)
        modes["mouthShrugUpper"] = self.two_sided(
            {**dict.fromkeys((0, 37, 39, 13, 82, 81, 12, 11), (0, 3.0, 1.5)), 61: (0, 0, 0), 2: (0, 0.5, 0)}, 22
        )
        modes["mouthShrugLower"] = self.two_sided(
            {
                **dict.fromkeys((17, 84, 181, 14, 87, 178, 15, 16), (0, 3.6, 2.0)),
                61: (0, 0, 0),
                200: (0, 3.0, 0.5),
                199: (0, 2.5, 0),
                18: (0, 3.4, 1.0),
            },
            24,
        )
        return modes

    # fields
    # -------------------------------------------------------------------------------------------------------------

    def one_side(self, handles: Mapping[int, npt.ArrayLike], radius: float) -> Array:
        return self.mesh.spread(handles, radius)

    def two_sided(self, handles: Mapping[int, npt.ArrayLike], radius: float) -> Array:
        """Handles on the right, mirrored; on the midline x is zeroed."""
        full: dict[int, npt.ArrayLike] = {}
        for index, move in handles.items():
            m = np.asarray(move, dtype=np.float64)
            twin = int(self.mirror[index])
            full[index] = m * [0, 1, 1] if twin == index else m
            if twin != index:
                full[twin] = m * [-1, 1, 1]
        return self.mesh.spread(full, radius)

    def onto_lid_sphere(self, points: Array, extra: float = 0.0) -> Array:
        """Push points that would touch the right eyeball out to its clearance."""
        ray = points - self.right_eye
        distance = np.linalg.norm(ray, axis=-1, keepdims=True)
        return np.asarray(self.right_eye + ray * np.maximum(1.0, (self.eye_radius + LID_CLEARANCE + extra) / distance))

    def blink(self, amount: float) -> Array:
        """Upper lid comes down, lower lid rises a fifth of the way, both along the eyeball, and they meet."""
        upper, lower = self.skin[list(UPPER_LID)], self.skin[list(LOWER_LID)]
        meet = self.onto_lid_sphere(0.22 * upper + 0.78 * lower, 0.5)
        handles: dict[int, npt.ArrayLike] = {c: np.zeros(3) for c in CANTHI}
        for i, u, low, m in zip(range(7), UPPER_LID, LOWER_LID, meet, strict=True):
            handles[u] = amount * (m - upper[i])
            handles[low] = amount * (m - lower[i])
        handles |= {i: np.zeros(3) for i in (*BROW_BOTTOM, 117, 118, 119, 120, 101, 50, 6)}
        field = self.mesh.spread(handles, 22)
        return self.kept_off_eye(field, handles)

    def kept_off_eye(self, field: Array, handles: dict[int, npt.ArrayLike]) -> Array:
        moved = self.skin + field
        fixed = self.onto_lid_sphere(moved) - self.skin
        near = (np.abs(fixed - field).max(1) > 1e-9) & ~np.isin(np.arange(len(field)), list(handles))
        field[near] = fixed[near]
        return field

    def lids(self, upper: float, lower: float, cheek: float = 0.0) -> Array:
        """Lids move up (+) or down by mm at their middle, less toward the canthi."""
        profile = np.array([0.35, 0.65, 0.9, 1.0, 0.9, 0.65, 0.35])
        handles: dict[int, npt.ArrayLike] = {c: np.zeros(3) for c in CANTHI}
        for ring, amount in ((UPPER_LID, upper), (LOWER_LID, lower)):
            old = self.skin[list(ring)]
            new = self.onto_lid_sphere(old + np.outer(profile * amount, [0, 1.0, 0]))
            handles |= {i: n - o for i, n, o in zip(ring, new, old, strict=True)}
        handles |= {i: np.zeros(3) for i in (*BROW_BOTTOM, 6)}
        handles |= dict.fromkeys((117, 118, 101, 50), (0, cheek, 0.4 * cheek))
        return self.kept_off_eye(self.mesh.spread(handles, 22), handles)

    def brow(self, moves: list[tuple[float, float, float]]) -> Array:
        handles: dict[int, npt.ArrayLike] = {}
        for i, j, move in zip(BROW_TOP, BROW_BOTTOM, moves, strict=True):
            handles[i], handles[j] = move, np.multiply(move, 0.85)
        handles |= {i: np.zeros(3) for i in (*UPPER_LID, *CANTHI, 336, 285)}
        return self.mesh.spread(handles, 26)

    def lips(
        self,
        corner: tuple[float, float, float],
        middle: tuple[float, float, float],
        cheek: tuple[float, float, float],
        sides: int = 1,
    ) -> Array:
        """The right mouth corner pulls; upper and lower lip follow it together, so that the mouth stays closed."""
        handles: dict[int, npt.ArrayLike] = dict.fromkeys(CORNER, corner)
        c, m = np.array(corner), np.array(middle)
        rows = (INNER_UPPER, INNER_LOWER, MID_UPPER, MID_LOWER, OUT_UPPER, OUT_LOWER, EDGE_UPPER, EDGE_LOWER)
        for row in rows:
            for k, index in enumerate(row):
                s = (k / 4.6) ** 1.5
                handles[index] = (1 - s) * m * ([0, 1, 1] if k == 0 else [1, 1, 1]) + s * c
        handles[50], handles[205] = cheek, cheek
        if sides == 2:
            return self.two_sided(handles, 34)
        # the far half moves a little with the middle and its own corner stays
        for row in rows:
            for k, index in enumerate(row[1:], start=1):
                handles[int(self.mirror[index])] = (1 - k / 4.6) ** 2 * m
        handles |= {int(self.mirror[i]): np.zeros(3) for i in CORNER}
        handles |= {2: np.zeros(3), 200: np.zeros(3), 152: np.zeros(3)}
        return self.mesh.spread(handles, 34)

    def press(self) -> Array:
        handles: dict[int, npt.ArrayLike] = {}
        for row, sign in ((EDGE_UPPER, -1.0), (OUT_UPPER, -0.8), (EDGE_LOWER, 1.0), (OUT_LOWER, 0.8)):
            handles |= dict.fromkeys(row, (0, 1.3 * sign, -1.2))
        handles |= dict.fromkeys((*INNER_UPPER, *INNER_LOWER, *MID_UPPER, *MID_LOWER), (0.0, 0.0, -1.4))
        handles |= dict.fromkeys(CORNER, (-0.6, 0.4, -0.8))
        return self.mesh.spread(handles, 20)

    def lip_edge(self, upper: float, lower: float) -> Array:
        """One lip's right half moves up or down; the mouth opens on that side."""
        handles: dict[int, npt.ArrayLike] = dict.fromkeys(CORNER, (0.0, 0.0, 0.0))
        fall = np.array([0.75, 1.0, 1.0, 0.85, 0.45])
        for rows, amount in (
            ((INNER_UPPER, MID_UPPER, OUT_UPPER, EDGE_UPPER), upper),
            ((INNER_LOWER, MID_LOWER, OUT_LOWER, EDGE_LOWER), lower),
        ):
            for row in rows:
                for k, index in enumerate(row):
                    handles[index] = (0, amount * fall[k], 0.15 * abs(amount) * fall[k])
                    twin = int(self.mirror[index])
                    if twin != index:
                        handles[twin] = np.multiply(handles[index], max(0.0, 0.45 - 0.2 * k))
        handles |= {int(self.mirror[i]): np.zeros(3) for i in CORNER}
        handles |= {2: (0, 0.2 * upper, 0), 200: (0, 0.25 * lower, 0)}
        if upper:
            handles |= {64: (0, 0.25 * upper, 0), 205: (0, 0.5 * upper, 0.5)}
        return self.mesh.spread(handles, 24)

    def funnel(self) -> Array:
        handles: dict[int, npt.ArrayLike] = dict.fromkeys(CORNER, (6.0, 0.0, 3.0))
        for rows, lift in (
            ((INNER_UPPER, MID_UPPER, OUT_UPPER, EDGE_UPPER), 3.2),
            ((INNER_LOWER, MID_LOWER, OUT_LOWER, EDGE_LOWER), -3.6),
        ):
            for row in rows:
                for k, index in enumerate(row):
                    s = (k / 4.6) ** 1.5
                    handles[index] = (6.0 * s, lift * (1 - s), 5.0 * (1 - s) + 3.0 * s)
        return self.two_sided(handles, 30)

    def sideways(self) -> Array:
        rows = (INNER_UPPER, INNER_LOWER, MID_UPPER, MID_LOWER, OUT_UPPER, OUT_LOWER, EDGE_UPPER, EDGE_LOWER, CORNER)
        right = {i for row in rows for i in row}
        handles: dict[int, npt.ArrayLike] = dict.fromkeys(right | {int(self.mirror[i]) for i in right}, (5.5, 0.0, 0.0))
        handles |= {2: (0.8, 0, 0), 200: (1.0, 0, 0)}
        field = self.mesh.spread(handles, 32)
        # the lips slide around the teeth: the side that moves outward also moves back
        field[:, 2] -= 0.045 * field[:, 0] * np.tanh(self.skin[:, 0] / 12.0) * 6.0
        return field

    def close(self) -> Array:
        """Lips meet while the jaw is open: undoes about 12 mm of opening at the lips only."""
        handles: dict[int, npt.ArrayLike] = dict.fromkeys(CORNER, (0.0, 0.0, 0.0))
        fall = np.array([1.0, 0.97, 0.86, 0.66, 0.36])
        for row in (INNER_LOWER, MID_LOWER, OUT_LOWER, EDGE_LOWER):
            handles |= {i: (0, 8.0 * f, 2.0 * f) for i, f in zip(row, fall, strict=True)}
        for row in (INNER_UPPER, MID_UPPER, OUT_UPPER, EDGE_UPPER):
            handles |= {i: (0, -2.5 * f, 0) for i, f in zip(row, fall, strict=True)}
        handles |= {2: (0, 0, 0), 200: (0, 1.5, 0.3)}
        return self.two_sided(handles, 24)

    def roll(self, upper: bool) -> Array:
        """A lip rolls inward over the teeth: its red thins."""
        rows = (
            (INNER_UPPER, MID_UPPER, OUT_UPPER, EDGE_UPPER)
            if upper
            else (INNER_LOWER, MID_LOWER, OUT_LOWER, EDGE_LOWER)
        )
        sign = -1.0 if upper else 1.0
        handles: dict[int, npt.ArrayLike] = {}
        for row, down, back in zip(rows, (0.2, 0.9, 1.6, 2.2), (-3.0, -2.8, -2.2, -1.2), strict=True):
            for k, index in enumerate(row):
                f = 1.0 - (k / 5.0) ** 2
                handles[index] = (0, sign * down * f, back * f)
        handles |= dict.fromkeys(CORNER, (0.0, 0.0, 0.0))
        return self.two_sided(handles, 18)
