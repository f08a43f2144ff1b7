"""The focal length that a camera wrote into its file: QuickTime's and EXIF's 35-mm equivalent, in pixels."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Cameras equate diagonals (43.27 mm); phones have 4:3 sensors, of which video takes the whole width: 34.6 mm of it.
# With photo cameras' 3:2 that is 4 % too long, with the crop of a stabiliser about 10 % too short.
FILM_WIDTH_MM = 34.6
SHORTEST_MM, LONGEST_MM = 8.0, 600.0
TAGS = (
    "com.apple.quicktime.camera.focal_length.35mm_equivalent",
    "focallengthin35mmfilm",
    "focallengthin35mmformat",
    "focallength35efl",
)


def metadata_focal_px(tags: Mapping[str, str], width: int, height: int) -> float | None:
    """Pixels of the focal length that a file's tags tell; None where they tell none that a camera could have.

    Args:
        tags: of the file or its video stream; names in any case.
        width, height: of the upright image, square pixels; video spans the sensor by its longer side.
    """
    known = {name.casefold(): text for name, text in tags.items()}
    for tag in TAGS:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:mm)?\s*", known.get(tag, ""))
        if found and SHORTEST_MM <= float(found[1]) <= LONGEST_MM:
            return float(found[1]) / FILM_WIDTH_MM * max(width, height)
    return None
