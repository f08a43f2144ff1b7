"""Film a scenario: an mp4 (H.264, AAC) and its exact truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly
from scipy.spatial.transform import Rotation

from ..fitting.head_model import load_head_model
from ..schemas.errors import UsageError
from ..schemas.records import Turn
from .actor import Actor
from .avatar import build_avatar
from .dress import FLIP
from .motion import animate
from .portraits import load_portrait
from .rasterize import Canvas, composite, lay_over, project
from .room import Room
from .scenario import Camera, Scenario, check
from .script import Line, speech_segments, write_script
from .truth import PersonTruth, Truth
from .voices import SAMPLE_RATE, Voice

Array = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]

AUDIO_RATE = 48000  # of the file; speech is made at 16 kHz
VIDEO_NAME = "conversation.mp4"
MUTUAL_ANGLE = np.radians(10.0)


@dataclass
class _View:
    """One camera's part of the frame."""

    x: int
    width: int
    camera: Camera
    focal_px: float
    people: tuple[int, ...]
    background: UInt8
    foreground: UInt8
    foreground_top: int
    bodies: Canvas
    heads: Canvas


def _close_up(scenario: Scenario, who: int, camera: Camera) -> Camera:
    """A webcam before one person, for split screens: straight before the body, at the shot's focal length."""
    person = scenario.people[who]
    position = np.asarray(person.position)
    azimuth = np.radians(person.body_deg * 0.5)
    place = position + 0.85 * np.array([np.sin(azimuth), 0.0, -np.cos(azimuth)]) + np.array([0.0, -0.02, 0.0])
    look_at = position + np.array([0.0, 0.07, 0.0])
    px, py, pz = place.tolist()
    lx, ly, lz = look_at.tolist()
    return replace(camera, position=(px, py, pz), look_at=(lx, ly, lz))


def _views(
    scenario: Scenario, shot: int, rooms: tuple[Room, Room], canvases: list[tuple[Canvas, Canvas]]
) -> list[_View]:
    camera, height = scenario.shots[shot].camera, scenario.height
    if not scenario.split_screen:
        w, f = scenario.width, camera.focal_px
        front = rooms[0].foreground(camera, w, height, f)
        rows = np.flatnonzero(front[..., 3].any(axis=1))
        top = int(rows[0]) if len(rows) else height
        return [_View(0, w, camera, f, (0, 1), rooms[0].background(camera, w, height, f), front, top, *canvases[0])]
    half = scenario.width // 2
    views = []
    for who in (0, 1):
        own = _close_up(scenario, who, camera)
        f = own.focal_px * 0.75
        behind = rooms[who].background(own, half, height, f)
        views.append(_View(half * who, half, own, f, (who,), behind, np.zeros((height, half, 4), np.uint8), height,
                           *canvases[who]))  # fmt: skip
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


def mix_audio(lines: tuple[Line, ...], scenario: Scenario) -> npt.NDArray[np.float32]:
    """[N] mono 16 kHz: both voices, shifted by the A/V offset, with room noise at the asked SNR over the speech."""
    n = round(scenario.seconds * SAMPLE_RATE)
    shift = round(scenario.av_offset_s * SAMPLE_RATE)
    mix = np.zeros(n, dtype=np.float64)
    for line in lines:
        samples = line.utterance.samples
        start = round(line.start_s * SAMPLE_RATE) + shift
        first, last = max(start, 0), min(start + len(samples), n)
        if first < last:
            gain = 0.9 if line.kind == "turn" else 0.6
            mix[first:last] += gain * samples[first - start : last - start]
    if scenario.noise_snr_db is not None:
        rng = np.random.default_rng([scenario.seed, 41])
        white = rng.normal(size=n)
        hum = np.convolve(white, np.exp(-np.arange(64) / 6.0), mode="same")  # a low hiss, as of a room
        speech = mix[np.abs(mix) > 1e-4]
        power = float(np.mean(speech**2)) if len(speech) else 1e-3
        mix += hum * np.sqrt(power / 10 ** (scenario.noise_snr_db / 10.0) / np.mean(hum**2))
    peak = float(np.abs(mix).max()) if n else 0.0
    if peak > 0.97:
        mix *= 0.97 / peak
    return mix.astype(np.float32)


