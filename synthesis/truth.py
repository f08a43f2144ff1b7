"""The exact truth of a rendered conversation, in the conventions of :mod:`duologue.schemas.heads`.

``truth.npz`` holds the arrays, ``truth.json`` the rest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from ..schemas.records import Turn

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
FORMAT = 3


@dataclass(frozen=True)
class Transition:
    """How shot number ``shot`` begins: a "cut" (``start_s`` = ``end_s`` = its first frame), or a "fade" or "dissolve"
    between the two times."""

    kind: str
    start_s: float
    end_s: float
    shot: int


@dataclass(frozen=True)
class PersonTruth:
    """One person over the video's T frames, in each frame's own camera.

    Attributes:
        voice: espeak voice. portrait: who is worn. size: of the head over the head model's, eyeballs excepted.
        shape: [S]. expression: [T, E]. jaw: [T, 3]. eyes: [T, 2, 3] axis-angle, radians, left and right, model frame.
        rotation: [T, 3] axis-angle; translation: [T, 3] metres, root joint; both camera frame.
        head_centre: [T, 3] metres, midpoint between the eyeballs, camera frame.
        gaze: [T, 3] unit, camera frame: mean of both eyes' optical axes.
        looking_at_partner: [T] radians between ``gaze`` and the direction to the partner's head centre.
        landmarks: [T, 478, 3] pixels from the picture's corner (a pixel's centre is at a half: 0.5 more than in a data
            set); z as FaceMesh's (pixels, smaller is nearer, zero at the face's mean depth).
        box: [T, 4] x0, y0, x1, y1 of the 468 skin landmarks, pixels likewise.
        aperture: [T, 2] metres between the lids at the middle of the left and right eye. lips: [T] metres, inner gap.
        speaking: [T] the person makes sound at this frame's time (before any A/V offset).
        visible: [T] the head centre is inside the frame.
        visible_share: [T] share of the landmarks on the face's near side that are inside the frame and behind nothing.
        focal_px: [T] of the camera that films this person. window: x, y, width, height of its part of the picture,
            whose middle is the principal point.
    """

    voice: str
    portrait: str
    size: float
    shape: Float32
    expression: Float32
    jaw: Float32
    eyes: Float32
    rotation: Float32
    translation: Float32
    head_centre: Float32
    gaze: Float32
    looking_at_partner: Float32
    landmarks: Float32
    box: Float32
    aperture: Float32
    lips: Float32
    speaking: Bool
    visible: Bool
    visible_share: Float32
    focal_px: Float64
    window: tuple[int, int, int, int]


@dataclass(frozen=True)
class BystanderTruth:
    """A passer-by over the video's T frames; NaN while absent.

    Attributes:
        box: [T, 4] of the skin landmarks, pixels; may lie outside the picture. head_centre: [T, 3] metres and rotation:
        [T, 3] axis-angle, camera frame. visible_share: [T] as in :class:`PersonTruth`; 0 while absent.
    """

    portrait: str
    box: Float32
    head_centre: Float32
    rotation: Float32
    visible_share: Float32


@dataclass(frozen=True)
class OcclusionTruth:
    """Something held before a face: whose ("a" or "b"), what, from when to when."""

    who: str
    what: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Truth:
    """One video.

    Attributes:
        times: [T] presentation times, seconds on the video clock.
        shots: (start_s, end_s) of each; ``cuts`` between them. shot_index: [T].
        focal_px: [T]; the principal point is the image centre (of the person's half where ``split_screen``).
        turns: speech as it sounds in the file (``av_offset_s`` included), pauses under 0.5 s bridged; face "a" or "b".
        distance_m: [T] between the head centres. mutual_gaze: [T] both look within 10 degrees of the other.
        av_offset_s: how late the sound is.
        pair: [T] both people are in the picture, in one room, turned at most 90 degrees from the camera, with 30 % of
            the near side of each face showing: False in close-ups, over shoulders, in split screens.
        transitions: cuts, fades and dissolves. occlusions, bystanders: things before faces, third people.
        laughs: (start_s, end_s) of the audience's laughter. music: a bed of music lies under the speech.
        screen: how a split screen lies ("" for none). backdrop, rotate: as in the scenario. Width, height and all
            pixels are of the upright picture.
        a: the person on the left. With ``split_screen`` the two have different cameras and no common frame.
    """

    times: Float64
    fps: float
    width: int
    height: int
    shots: tuple[tuple[float, float], ...]
    shot_index: npt.NDArray[np.int64]
    focal_px: Float64
    turns: tuple[Turn, ...]
    distance_m: Float32
    mutual_gaze: Bool
    av_offset_s: float
    split_screen: bool
    head_model_id: str
    head_model_sha256: str
    head_model_tier: str
    seed: int
    pair: Bool
    transitions: tuple[Transition, ...]
    occlusions: tuple[OcclusionTruth, ...]
    bystanders: tuple[BystanderTruth, ...]
    laughs: tuple[tuple[float, float], ...]
    music: bool
    screen: str
    backdrop: str
    rotate: int
    a: PersonTruth
    b: PersonTruth

    @property
    def cuts(self) -> tuple[float, ...]:
        """Times of the first frame after each cut."""
        return tuple(start for start, _ in self.shots[1:])

    def write(self, folder: str | Path) -> None:
        """Write ``truth.npz`` and ``truth.json`` (same truth, same bytes)."""
        target = Path(folder)
        arrays: dict[str, npt.NDArray[Any]] = {}
        facts: dict[str, Any] = {"format": FORMAT}
        _flatten(self, "", arrays, facts)
        np.savez(target / "truth.npz", **arrays)  # type: ignore[arg-type]
        (target / "truth.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _flatten(item: Any, prefix: str, arrays: dict[str, npt.NDArray[Any]], facts: dict[str, Any]) -> None:
    for f in fields(item):
        value = getattr(item, f.name)
        if isinstance(value, PersonTruth):
            _flatten(value, f"{f.name}.", arrays, facts)
        elif isinstance(value, np.ndarray):
            arrays[prefix + f.name] = value
        elif f.name in ("turns", "transitions", "occlusions"):
            facts[f.name] = [asdict(one) for one in value]
        elif f.name == "bystanders":
            facts["n_bystanders"] = len(value)
            for number, one in enumerate(value):
                _flatten(one, f"bystander{number}.", arrays, facts)
        else:
            facts[prefix + f.name] = value


def read_truth(folder: str | Path) -> Truth:
    """The truth that :meth:`Truth.write` left in ``folder``.

    Raises:
        UsageError: there is none, or it is of another format.
    """
    where = Path(folder)
    try:
        facts = json.loads((where / "truth.json").read_text(encoding="utf-8"))
        with np.load(where / "truth.npz", allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise UsageError(f"{where}: no readable truth.json and truth.npz ({error})") from None
    if facts.get("format") != FORMAT:
        raise UsageError(f"{where}/truth.json has format {facts.get('format')}; this version reads {FORMAT}")

    def values(kind: type[Any], prefix: str) -> dict[str, Any]:
        names = [f.name for f in fields(kind)]
        return {n: arrays[prefix + n] if prefix + n in arrays else facts[prefix + n] for n in names
                if prefix + n in arrays or prefix + n in facts}  # fmt: skip

    top = values(Truth, "")
    top["shots"] = tuple((float(s), float(e)) for s, e in top["shots"])
    for name, kind in (("turns", Turn), ("transitions", Transition), ("occlusions", OcclusionTruth)):
        top[name] = tuple(kind(**one) for one in top[name])
    top["laughs"] = tuple((float(s), float(e)) for s, e in top["laughs"])
    top["bystanders"] = tuple(
        BystanderTruth(**values(BystanderTruth, f"bystander{k}.")) for k in range(facts["n_bystanders"])
    )
    people = [values(PersonTruth, f"{who}.") for who in "ab"]
    for person in people:
        person["window"] = tuple(person["window"])
    return Truth(**top, a=PersonTruth(**people[0]), b=PersonTruth(**people[1]))
