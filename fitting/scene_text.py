"""A sentence about where two people are, to the place and heading of both heads in the first frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from .layout import ParsedText, layout_from_codes, parse, place

Array = npt.NDArray[np.float64]
EXAMPLE = "they sit face to face at arm's length"
DEPTH_M = 1.5  # of the middle between the heads, from the camera
LATER = {
    "look_a": "look_a_share",
    "look_b": "look_b_share",
    "mutual": "mutual_share",
    "tilt_a": "tilt_a_deg",
    "tilt_b": "tilt_b_deg",
    "change": "distance_change_m",
}  # groups that a first frame does not decide
# Inside the bins, where people are: the middle of an open bin is nowhere.
AIMS = {
    "mutual:much": 0.5,
    "mutual:none": 0.0,
    "tilt_a:left": 18.0,
    "tilt_b:left": 18.0,
    "tilt_a:right": -18.0,
    "tilt_b:right": -18.0,
    "change:apart": 0.25,
    "change:closer": -0.25,
    "look_a:mostly": 0.8,
    "look_b:mostly": 0.8,
    "look_a:rarely": 0.08,
    "look_b:rarely": 0.08,
}


@dataclass(frozen=True)
class Scene:
    """Where two heads are before anybody moves; camera frame, metres, radians.

    Attributes:
        codes: layout codes that the text says. layout: scalars in those bins, typical where the text is silent.
        centre: [2, 3] head centres of a (left) and b. rotation: [2, 3] axis-angle, zero faces the camera.
        unread: words of the text that meant nothing.
    """

    codes: tuple[str, ...]
    layout: dict[str, float]
    centre: Array
    rotation: Array
    unread: str = ""

    @property
    def manner(self) -> dict[str, float]:
        """What the text says of later: layout scalars by name (how much people look, tilt, come closer)."""
        said = {code.partition(":")[0] for code in self.codes}
        return {scalar: self.layout[scalar] for group, scalar in LATER.items() if group in said}

    @property
    def turned(self) -> tuple[bool, bool]:
        """Whether the text says which way a and b face."""
        groups = {code.partition(":")[0] for code in self.codes}
        return "arrangement" in groups or "facing_a" in groups, "arrangement" in groups or "facing_b" in groups


def scene_from_text(text: str, reader: Callable[[str], ParsedText] = parse) -> Scene:
    """Read a sentence and place both heads as it says.

    Args:
        reader: text to codes: the rules of :func:`.layout.parse`, or a language model (:mod:`.layout_llm`).

    Raises:
        UsageError: the text names nothing spatial, contradicts itself, or the reader cannot be reached.
    """
    said = reader(text)
    if not said.codes and not said.values:
        raise UsageError(f'the text {text!r} names nothing spatial; say for example "{EXAMPLE}"')
    return scene_from_codes(said.codes, said.values, said.unread)


def scene_from_codes(codes: tuple[str, ...], values: dict[str, float] | None = None, unread: str = "") -> Scene:
    """Place both heads inside every coded bin.

    Raises:
        UsageError: unknown or contradicting codes, or a distance that is not positive.
    """
    try:
        aims = {
            LATER[group]: AIMS[code] for code in codes if (group := code.partition(":")[0]) in LATER and code in AIMS
        }
        layout = layout_from_codes(codes, aims | (values or {}))
    except ValueError as error:
        raise UsageError(str(error)) from None
    distance = layout["distance_m"]
    if not 0.1 <= distance <= 20.0:
        raise UsageError(f"the text places the heads {distance:g} m apart; 0.1 to 20 m can be placed")
    placed = place(layout, DEPTH_M + 0.5 * max(distance - 1.0, 0.0))
    return Scene(
        codes,
        layout,
        np.stack([placed["centre_a"], placed["centre_b"]]),
        np.stack([placed["rotation_a"], placed["rotation_b"]]),
        unread,
    )
