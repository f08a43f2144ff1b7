"""A frame as its decoder left it, turned into RGB only where somebody looks.

A decoder gives one plane of brightness and two of colour at half the size: half the bytes of RGB. Of a frame in
which two faces are followed, a fifth is ever looked at in colour. Any part is converted exactly as the whole would
be: by libswscale, which takes each colour sample for two by two pixels, whatever lies beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]

FORMATS = ("yuv420p", "yuvj420p")  # libav's names: colour at half the width and height
_FULL_RANGE = 2  # libav's number
_STEP = 64  # parts are converted at multiples of this size, so that few converters serve all


class Pixels(Protocol):
    """A picture from which RGB parts are cut: an array [H, W, 3] uint8, or planes."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, part: tuple[slice, slice], /) -> UInt8: ...


@dataclass(frozen=True)
class Colour:
    """How planes mean colour: one of ``FORMATS``, libav's colour space and colour range."""

    form: str
    space: int
    range: int

    @property
    def black(self) -> float:
        """Brightness of black: 0 in the full range of 0..255, else 16."""
        return 0.0 if self.form == "yuvj420p" or self.range == _FULL_RANGE else 16.0


@dataclass(frozen=True)
class Planes:
    """Three planes [H, W], [H / 2, W / 2] twice, uint8, and what they mean. H and W are even."""

    planes: tuple[UInt8, UInt8, UInt8]
    colour: Colour

    def write(self, flat: UInt8) -> None:
        """Copy the planes one after the other into ``flat`` [H * W * 3 / 2]."""
        begin = 0
        for plane in self.planes:
            np.copyto(flat[begin : begin + plane.size].reshape(plane.shape), plane)
            begin += plane.size


class Converter:
    """Turns parts of planes into RGB. Keeps one small libswscale context per size. Not for two threads at once."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int, Colour], tuple[Any, list[UInt8], Any]] = {}

    def rgb(self, planes: Planes, x0: int, y0: int, x1: int, y1: int) -> UInt8:
        """[y1 - y0, x1 - x0, 3] RGB of one part; its bounds are even and lie inside."""
        width, height = x1 - x0, y1 - y0
        key = (width, height, planes.colour)
        if key not in self._made:
            self._made[key] = self._make(width, height, planes.colour)
        frame, inputs, reformatter = self._made[key]
        for into, plane, half in zip(inputs, planes.planes, (1, 2, 2), strict=True):
            np.copyto(into, plane[y0 // half : y1 // half, x0 // half : x1 // half])
        # Bilinear, by default: to look up its name costs a tenth of the call.
        converted = reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        return rgb_view(converted)

    @staticmethod
    def _make(width: int, height: int, colour: Colour) -> tuple[Any, list[UInt8], Any]:
        import av  # a process that only plans or writes never needs it
        from av.video.reformatter import VideoReformatter

        frame: Any = av.VideoFrame(width, height, colour.form)
        frame.colorspace, frame.color_range = colour.space, colour.range
        return frame, plane_views(frame), VideoReformatter()


class PlanarPicture:
    """Looks like an RGB array of shape [H, W, 3]: ``picture[y0:y1, x0:x1]`` is RGB of that part."""

    def __init__(self, flat: UInt8, width: int, height: int, colour: Colour, converter: Converter) -> None:
        """``flat`` holds the planes as :meth:`Planes.write` left them; it is not copied."""
        self.shape = (height, width, 3)
        self._flat = flat[: width * height * 3 // 2]
        bright, half = width * height, (height // 2, width // 2)
        blue = self._flat[bright : bright + half[0] * half[1]].reshape(half)
        red = self._flat[bright + half[0] * half[1] :].reshape(half)
        self.planes = Planes((self._flat[:bright].reshape(height, width), blue, red), colour)
        self.converter = converter

    def __getitem__(self, part: tuple[slice, slice]) -> UInt8:
        height, width, _ = self.shape
        (y0, y1, _), (x0, x1, _) = part[0].indices(height), part[1].indices(width)
        if x1 <= x0 or y1 <= y0:
            return np.zeros((max(0, y1 - y0), max(0, x1 - x0), 3), np.uint8)
        left, right = _span(x0, x1, width)
        top, bottom = _span(y0, y1, height)
        rgb = self.converter.rgb(self.planes, left, top, right, bottom)
        return rgb[y0 - top : y1 - top, x0 - left : x1 - left]

    def rgb(self) -> UInt8:
        """[H, W, 3] all of it."""
        height, width, _ = self.shape
        return self.converter.rgb(self.planes, 0, 0, width, height)

    def copy(self, memory: UInt8 | None = None) -> PlanarPicture:
        """One that outlives this one's memory.

        Args:
            memory: of an earlier copy of the same size (:attr:`memory`), to be filled again.
        """
        flat = memory if memory is not None and memory.shape == self._flat.shape else np.empty_like(self._flat)
        np.copyto(flat, self._flat)
        height, width, _ = self.shape
        return PlanarPicture(flat, width, height, self.planes.colour, self.converter)

    @property
    def memory(self) -> UInt8:
        return self._flat


def keep(picture: Pixels, spare: Pixels | None = None) -> Pixels:
    """A copy that outlives the picture's memory; ``spare`` is an earlier copy to be filled again where it fits."""
    if isinstance(picture, PlanarPicture):
        return picture.copy(spare.memory if isinstance(spare, PlanarPicture) else None)
    fits = isinstance(spare, np.ndarray) and spare.shape == picture.shape
    copy: UInt8 = spare if fits else np.empty(picture.shape, np.uint8)  # type: ignore[assignment]
    np.copyto(copy, picture)  # type: ignore[arg-type]
    return copy


def _span(begin: int, end: int, length: int) -> tuple[int, int]:
    """Even bounds around [begin, end), a multiple of ``_STEP`` apart where the length allows."""
    size = min(length, -(-(end - (begin & ~1)) // _STEP) * _STEP)
    first = min(begin & ~1, length - size)
    return first, first + size


def plane_views(frame: Any) -> list[UInt8]:
    """The three planes of a libav frame of one of ``FORMATS``, without their padding; no copy."""
    views: list[UInt8] = []
    for plane, half in zip(frame.planes, (1, 2, 2), strict=True):
        shape = (frame.height // half, frame.width // half)
        views.append(np.ndarray(shape, np.uint8, buffer=plane, strides=(plane.line_size, 1)))
    return views


def rgb_view(frame: Any) -> UInt8:
    """[H, W, 3] view of an rgb24 frame's own memory; no copy."""
    plane = frame.planes[0]
    return np.ndarray((frame.height, frame.width, 3), np.uint8, buffer=plane, strides=(plane.line_size, 3, 1))
