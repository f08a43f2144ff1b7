"""What is filmed: two people, a room, cameras and cuts. A scenario is a small YAML file or a :class:`Scenario`.

World frame: metres, x right, y down, z away from the audience; the two heads are near the origin, eyes at y = 0. A
camera at (0, 0, -2) that looks at the origin has the world's axes as its own.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from ..schemas.errors import UsageError
from .identities import NAMES

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Person:
    """One of the two.

    Attributes:
        portrait: who is worn: a name of :data:`duologue.synthesis.identities.IDENTITIES`.
        voice: espeak-ng voice; rate in words a minute; pitch 0..99.
        position: x, y, z metres of the resting head centre, world frame.
        body_deg: how far the body is turned from the audience towards +x (the person on the left: positive).
        size: of the head and body, over the head model's; eyeballs and irises, which hardly differ, keep theirs.
    """

    portrait: str
    voice: str
    rate: int
    pitch: int
    position: tuple[float, float, float]
    body_deg: float
    size: float = 1.0


FRAMINGS = ("two-shot", "close-left", "close-right", "over-left", "over-right")
TRANSITIONS = ("cut", "fade", "dissolve")
SCREENS = ("halves", "thirds", "picture-in-picture")
BACKDROPS = ("room", "blurred", "virtual")
OBJECTS = ("hand", "microphone", "mug", "paper")


@lru_cache(maxsize=1024)
def _orientation(
    position: tuple[float, ...], look_at: tuple[float, ...], roll_deg: float, turn_deg: tuple[float, ...]
) -> Array:
    forward = np.asarray(look_at, dtype=np.float64) - np.asarray(position, dtype=np.float64)
    forward /= np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    pan, tilt = np.radians(turn_deg)
    aside = np.array([[np.cos(pan), 0.0, -np.sin(pan)], [0.0, 1.0, 0.0], [np.sin(pan), 0.0, np.cos(pan)]])
    nod = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(tilt), -np.sin(tilt)], [0.0, np.sin(tilt), np.cos(tilt)]])
    roll = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(roll @ nod @ aside @ np.stack([right, down, forward]))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. Positions in metres, world frame; focal length in pixels at the scenario's size.

    ``turn_deg`` pans to the right and tilts down from ``look_at``.
    """

    position: tuple[float, float, float] = (0.0, -0.03, -1.50)
    look_at: tuple[float, float, float] = (0.0, 0.14, 0.0)
    focal_px: float = 1200.0
    roll_deg: float = 0.0
    turn_deg: tuple[float, float] = (0.0, 0.0)

    @property
    def world_to_camera(self) -> Array:
        """[3, 3] rotation."""
        return _orientation(self.position, self.look_at, self.roll_deg, self.turn_deg)

    def to_camera(self, points: Array) -> Array:
        """World points [..., 3] in the camera frame."""
        return np.asarray((points - np.asarray(self.position)) @ self.world_to_camera.T)


@dataclass(frozen=True)
class ShotPlan:
    """How it is filmed from ``start_s`` on.

    Attributes:
        camera: where from; None takes the camera that ``framing`` asks for.
        framing: "two-shot"; "close-left" or "close-right" (one person alone); "over-left" or "over-right" (over that
            person's shoulder, at the other's face). Close-ups and shots over a shoulder show one face: no pair.
        transition: how the shot begins: "cut", "fade" (through black) or "dissolve"; the last two are centred on
            ``start_s`` and last ``transition_s``. The first shot may only fade in.
        zoom: focal length at the shot's end over that at its start; it changes evenly in its logarithm.
        handheld_deg: standard deviation of a hand-held camera's pan and tilt (a third of it rolls).
        defocus_px: standard deviation of the blur over the whole picture.
    """

    start_s: float
    camera: Camera | None = None
    framing: str = "two-shot"
    transition: str = "cut"
    transition_s: float = 0.8
    zoom: float = 1.0
    handheld_deg: float = 0.0
    defocus_px: float = 0.0


