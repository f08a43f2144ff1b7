"""The camera's part of a film: framings, zoom and hand-held motion, transitions, shutter, and the room behind it all.

A hand-held camera turns about its own centre, so one picture of the room, warped by an exact homography, serves a
whole shot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from .motion import RATE, smooth_noise
from .scenario import Camera, Scenario, ShotPlan
from .truth import Transition

Array = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]

MARGIN = 0.16  # of the picture's size on every side, for a camera that moves


def framed_camera(scenario: Scenario, shot: ShotPlan) -> Camera:
    """The camera of a shot before it moves; focal lengths are meant for a picture 1280 wide where none is given."""
    if shot.camera is not None:
        return shot.camera
    if shot.framing == "two-shot":
        return replace(Camera(), focal_px=Camera().focal_px * scenario.width / 1280.0)
    kind, side = shot.framing.split("-")
    who = 0 if side == "left" else 1
    own, other = (np.asarray(scenario.people[k].position) for k in (who, 1 - who))
    if kind == "close":
        azimuth = np.radians(scenario.people[who].body_deg * 0.7)
        place = own + 0.85 * np.array([np.sin(azimuth), 0.0, -np.cos(azimuth)])
        look, focal = own + np.array([0.0, 0.05, 0.0]), 1250.0
    else:
        toward = (other - own) / np.linalg.norm(other - own)
        place = own - 0.78 * toward + np.array([0.0, -0.12, -0.20])
        look, focal = other + np.array([0.0, 0.06, 0.0]) - 0.12 * toward, 1350.0
    (px, py, pz), (lx, ly, lz) = place.tolist(), look.tolist()
    return Camera((px, py, pz), (lx, ly, lz), focal * scenario.width / 1280.0)


def camera_track(scenario: Scenario, number: int, camera: Camera, times: Array) -> list[Camera]:
    """The camera of shot ``number`` at each of ``times`` (seconds), zoomed and shaken; seeded."""
    shot = scenario.shots[number]
    if shot.zoom == 1.0 and shot.handheld_deg == 0.0:
        return [camera] * len(times)
    ends = [s.start_s for s in scenario.shots[number + 1 :]] or [scenario.seconds]
    share = np.clip((times - shot.start_s) / max(ends[0] - shot.start_s, 1e-6), 0.0, 1.0)
    ease = share * share * (3.0 - 2.0 * share)
    focal = camera.focal_px * shot.zoom**ease
    n = int(np.ceil(scenario.seconds * RATE)) + 2
    rng = np.random.default_rng([scenario.seed, 47, number])
    sd = shot.handheld_deg
    slow = smooth_noise(rng, n, 0.6, np.array([0.9, 0.9, 0.3]) * sd)
    fast = smooth_noise(rng, n, 0.09, np.array([0.3, 0.3, 0.1]) * sd)
    clock = np.arange(n) / RATE
    pan, tilt, roll = (np.interp(times, clock, (slow + fast)[:, k]) for k in range(3))
    limit = np.degrees(np.arctan(0.8 * MARGIN * scenario.height / camera.focal_px))
    pan, tilt = np.clip(pan, -limit, limit), np.clip(tilt, -limit, limit)
    return [
        replace(camera, focal_px=float(f), turn_deg=(float(p), float(q)), roll_deg=camera.roll_deg + float(r))
        for f, p, q, r in zip(focal, pan, tilt, roll, strict=True)
    ]


@dataclass(frozen=True)
class Plate:
    """A picture of the room [H', W', C] from a resting camera, larger than the frame by ``pad`` pixels on each side."""

    picture: UInt8
    camera: Camera
    pad: tuple[int, int]

    def seen_from(self, camera: Camera, width: int, height: int) -> UInt8:
        """[H, W, C] as ``camera`` sees it, which stands where the plate's does."""
        px, py = self.pad
        if camera == self.camera:
            return self.picture[py : py + height, px : px + width].copy()

        def inner(focal: float, cx: float, cy: float) -> Array:
            return np.array([[focal, 0.0, cx - 0.5], [0.0, focal, cy - 0.5], [0.0, 0.0, 1.0]])

        from_plate = np.linalg.inv(inner(self.camera.focal_px, width / 2 + px, height / 2 + py))
        turn = camera.world_to_camera @ self.camera.world_to_camera.T
        matrix = inner(camera.focal_px, width / 2, height / 2) @ turn @ from_plate
        return np.asarray(
            cv2.warpPerspective(self.picture, matrix, (width, height), flags=cv2.INTER_LINEAR,
                                borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)  # fmt: skip


def padding(shot: ShotPlan, width: int, height: int) -> tuple[int, int]:
    """Pixels on each side that a shot's plate needs."""
    if shot.zoom == 1.0 and shot.handheld_deg == 0.0:
        return 0, 0
    more = MARGIN + max(0.0, 0.5 / min(shot.zoom, 1.0) - 0.5)
    return int(more * width), int(more * height)


def transitions(scenario: Scenario, first_frames: tuple[float, ...]) -> tuple[Transition, ...]:
    """Every transition of the film; cuts at the time of the first frame after them."""
    out = []
    for number, shot in enumerate(scenario.shots):
        if shot.transition == "cut":
            if number:
                out.append(Transition("cut", first_frames[number], first_frames[number], number))
            continue
        half = 0.5 * shot.transition_s
        start = shot.start_s - half if number else 0.0
        out.append(Transition(shot.transition, max(start, 0.0), min(shot.start_s + half, scenario.seconds), number))
    return tuple(out)


def takes(scenario: Scenario, shot_of: int, time_s: float) -> list[tuple[int, float]]:
    """(shot, weight) that make the picture at ``time_s``; weights below 1 in sum let black through."""
    for number, shot in enumerate(scenario.shots):
        half = 0.5 * shot.transition_s
        away = time_s - shot.start_s
        if shot.transition == "dissolve" and number and abs(away) < half:
            share = 0.5 + 0.5 * away / half
            return [(number - 1, 1.0 - share), (number, share)]
        if shot.transition == "fade" and abs(away) < half and (number or away >= 0.0):
            return [(shot_of, abs(away) / half)]
    return [(shot_of, 1.0)]


def smear(layer: UInt8, shift: Array) -> UInt8:
    """Motion blur: ``layer`` averaged along ``shift`` pixels (x, y) about its middle."""
    length = float(np.hypot(*shift))
    if length < 1.0:
        return layer
    reach = min(int(np.ceil(length / 2)), 40)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    steps = np.linspace(-0.5, 0.5, 4 * reach + 1)
    bound = min(1.0, 80.0 / length)
    for s in steps:
        x, y = reach + bound * s * shift[0], reach + bound * s * shift[1]
        kernel[round(float(y)), round(float(x))] += 1.0
    return np.asarray(cv2.filter2D(layer, -1, kernel / kernel.sum(), borderType=cv2.BORDER_CONSTANT), dtype=np.uint8)
