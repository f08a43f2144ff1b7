"""What the three ways to get frames out of a file have in common. Runs in the decoder child only.

Each is a source of ``(time, picture)`` in presentation order. A time is in seconds on the video clock; a picture is
a callable that gives the pixels only when the frame is wanted: thinned frames never pay for conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .demux import Tick
from .planar import Planes

UInt8 = npt.NDArray[np.uint8]
Picture = Callable[[], UInt8 | Planes]

TURNS: dict[int, tuple[tuple[str, ...], ...]] = {  # clockwise degrees: filters of libavfilter
    0: (),
    90: (("transpose", "clock"),),
    180: (("hflip",), ("vflip",)),
    270: (("transpose", "cclock"),),
}


@dataclass(frozen=True)
class SourceRequest:
    """What a source decodes.

    Attributes:
        width, height: of the upright converted picture.
        rotation: clockwise degrees that make the stored picture upright.
        first_s: time of the first video frame; earlier frames (edit lists) are not presented.
        start_s: a source may skip frames before it, and must give all from it on.
        zero_s: container time of the video clock's zero.
        fast: skip the loop filter and average areas when shrinking (pyav only).
    """

    path: str
    width: int
    height: int
    rotation: int
    first_s: float
    start_s: float
    zero_s: float
    fast: bool
    max_pixels: int


class FrameSource(Protocol):
    """What every backend offers.

    Attributes:
        damage: once the frames have ended, what was broken; empty for a healthy file.
    """

    damage: str

    def frames(self, tick: Tick) -> Generator[tuple[float, Picture], None, None]: ...
