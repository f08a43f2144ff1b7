"""Film a scenario: an mp4 (H.264, AAC) and its exact truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..fitting.load_head import load_head_model
from ..schemas.errors import UsageError
from .actor import Actor
from .avatar import build_avatar
from .film import Plate, camera_track, framed_camera, padding, smear, takes
from .identities import load_identity
from .measure import Stage, Window, truth_of
from .motion import animate
from .props import draw_thing, present, walker
from .rasterize import Canvas, lay_over, layer_of, project
from .room import Room, virtual_picture
from .scenario import Camera, Scenario, check
from .script import write_script
from .soundtrack import mix_audio
from .truth import Truth
from .truth_rows import check_free, write_truth_rows
from .voices import Voice
from .writer import Writer

Array = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]
Layer = tuple[UInt8, int, int]

VIDEO_NAME = "conversation.mp4"
NEAR_SHARE = 0.62  # who stands nearer than this share of the farther person's distance is out of focus


@dataclass
class _View:
    """One camera's part of the frame, through one shot."""

    window: Window
    people: tuple[int, ...]
    behind: Plate
    before: Plate | None
    backdrop: UInt8 | None
    lower: Canvas
    upper: Canvas


def _close_up(scenario: Scenario, who: int, camera: Camera) -> Camera:
    """A webcam before one person, for split screens: straight before the body, at the shot's focal length."""
    person = scenario.people[who]
    position = np.asarray(person.position)
    azimuth = np.radians(person.body_deg * 0.5)
    place = position + 0.85 * np.array([np.sin(azimuth), 0.0, -np.cos(azimuth)]) + np.array([0.0, -0.02, 0.0])
    look_at = position + np.array([0.0, 0.07, 0.0])
    px, py, pz = place.tolist()
    lx, ly, lz = look_at.tolist()
    return replace(camera, position=(px, py, pz), look_at=(lx, ly, lz), focal_px=0.75 * camera.focal_px)