@dataclass(frozen=True)
class PasserBy:
    """A third person who walks through the room, ``behind`` the two or close before the camera.

    Attributes:
        portrait: see :class:`Person`. start_s, seconds: when, and how long from one side of the room to the other.
        behind: False crosses before the two and hides them for a moment. rightward: which way.
    """

    portrait: str = "devon"
    start_s: float = 2.0
    seconds: float = 3.0
    behind: bool = True
    rightward: bool = True


@dataclass(frozen=True)
class Occlusion:
    """Something held before a face: ``what`` is "hand", "microphone", "mug" or "paper"; ``who`` "left" or "right".

    It rises in a quarter of ``seconds``, stays, and goes down again. ``share`` is how far up the face it comes: 0 the
    chin, 0.5 the nose, 1 the brow.
    """

    who: str = "left"
    what: str = "hand"
    start_s: float = 2.0
    seconds: float = 1.6
    share: float = 0.4


@dataclass(frozen=True)
class Scenario:
    """A whole video.

    Attributes:
        seconds, fps, width, height: of the video. seed: of everything random.
        left, right: the two people, as the audience sees them.
        shots: in order of time; the first starts at 0.
        overlaps, backchannels: whether both may speak at once.
        mutual_share: share of the time that a listener looks at the speaker.
        noise_snr_db: room noise under the speech; None for none.
        av_offset_s: the sound is this much late (negative: early); truth keeps the time of the sounds themselves.
        split_screen: two rooms in one picture, one person in each, as in a call; ``screen`` says how they lie: "halves"
            side by side, "thirds" (one third, two thirds), "picture-in-picture". ``backdrop`` of each: its "room", the
            room "blurred", or a "virtual" picture; the last two with the ragged edge of a segmentation.
        passers_by, occlusions: third people, and things before faces.
        music_snr_db: speech over a bed of music; None for none. Over noise the level is that of the whole sound, its
            pauses among it: with the default noise the music lies 0.8 dB further below the speech than asked.
        laughs: times when an unseen audience laughs.
        shutter: share of the frame time that the shutter is open: motion blur (0 none, 0.5 film).
        rotate: clockwise degrees that the file's metadata ask a player to turn its stored picture by.
        dropped_share: share of frames left out, seeded: a variable frame rate.
        audio: False leaves the audio stream out.
        grain: standard deviation of sensor noise, 8-bit levels. crf: x264 quality (higher is worse).
        head_model: path for ``load_head_model``; "" is the embedded one.
    """

    seconds: float = 26.0
    fps: float = 25.0
    width: int = 1280
    height: int = 720
    seed: int = 1
    left: Person = Person("collins", "en+f4", 170, 52, (-0.45, 0.0, 0.0), 30.0)
    right: Person = Person("hopper", "en-us", 160, 34, (0.45, 0.015, 0.05), -30.0)
    shots: tuple[ShotPlan, ...] = (
        ShotPlan(0.0, Camera()),
        ShotPlan(13.0, Camera(position=(0.22, -0.12, -1.45), look_at=(0.01, 0.13, 0.0), focal_px=1330.0)),
    )
    overlaps: bool = True
    backchannels: bool = True
    mutual_share: float = 0.7
    noise_snr_db: float | None = 32.0
    av_offset_s: float = 0.0
    split_screen: bool = False
    screen: str = "halves"
    backdrop: str = "room"
    passers_by: tuple[PasserBy, ...] = ()
    occlusions: tuple[Occlusion, ...] = ()
    music_snr_db: float | None = None
    laughs: tuple[float, ...] = ()
    shutter: float = 0.0
    rotate: int = 0
    dropped_share: float = 0.0
    audio: bool = True
    grain: float = 1.2
    crf: int = 23
    head_model: str = ""

    @property
    def people(self) -> tuple[Person, Person]:
        return (self.left, self.right)

    @property
    def frame_times(self) -> Array:
        """[T] presentation times in seconds: the grid of ``fps``, less the dropped frames (never the first)."""
        count = round(self.seconds * self.fps)
        kept = np.random.default_rng([self.seed, 43]).random(count) >= self.dropped_share
        kept[0] = True
        return np.flatnonzero(kept) / self.fps