class _Writer:
    """Muxes frames and sound; time zero is the first frame and the first sample."""

    def __init__(self, path: Path, scenario: Scenario) -> None:
        self._out = av.open(str(path), "w", format="mp4")
        rate = Fraction(scenario.fps).limit_denominator(1001)
        self._video = self._out.add_stream("libx264", rate=rate)
        self._video.width, self._video.height, self._video.pix_fmt = scenario.width, scenario.height, "yuv420p"
        self._video.codec_context.thread_count = 1  # more threads change the bytes
        self._video.options = {"crf": str(scenario.crf), "preset": "superfast", "threads": "1"}
        self._video.codec_context.time_base = 1 / rate
        self._audio = self._out.add_stream("aac", rate=AUDIO_RATE, layout="mono") if scenario.audio else None
        if self._audio is not None:
            self._audio.bit_rate = 96000
        self._rate = float(rate)

    def frame(self, image: UInt8, time_s: float) -> None:
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        picture.pts = round(time_s * self._rate)
        self._out.mux(self._video.encode(picture))

    def sound(self, samples16: npt.NDArray[np.float32]) -> None:
        if self._audio is None:
            return
        wave = resample_poly(samples16.astype(np.float64), AUDIO_RATE // SAMPLE_RATE, 1).astype(np.float32)
        wave = np.clip(wave, -1.0, 1.0)
        for start in range(0, len(wave), 1024):
            block = wave[start : start + 1024]
            packet = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="fltp", layout="mono")
            packet.sample_rate, packet.pts, packet.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
            self._out.mux(self._audio.encode(packet))
        self._out.mux(self._audio.encode(None))

    def close(self) -> None:
        self._out.mux(self._video.encode(None))
        self._out.close()


def _turns(lines: tuple[Line, ...], scenario: Scenario) -> tuple[Turn, ...]:
    segments = [(s, e, who) for who in (0, 1) for s, e in speech_segments(lines, who)]
    segments.sort()
    voices: dict[int, str] = {}
    for _, _, who in segments:
        voices.setdefault(who, f"v{len(voices)}")
    shift = scenario.av_offset_s
    return tuple(
        Turn(max(s + shift, 0.0), min(e + shift, scenario.seconds), voices[who], "ab"[who])
        for s, e, who in segments
        if e + shift > 0.0 and s + shift < scenario.seconds
    )


@dataclass(frozen=True)
class _Stage:
    """Everything that is fixed before the first frame."""

    scenario: Scenario
    times: Array
    lines: tuple[Line, ...]
    actors: tuple[Actor, Actor]
    shot_of: npt.NDArray[np.int64]


def _prepare(scenario: Scenario) -> _Stage:
    model = load_head_model(scenario.head_model or "canonical")
    voices = tuple(Voice(p.voice, p.rate, p.pitch) for p in scenario.people)
    lines = write_script(
        scenario.seconds, (voices[0], voices[1]), scenario.seed, scenario.overlaps, scenario.backchannels
    )
    avatars = [build_avatar(load_portrait(p.portrait), model, scenario.seed) for p in scenario.people]
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
    )
    starts = np.array([shot.start_s for shot in scenario.shots])
    shot_of = np.searchsorted(starts, times + 1e-9, side="right") - 1
    return _Stage(scenario, times, lines, (Actor(avatars[0], motions[0]), Actor(avatars[1], motions[1])), shot_of)


def _unit(v: Array) -> Array:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))


def _person_truth(stage: _Stage, who: int, cameras: list[tuple[Camera, float, int, int]]) -> PersonTruth:
    """Truth of one person; ``cameras`` [T]: camera, focal, width of its view, x of its view."""
    actor, scenario = stage.actors[who], stage.scenario
    motion, avatar = actor.motion, actor.avatar
    count = len(stage.times)
    rotation, translation, centre, gaze = (np.zeros((count, 3)) for _ in range(4))
    marks = np.zeros((count, 478, 3), np.float32)
    for t in range(count):
        camera, focal, width, x = cameras[t]
        to_camera = camera.world_to_camera
        rotation[t] = Rotation.from_matrix(to_camera @ motion.rotation[t]).as_rotvec()
        translation[t] = camera.to_camera(motion.root[t])
        centre[t] = camera.to_camera(actor.to_world(actor.joints[3:5].mean(0), t))
        axes = actor.eye_axes(t) @ (to_camera @ motion.rotation[t] @ FLIP).T
        gaze[t] = _unit(axes.mean(0))
        points = actor.landmarks(t, camera, focal, width, scenario.height)
        points[:, 0] += x
        marks[t] = points
    skin = marks[:, :468]
    box = np.concatenate([skin[..., :2].min(1), skin[..., :2].max(1)], axis=-1)
    middle = np.array([project(centre[t], cameras[t][1], cameras[t][2], scenario.height) for t in range(count)])
    widths = np.array([c[2] for c in cameras])
    seen = (middle[:, 0] >= 0) & (middle[:, 0] < widths) & (middle[:, 1] >= 0) & (middle[:, 1] < scenario.height)
    speaking = np.zeros(count, dtype=bool)
    for start, end in speech_segments(stage.lines, who, bridge_s=0.2):
        speaking |= (stage.times >= start) & (stage.times < end)
    faces = actor.faces

    def gap(upper: int, lower: int) -> Array:
        return np.asarray(np.linalg.norm(faces[:, upper] - faces[:, lower], axis=-1))

    person = scenario.people[who]
    return PersonTruth(
        voice=person.voice,
        portrait=person.portrait,
        shape=avatar.shape.astype(np.float32),
        expression=motion.expression.astype(np.float32),
        jaw=motion.jaw.astype(np.float32),
        eyes=motion.eyes.astype(np.float32),
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        head_centre=centre.astype(np.float32),
        gaze=gaze.astype(np.float32),
        looking_at_partner=np.zeros(count, np.float32),
        landmarks=marks,
        box=box.astype(np.float32),
        aperture=np.stack([gap(386, 374), gap(159, 145)], axis=-1).astype(np.float32),
        lips=gap(13, 14).astype(np.float32),
        speaking=speaking,
        visible=seen,
    )


