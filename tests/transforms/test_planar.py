"""Parts of a planar frame are exactly the parts of the whole frame's RGB."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from duologue.transforms.planar import FORMATS, Colour, Converter, PlanarPicture, Planes, keep, plane_views, rgb_view
from hypothesis import given, settings
from hypothesis import strategies as st

COLOURS = [(form, space, range_) for form in FORMATS for space in (1, 2, 5, 9) for range_ in (0, 1, 2)]


def decoded(width: int, height: int, colour: tuple[str, int, int] = (FORMATS[0], 1, 1), seed: int = 0):  # type: ignore[no-untyped-def]
    """A frame of noise as a decoder gives it, and the same as a picture."""
    form, space, range_ = colour
    frame = av.VideoFrame(width, height, form)
    frame.colorspace, frame.color_range = space, range_
    rng = np.random.default_rng(seed)
    for view in plane_views(frame):
        view[:] = rng.integers(0, 256, view.shape)
    one, two, three = plane_views(frame)
    planes = Planes((one, two, three), Colour(form, int(frame.colorspace), int(frame.color_range)))
    flat = np.zeros(width * height * 3, np.uint8)  # a slot of the ring has room for RGB
    planes.write(flat)
    flat.flags.writeable = False
    return frame, PlanarPicture(flat, width, height, planes.colour, Converter())


def whole(frame: av.VideoFrame) -> np.ndarray:
    size = {"width": frame.width, "height": frame.height}
    return rgb_view(VideoReformatter().reformat(frame, **size, format="rgb24", interpolation="BILINEAR", threads=1))


@pytest.mark.parametrize("colour", COLOURS)
def test_all_of_it_is_what_the_decoder_would_convert(colour: tuple[str, int, int]) -> None:
    frame, picture = decoded(128, 96, colour)
    np.testing.assert_array_equal(picture.rgb(), whole(frame))
    np.testing.assert_array_equal(picture[:, :], whole(frame))


SIZES = [(1280, 720), (854, 480), (722, 404), (50, 34), (64, 2)]
FRAMES = {size: decoded(*size) for size in SIZES}


@settings(deadline=None, max_examples=120)
@given(st.sampled_from(SIZES), st.tuples(*[st.floats(0, 1)] * 4))
def test_parts_are_parts_of_the_whole(size: tuple[int, int], where: tuple[float, float, float, float]) -> None:
    frame, picture = FRAMES[size]
    width, height = size
    x0, x1 = sorted(round(f * width) for f in where[:2])
    y0, y1 = sorted(round(f * height) for f in where[2:])
    part = picture[y0 : y1 + 1, x0 : x1 + 1]
    np.testing.assert_array_equal(part, whole(frame)[y0 : y1 + 1, x0 : x1 + 1])


def test_a_copy_outlives_its_memory_and_uses_it_again() -> None:
    frame, picture = decoded(64, 48)
    copy = keep(picture)
    assert isinstance(copy, PlanarPicture)
    other = decoded(64, 48, seed=1)[1]
    again = keep(other, copy)
    assert isinstance(again, PlanarPicture)
    assert np.shares_memory(again.memory, copy.memory)
    np.testing.assert_array_equal(again[:, :], other[:, :])
    bigger = keep(decoded(96, 48)[1], copy)
    assert bigger.shape == (48, 96, 3)
    array = whole(frame)
    kept = keep(array)
    np.testing.assert_array_equal(kept[:, :], array)
    assert keep(array, kept) is kept
    assert keep(array, copy) is not copy