_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("seconds", 1, 3600), ("fps", 5, 60), ("width", 120, 7680), ("height", 120, 7680), ("seed", 0, 2**63 - 1),
    ("mutual_share", 0, 1), ("noise_snr_db", -40, 120), ("music_snr_db", -40, 120), ("av_offset_s", -5, 5),
    ("shutter", 0, 1), ("dropped_share", 0, 0.8), ("grain", 0, 100), ("crf", 0, 51),
)  # fmt: skip
_MAY_LACK = ("noise_snr_db", "music_snr_db")
_SHOT_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("zoom", 0.25, 4), ("transition_s", 0.04, 5), ("handheld_deg", 0, 10), ("defocus_px", 0, 100),
)  # fmt: skip


def check(scenario: Scenario) -> Scenario:
    """The scenario itself, if it can be filmed.

    Raises:
        UsageError: with what is wrong.
    """

    def fail(message: str) -> None:
        raise UsageError(f"scenario: {message}")

    def within(name: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:  # NaN lies nowhere
            fail(f"{name} is {value:g}; it must lie between {low:g} and {high:g}")

    for name, low, high in _BOUNDS:
        value = getattr(scenario, name)
        if value == np.inf and name in _MAY_LACK:
            fail(f"{name} is inf: say null for none")
        if value is not None:
            within(name, value, low, high)
    if scenario.width % 4 or scenario.height % 2 or min(scenario.width, scenario.height) < 120:
        fail(f"size {scenario.width}x{scenario.height}: width a multiple of 4, height of 2, at least 120")
    if not scenario.shots or scenario.shots[0].start_s != 0.0:
        fail("the first shot must start at 0")
    starts = [shot.start_s for shot in scenario.shots]
    if any(b <= a for a, b in pairwise(starts)):
        fail("shots must start one after the other")
    for name in (*(p.portrait for p in scenario.people), *(p.portrait for p in scenario.passers_by)):
        if name not in NAMES:
            fail(f"no portrait named {name!r}: choose from {', '.join(NAMES)}")

    def among(name: str, value: object, known: tuple[object, ...]) -> None:
        if value not in known:
            fail(f"{name} is {value!r}: choose from {', '.join(map(str, known))}")

    for number, shot in enumerate(scenario.shots):
        among(f"shots[{number}].framing", shot.framing, FRAMINGS)
        among(f"shots[{number}].transition", shot.transition, TRANSITIONS)
        if number == 0 and shot.transition == "dissolve":
            fail("the first shot has nothing to dissolve from")
        for name, low, high in _SHOT_BOUNDS:
            within(f"shots[{number}].{name}", getattr(shot, name), low, high)
        if shot.camera is not None:
            _check_camera(shot.camera, f"shots[{number}].camera", within, fail)
    for who, person in zip(("left", "right"), scenario.people, strict=True):
        within(f"{who}.rate", person.rate, 80, 450)
        within(f"{who}.pitch", person.pitch, 0, 99)
        within(f"{who}.body_deg", person.body_deg, -180, 180)
        within(f"{who}.size", person.size, 0.5, 1.5)
        for place in person.position:
            within(f"{who}.position", place, -20, 20)
    for number, at in enumerate(scenario.laughs):
        within(f"laughs[{number}]", at, 0, 3600)
    for number, walker in enumerate(scenario.passers_by):
        within(f"passers_by[{number}].start_s", walker.start_s, -3600, 3600)
        within(f"passers_by[{number}].seconds", walker.seconds, 0.04, 3600)
    for number, thing in enumerate(scenario.occlusions):
        within(f"occlusions[{number}].start_s", thing.start_s, -3600, 3600)
        within(f"occlusions[{number}].seconds", thing.seconds, 0.04, 3600)
        within(f"occlusions[{number}].share", thing.share, -1, 2)
        among(f"occlusions[{number}].who", thing.who, ("left", "right"))
        among(f"occlusions[{number}].what", thing.what, OBJECTS)
    among("screen", scenario.screen, SCREENS)
    among("backdrop", scenario.backdrop, BACKDROPS)
    among("rotate", scenario.rotate, (0, 90, 180, 270))
    if scenario.split_screen and (scenario.passers_by or any(s.framing != "two-shot" for s in scenario.shots)):
        fail("a split screen has neither passers-by nor framings: each person has a camera of their own")
    if scenario.backdrop != "room" and not scenario.split_screen:
        fail("backdrop needs split_screen")
    if scenario.left.position[0] >= scenario.right.position[0]:
        fail("left.position must lie to the left of right.position")
    shown = set(np.searchsorted(starts, scenario.frame_times + 1e-9, side="right").tolist())
    for number, start in enumerate(starts, start=1):
        if number not in shown:
            fail(f"the shot from {start:g} s on has no frame in a film of {scenario.seconds:g} s")
    return scenario


def _check_camera(
    camera: Camera, name: str, within: Callable[[str, float, float, float], None], fail: Callable[[str], None]
) -> None:
    for part, most in (("position", 100), ("look_at", 100), ("turn_deg", 180)):
        for value in getattr(camera, part):
            within(f"{name}.{part}", value, -most, most)
    within(f"{name}.focal_px", camera.focal_px, 1, 1e5)
    within(f"{name}.roll_deg", camera.roll_deg, -360, 360)
    if np.hypot(*(np.subtract(camera.look_at, camera.position)[[0, 2]])) < 1e-6:
        fail(f"{name} must not look at its own place, nor straight up or down")


def _build(kind: Any, value: Any, where: str) -> Any:
    """A typed value from what YAML gave."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _build(next(a for a in arguments if a is not type(None)), value, where)
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise UsageError(f"{where} must be a mapping")
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(map(str, value)) - {f.name for f in fields(kind)})
        if unknown:
            raise UsageError(f"{where} has no {', '.join(unknown)}; it has {', '.join(hints)}")
        try:
            return kind(**{k: _build(hints[k], v, f"{where}.{k}") for k, v in value.items()})  # type: ignore[operator]
        except TypeError as error:
            raise UsageError(f"{where}: {error}") from None
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{where} must be a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_build(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(arguments):
            raise UsageError(f"{where} must have {len(arguments)} entries")
        return tuple(_build(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UsageError(f"{where} must be of type {kind.__name__}, not {value!r}")
    return value


def scenario_of(raw: object, where: str = "scenario") -> Scenario:
    """The scenario of a parsed YAML mapping; what it leaves out keeps its default.

    Raises:
        UsageError: unknown or ill-typed key, or a scenario that cannot be filmed.
    """
    scenario: Scenario = _build(Scenario, {} if raw is None else raw, where)
    if not isinstance(raw, dict) or "shots" not in raw:
        scenario = lasting(scenario, scenario.seconds)
    return check(scenario)


def lasting(scenario: Scenario, seconds: float) -> Scenario:
    """The scenario at this length, less the shots that would last under a second."""
    kept = tuple(shot for shot in scenario.shots if shot.start_s < seconds - 1.0)
    return replace(scenario, seconds=seconds, shots=kept or scenario.shots[:1])


def load_scenario(path: str | Path) -> Scenario:
    """Read a scenario; what the file leaves out keeps its default.

    Raises:
        UsageError: unreadable file, unknown or ill-typed key, or a scenario that cannot be filmed.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"scenario {path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise UsageError(f"scenario {path}: not YAML ({' '.join(str(error).split())})") from None
    return scenario_of(raw or {})