def _truth(stage: _Stage, layout: list[list[_View]]) -> Truth:
    scenario = stage.scenario
    per_person = []
    for who in (0, 1):
        by_shot = [next(v for v in views if who in v.people) for views in layout]
        cameras = [
            (by_shot[s].camera, by_shot[s].focal_px, by_shot[s].width, by_shot[s].x) for s in stage.shot_of.tolist()
        ]
        per_person.append(_person_truth(stage, who, cameras))
    actors = stage.actors
    count = len(stage.times)
    world = [np.stack([k.to_world(k.joints[3:5].mean(0), t) for t in range(count)]) for k in actors]
    looks = []
    for who in (0, 1):
        toward = _unit(world[1 - who] - world[who])
        axes = np.stack([actors[who].eye_axes(t) @ (actors[who].motion.rotation[t] @ FLIP).T for t in range(count)])
        cosine = np.sum(_unit(axes.mean(1)) * toward, axis=-1)
        looks.append(np.arccos(np.clip(cosine, -1.0, 1.0)).astype(np.float32))
    a, b = (replace(p, looking_at_partner=look) for p, look in zip(per_person, looks, strict=True))
    starts = [
        float(stage.times[np.argmax(stage.shot_of == s)]) for s in range(len(layout)) if (stage.shot_of == s).any()
    ]
    model = actors[0].avatar.model
    return Truth(
        times=stage.times,
        fps=scenario.fps,
        width=scenario.width,
        height=scenario.height,
        shots=tuple(zip(starts, [*starts[1:], scenario.seconds], strict=True)),
        shot_index=stage.shot_of.astype(np.int64),
        focal_px=np.array([layout[s][0].focal_px for s in stage.shot_of.tolist()]),
        turns=_turns(stage.lines, scenario),
        distance_m=np.linalg.norm(world[1] - world[0], axis=-1).astype(np.float32),
        mutual_gaze=(looks[0] < MUTUAL_ANGLE) & (looks[1] < MUTUAL_ANGLE),
        av_offset_s=scenario.av_offset_s,
        split_screen=scenario.split_screen,
        head_model_id=model.model_id,
        head_model_sha256=model.sha256,
        head_model_tier=model.tier,
        seed=scenario.seed,
        a=a,
        b=b,
    )


def _frames(stage: _Stage, layout: list[list[_View]]) -> Iterator[UInt8]:
    scenario = stage.scenario
    for t in range(len(stage.times)):
        parts = []
        for view in layout[int(stage.shot_of[t])]:
            part = view.background.copy()
            view.bodies.clear()
            view.heads.clear()
            for who in view.people:
                stage.actors[who].draw(view.bodies, view.heads, t, view.camera, view.focal_px)
            composite(view.bodies, part)
            composite(view.heads, part)
            if view.foreground_top < scenario.height:
                lay_over(part, view.foreground[view.foreground_top :], 0, view.foreground_top)
            parts.append(part)
        image = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        yield _grain(image, scenario.grain, scenario.seed, t)


def render_conversation(
    scenario: Scenario, out_dir: str | Path, progress: Callable[[int, int], None] | None = None
) -> Truth:
    """Film ``scenario`` into ``out_dir``: ``conversation.mp4``, ``truth.npz``, ``truth.json``.

    Args:
        progress: called with (frames done, frames in all) after every frame.

    Raises:
        UsageError: the scenario cannot be filmed, espeak-ng is absent, or ``out_dir`` is not writable.
    """
    check(scenario)
    target = Path(out_dir)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{target}: cannot be made ({error.strerror})") from None
    stage = _prepare(scenario)
    rooms = (Room(scenario.seed), Room(scenario.seed + 1))
    sizes = (scenario.width // 2,) * 2 if scenario.split_screen else (scenario.width,)
    canvases = [(Canvas(w, scenario.height, 1), Canvas(w, scenario.height, 2)) for w in sizes]
    layout = [_views(scenario, s, rooms, canvases) for s in range(len(scenario.shots))]
    truth = _truth(stage, layout)
    writer = _Writer(target / VIDEO_NAME, scenario)
    try:
        writer.sound(mix_audio(stage.lines, scenario))
        for done, image in enumerate(_frames(stage, layout), 1):
            writer.frame(image, float(stage.times[done - 1]))
            if progress is not None:
                progress(done, len(stage.times))
    finally:
        writer.close()
    truth.write(target)
    return truth
