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
FORMAT = 1


@dataclass(frozen=True)
class PersonTruth:
    """One person over the video's T frames, in each frame's own camera.

    Attributes:
        voice: espeak voice. portrait: who is worn.
        shape: [S]. expression: [T, E]. jaw: [T, 3]. eyes: [T, 2, 3] axis-angle, radians, left and right, model frame.
        rotation: [T, 3] axis-angle; translation: [T, 3] metres, root joint; both camera frame.
        head_centre: [T, 3] metres, midpoint between the eyeballs, camera frame.
        gaze: [T, 3] unit, camera frame: mean of both eyes' optical axes.
        looking_at_partner: [T] radians between ``gaze`` and the direction to the partner's head centre.
        landmarks: [T, 478, 3] pixels; z as FaceMesh's (pixels, smaller is nearer, zero at the face's mean depth).
        box: [T, 4] x0, y0, x1, y1 of the 468 skin landmarks, pixels.
        aperture: [T, 2] metres between the lids at the middle of the left and right eye. lips: [T] metres, inner gap.
        speaking: [T] the person makes sound at this frame's time (before any A/V offset).
        visible: [T] the head centre is inside the frame.
    """

    voice: str
    portrait: str
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
        elif f.name == "turns":
            facts["turns"] = [asdict(turn) for turn in value]
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
    top["turns"] = tuple(Turn(**turn) for turn in top["turns"])
    return Truth(**top, a=PersonTruth(**values(PersonTruth, "a.")), b=PersonTruth(**values(PersonTruth, "b.")))