def _windows(scenario: Scenario) -> tuple[Window, Window]:
    """Where the left and the right person's cameras lie in the picture."""
    w, h = scenario.width, scenario.height
    if not scenario.split_screen:
        return Window(0, 0, w, h), Window(0, 0, w, h)
    if scenario.screen == "picture-in-picture":
        inner_w, inner_h = round(0.3 * w / 2) * 2, round(0.34 * h / 2) * 2
        return Window(0, 0, w, h), Window(w - inner_w - w // 40, h - inner_h - w // 40, inner_w, inner_h)
    first = w // 2 if scenario.screen == "halves" else round(w / 6) * 2
    return Window(0, 0, first, h), Window(first, 0, w - first, h)


def _cameras(
    scenario: Scenario, times: Array, windows: tuple[Window, Window]
) -> list[tuple[list[Camera], list[Camera]]]:
    """[shot](left, right)[T]: one camera for both, or each person's own."""
    out = []
    for number, shot in enumerate(scenario.shots):
        camera = framed_camera(scenario, shot)
        if not scenario.split_screen:
            track = camera_track(scenario, number, camera, times)
            out.append((track, track))
            continue
        own = []
        for who in (0, 1):
            one = _close_up(scenario, who, camera)
            one = replace(one, focal_px=one.focal_px * windows[who].height / scenario.height)
            own.append(camera_track(scenario, number, one, times))
        out.append((own[0], own[1]))
    return out


def _views(stage: Stage, shot: int, rooms: tuple[Room, Room], canvases: list[tuple[Canvas, Canvas]]) -> list[_View]:
    scenario, plan = stage.scenario, stage.scenario.shots[shot]
    views = []
    for who, window in enumerate(stage.windows):
        if who and not scenario.split_screen:
            break
        resting = framed_camera(scenario, plan)
        if scenario.split_screen:
            resting = _close_up(scenario, who, resting)
            resting = replace(resting, focal_px=resting.focal_px * window.height / scenario.height)
        px, py = padding(plan, window.width, window.height)
        size = (window.width + 2 * px, window.height + 2 * py)
        behind = Plate(rooms[who].background(resting, *size, resting.focal_px), resting, (px, py))
        before = backdrop = None
        if not scenario.split_screen:
            table = rooms[0].foreground(resting, *size, resting.focal_px)
            before = Plate(table, resting, (px, py)) if table[..., 3].any() else None
        elif scenario.backdrop == "blurred":
            backdrop = cv2.GaussianBlur(behind.picture, (0, 0), 0.03 * window.height).astype(np.uint8)
            backdrop = Plate(backdrop, resting, (px, py)).seen_from(resting, window.width, window.height)
        elif scenario.backdrop == "virtual":
            backdrop = virtual_picture(scenario.seed + who, window.width, window.height)
        people = (who,) if scenario.split_screen else (0, 1)
        views.append(_View(window, people, behind, before, backdrop, *canvases[who]))
    return views


def _grain(image: UInt8, sd: float, seed: int, frame: int) -> UInt8:
    """Sensor noise: a seeded tile, shifted anew in every frame."""
    if sd <= 0.0:
        return image
    height, width = image.shape[:2]
    tile = _grain_tile(sd, seed, height, width)
    dy, dx = (frame * 7919) % 97, (frame * 104729) % 193
    return np.asarray(cv2.add(image, tile[dy : dy + height, dx : dx + width], dtype=cv2.CV_8U), dtype=np.uint8)


_TILES: dict[tuple[float, int, int, int], npt.NDArray[np.int8]] = {}


def _grain_tile(sd: float, seed: int, height: int, width: int) -> npt.NDArray[np.int8]:
    key = (sd, seed, height, width)
    if key not in _TILES:
        _TILES.clear()
        noise = np.random.default_rng([seed, 37]).normal(0.0, sd, (height + 97, width + 193, 1))
        _TILES[key] = np.ascontiguousarray(np.repeat(np.clip(np.round(noise), -60, 60), 3, axis=2).astype(np.int8))
    return _TILES[key]


def _prepare(scenario: Scenario) -> Stage:
    model = load_head_model(scenario.head_model or "canonical")
    voices = tuple(Voice(p.voice, p.rate, p.pitch) for p in scenario.people)
    lines = write_script(
        scenario.seconds, (voices[0], voices[1]), scenario.seed, scenario.overlaps, scenario.backchannels
    )
    avatars = [build_avatar(load_identity(p.portrait), model, scenario.seed) for p in scenario.people]
    times = scenario.frame_times
    motions = animate(
        model,
        (avatars[0].shape, avatars[1].shape),
        (np.asarray(scenario.left.position), np.asarray(scenario.right.position)),
        (scenario.left.body_deg, scenario.right.body_deg),
        lines,
        times,
        scenario.mutual_share,
        scenario.seed,
        (scenario.left.size, scenario.right.size),
    )
    starts = np.array([shot.start_s for shot in scenario.shots])
    shot_of = np.searchsorted(starts, times + 1e-9, side="right") - 1
    windows = _windows(scenario)
    return Stage(
        scenario,
        times,
        lines,
        (Actor(avatars[0], motions[0], scenario.left.size), Actor(avatars[1], motions[1], scenario.right.size)),
        tuple(walker(one, model, times, scenario.seed) for one in scenario.passers_by),
        shot_of,
        tuple(_cameras(scenario, times, windows)),
        windows,
    )


def _covered(layers: list[Layer], points: Array, window: Window) -> float:
    """Share of ``points`` [N, 2] inside the window and under none of ``layers``."""
    if not len(points):
        return 0.0
    x, y = points.astype(int).T
    seen = (x >= 0) & (x < window.width) & (y >= 0) & (y < window.height)
    for layer, x0, y0 in layers:
        inside = (x >= x0) & (y >= y0) & (x < x0 + layer.shape[1]) & (y < y0 + layer.shape[0])
        at = np.flatnonzero(seen & inside)
        seen[at] &= layer[y[at] - y0, x[at] - x0, 3] < 128
    return float(seen.mean())


class _Filming:
    """Draws the frames of a stage, and notes what could be seen of each face."""

    def __init__(self, stage: Stage) -> None:
        scenario = stage.scenario
        self.stage = stage
        first = Room(scenario.seed)
        rooms = (first, Room(scenario.seed + 1, unlike=first))
        canvases = [(Canvas(w.width, w.height, 2), Canvas(w.width, w.height, 2)) for w in stage.windows]
        self._layout = [_views(stage, s, rooms, canvases) for s in range(len(scenario.shots))]
        self.shares = np.zeros((2, len(stage.times)))
        self.walker_shares = np.zeros((len(stage.walkers), len(stage.times)))

    def frame(self, t: int) -> UInt8:
        """[H, W, 3] RGB of frame ``t``."""
        stage, scenario = self.stage, self.stage.scenario
        current = int(stage.shot_of[t])
        found = takes(scenario, current, float(stage.times[t]))
        pictures = [self._shot(shot, t, shot == current) for shot, _ in found]
        image = pictures[0]
        if len(found) == 2:
            image = cv2.addWeighted(pictures[0], found[0][1], pictures[1], found[1][1], 0.0).astype(np.uint8)
        elif found[0][1] < 1.0:
            image = cv2.convertScaleAbs(image, alpha=found[0][1]).astype(np.uint8)
        return _grain(image, scenario.grain, scenario.seed, t)

    def _shot(self, shot: int, t: int, noted: bool) -> UInt8:
        scenario = self.stage.scenario
        image = np.zeros((scenario.height, scenario.width, 3), np.uint8)
        for view in self._layout[shot]:
            w = view.window
            image[w.y : w.y + w.height, w.x : w.x + w.width] = self._view(view, shot, t, noted)
        blur = scenario.shots[shot].defocus_px
        return cv2.GaussianBlur(image, (0, 0), blur).astype(np.uint8) if blur > 0.0 else image

    def _view(self, view: _View, shot: int, t: int, noted: bool) -> UInt8:
        stage, scenario, w = self.stage, self.stage.scenario, view.window
        now = float(stage.times[t])
        cameras = stage.cameras[shot][view.people[0]]
        camera, earlier = cameras[t], cameras[max(t - 1, 0)]
        room = view.behind.seen_from(camera, w.width, w.height)
        image = room if view.backdrop is None else view.backdrop.copy()
        cast: list[tuple[float, int, Actor]] = [
            (float(camera.to_camera(stage.actors[who].centre(t))[2]), who, stage.actors[who]) for who in view.people
        ]
        for number, (plan, actor) in enumerate(zip(scenario.passers_by, stage.walkers, strict=True)):
            if present(plan, now):
                cast.append((float(camera.to_camera(actor.centre(t))[2]), 2 + number, actor))
        cast.sort(key=lambda one: -one[0])
        focus = max(depth for depth, who, _ in cast if who < 2)
        drawn: list[tuple[int, list[Layer]]] = []
        for depth, who, actor in cast:
            if depth < -0.5:
                continue
            layers = self._actor_layers(view, actor, t, camera, earlier, depth < NEAR_SHARE * focus)
            if view.backdrop is not None:
                self._ragged(image, room, layers, t)
            drawn.append((who, layers))
            for one in scenario.occlusions if who < 2 else ():
                if one.who == ("left", "right")[who] and present(one, now):
                    view.upper.clear()
                    skin = actor.avatar.skin_color
                    draw_thing(view.upper, one, actor.centre(t), skin, camera, now)
                    thing = layer_of(view.upper)
                    if thing is not None:
                        drawn.append((-1, [thing]))
        if view.before is not None:
            drawn.append((-1, [(view.before.seen_from(camera, w.width, w.height), 0, 0)]))
        for _, layers in drawn:
            for layer in layers:
                lay_over(image, *layer)
        if noted:
            self._note(view, drawn, t, camera)
        return image

    def _note(self, view: _View, drawn: list[tuple[int, list[Layer]]], t: int, camera: Camera) -> None:
        """What later layers leave of each face."""
        for place, (who, _) in enumerate(drawn):
            if who < 0:
                continue
            actor = self.stage.actors[who] if who < 2 else self.stage.walkers[who - 2]
            points = actor.front_points(t, camera, view.window.width, view.window.height)
            above = [layer for _, layers in drawn[place + 1 :] for layer in layers]
            share = _covered(above, points, view.window) * min(1.0, len(points) / 100.0)
            if who < 2:
                self.shares[who, t] = share
            else:
                self.walker_shares[who - 2, t] = share

    def _actor_layers(
        self, view: _View, actor: Actor, t: int, camera: Camera, earlier: Camera, near: bool
    ) -> list[Layer]:
        """Clothes, then head, blurred as the lens and the shutter do."""
        view.lower.clear()
        view.upper.clear()
        actor.draw(view.lower, view.upper, t, camera, camera.focal_px)
        shift = np.zeros(2)
        if self.stage.scenario.shutter > 0.0 and t:
            w, h = view.window.width, view.window.height
            now = project(camera.to_camera(actor.centre(t)), camera.focal_px, w, h)
            before = project(earlier.to_camera(actor.centre(t - 1)), earlier.focal_px, w, h)
            if min(now[2], before[2]) > 0.05:
                shift = self.stage.scenario.shutter * (now - before)[:2]
        soft = 0.0055 * view.window.height if near else 0.0
        margin = int(np.ceil(min(np.abs(shift).max(), 40.0) + 3.0 * soft))
        out = []
        for canvas in (view.lower, view.upper):
            found = layer_of(canvas, margin)
            if found is None:
                continue
            layer, x, y = found
            if soft > 0.0:
                layer = cv2.GaussianBlur(layer, (0, 0), soft).astype(np.uint8)
            out.append((smear(layer, shift), x, y))
        return out

    def _ragged(self, image: UInt8, room: UInt8, layers: list[Layer], t: int) -> None:
        """The rim of the real room that a segmentation leaves around a person, restless from frame to frame."""
        height, width = image.shape[:2]
        mask = np.zeros((height, width), np.uint8)
        for layer, x, y in layers:
            part = mask[y : y + layer.shape[0], x : x + layer.shape[1]]
            np.maximum(part, layer[..., 3], out=part)
        rng = np.random.default_rng([self.stage.scenario.seed, 61, t // 2])
        wobble = cv2.resize(
            rng.normal(size=(12, 16)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        spread = cv2.GaussianBlur(mask, (0, 0), 0.011 * height).astype(np.float32) / 255.0
        rim = np.clip((spread + 0.10 * wobble - 0.22) / 0.2, 0.0, 1.0)[..., None]
        rim[mask == 0] *= (spread[mask == 0] > 0.02)[:, None]
        image[:] = (image + rim * (room.astype(np.float32) - image)).astype(np.uint8)


def render_conversation(
    scenario: Scenario, out_dir: str | Path, progress: Callable[[int, int], None] | None = None
) -> Truth:
    """Film ``scenario`` into ``out_dir``: ``conversation.mp4``, ``truth.npz``, ``truth.json``, and as rows ``truth/``.

    Args:
        progress: called with (frames done, frames in all) after every frame.

    Raises:
        UsageError: the scenario cannot be filmed, espeak-ng is absent, or ``out_dir`` is not writable or
            holds a ``truth/`` of something else.
    """
    check(scenario)
    target = Path(out_dir)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{target}: cannot be made ({error.strerror})") from None
    check_free(target)
    stage = _prepare(scenario)
    filming = _Filming(stage)
    sound = mix_audio(stage.lines, scenario)
    writer = Writer(target / VIDEO_NAME, scenario)
    try:
        writer.sound(sound)
        for t in range(len(stage.times)):
            writer.frame(filming.frame(t), float(stage.times[t]))
            if progress is not None:
                progress(t + 1, len(stage.times))
    finally:
        writer.close()
    truth = truth_of(stage, filming.shares, filming.walker_shares)
    truth.write(target)
    names = stage.actors[0].avatar.model.expression_names
    write_truth_rows(target, VIDEO_NAME, truth, names, sound if scenario.audio else None, scenario)
    return truth
