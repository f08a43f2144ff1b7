"""Two rooms in one frame: evidence per sampled frame, decided per shot.

People talking in two windows of an edited picture share no space, so their distance and gaze mean nothing. Colour
alone does not tell: the backgrounds behind two people in one room differ as much (Bhattacharyya 0.74) as those of a
split screen (0.67). What an edit leaves is a *seam*: a line between the two faces, exactly vertical (or horizontal),
one or two pixels sharp, along (nearly) the whole picture, at the same place in every frame, with different colours
either side; or a closed rectangle around one of them (:mod:`.inset`). Door frames, pillars and picture frames lean by
a pixel or more, are soft, end somewhere, or are crossed by shoulders and tables; each of those keeps the shot.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Float32
from .inset import STEP, STRIP, colour_distance, find_inset, reduced, sharp_steps, turned

UInt8 = npt.NDArray[np.uint8]
Int16 = npt.NDArray[np.int16]

HEIGHT = 288  # pictures are reduced to this before measuring, so thresholds do not depend on the scan's resolution
SAME_PLACE = 0.015  # a seam stays where it is, or flips between the two edges of the bar between two windows
EVIDENCE = ("across", "position", "coverage", "reach", "strength", "colour", "gutter", "lean")
LEAN_PX = 0.9  # a line whose lower third lies this far from its upper third (in pixels of 288 rows) is not vertical


@dataclass(frozen=True)
class SplitOptions:
    """Attributes:
    coverage: least share of the picture's rows with a sharp step at the seam; ``usual_coverage`` where the seam lies at
        1/2, 1/3 or 2/3 of the picture, as calls are laid out.
    partial_coverage: the same where the seam lies at 1/2, 1/3 or 2/3 of the picture, or is an even bar: banners
        and windows lower than the picture are then allowed for.
    strength: least 20th percentile of the step (0..255) over the rows the seam reaches.
    colour: least Bhattacharyya distance (0..1) between the colours next to the seam.
    unbroken, unbroken_colour: where at least ``unbroken`` of the rows have the step, in one run from edge to edge,
        two rooms of like colours are told apart too: a real edge is crossed by a shoulder, a table or the ceiling.
    exact, exact_coverage, exact_reach, exact_colour: a line that lies this near (share of the picture) to exactly 1/2,
        1/3 or 2/3 of it and leans by no more than a third of ``LEAN_PX`` may be crossed by a body and have rooms of
        still more like colours: two blurred backdrops.
    inset, inset_side: least mean coverage of a rectangle's sides, and of its weakest side.
    persistence: least share of the shot's two-face samples that show the same seam.
    """

    coverage: float = 0.9
    usual_coverage: float = 0.87
    partial_coverage: float = 0.65
    strength: float = 8.0
    colour: float = 0.4
    unbroken: float = 0.97
    unbroken_colour: float = 0.3
    exact: float = 0.0025
    exact_coverage: float = 0.85
    exact_reach: float = 0.7
    exact_colour: float = 0.2
    inset: float = 0.88
    inset_side: float = 0.7
    persistence: float = 0.65


@dataclass(frozen=True)
class SeamEvidence:
    """The best seam candidate of one frame.

    Attributes:
        across: 0 for a vertical line (faces side by side), 1 for a horizontal one (one above the other), 2 for a
            rectangle around one face; its sides stand for the line in what follows.
        position: 0..1 of the picture's width (height for a horizontal line); the left side of a rectangle.
        coverage: share of the line's pixels with a sharp step.
        reach: longest unbroken part of the line, as a share of it.
        strength: 20th percentile of the step along that part, 0..255.
        colour: Bhattacharyya distance 0..1 between the strips either side.
        gutter: width, as a share of the picture, of an even bar between two steps; 0 where there is none.
        lean: how far the line's lower third lies from its upper third, pixels at ``HEIGHT`` rows.
    """

    across: int
    position: float
    coverage: float
    reach: float
    strength: float
    colour: float
    gutter: float
    lean: float

    def to_row(self) -> list[float]:
        """The values in the order of ``EVIDENCE``."""
        return [float(getattr(self, name)) for name in EVIDENCE]


def seam_evidence(rgb: UInt8, box_a: Float32, box_b: Float32) -> SeamEvidence | None:
    """Look for a seam between two faces in one frame.

    Args:
        rgb: [H, W, 3] uint8.
        box_a, box_b: [4] face boxes in pixels of ``rgb``, either order.

    Returns:
        The best candidate; None where the faces leave no room for a line between them.
    """
    centre_a, centre_b = (box_a[:2] + box_a[2:]) / 2, (box_b[:2] + box_b[2:]) / 2
    found = []
    for across in (0, 1):
        lo, hi = sorted((float(centre_a[across]), float(centre_b[across])))
        extent = float(min(box_a[2 + across] - box_a[across], box_b[2 + across] - box_b[across]))
        if hi - lo >= 0.75 * extent:
            picture = rgb if across == 0 else turned(rgb)
            one = _best_line(picture, lo, hi, across)
            if one is not None:
                found.append(one)
    part, scale = reduced(rgb, HEIGHT)
    for face, other in ((box_a, box_b), (box_b, box_a)):
        inset = find_inset(part, face * scale, other * scale)
        if inset is not None:
            place = (inset.left, inset.coverage, inset.weakest, inset.strength, inset.colour)
            found.append(SeamEvidence(2, *place, 0.0, 0.0))
    return max(found, key=_told, default=None)


def _told(one: SeamEvidence) -> tuple[bool, float, int]:
    """What makes one candidate better than another: a closed rectangle before any line."""
    rectangle = one.across == 2 and one.coverage >= SplitOptions.inset and one.reach >= SplitOptions.inset_side
    return rectangle, one.coverage * min(one.strength, 30.0), -one.across


def _best_line(rgb: UInt8, lo: float, hi: float, across: int) -> SeamEvidence | None:
    """The best vertical line between columns lo and hi."""
    height, width = rgb.shape[:2]
    scale = min(1.0, HEIGHT / min(height, width))
    margin = (STRIP + 4) / scale
    left, right = max(0, int(lo - margin)), min(width, int(hi + margin) + 1)
    part = rgb[:, left:right]
    if scale < 1:
        size = (max(8, round((right - left) * scale)), round(height * scale))
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    lit = part.max(axis=(1, 2)) > 24  # letterbox bars above and below are not part of the picture
    part = part[lit]
    if part.shape[0] < HEIGHT // 4 or part.shape[1] < 16:
        return None
    step, near = sharp_steps(part)
    first, last = int((lo - left) * scale), int((hi - left) * scale) - 1
    first, last = max(first, 3), min(last, near.shape[1] - 3)
    if last - first < 4:
        return None
    coverage = near[:, first:last].mean(axis=0)
    best = np.flatnonzero(coverage >= coverage.max() - 0.02) + first
    column = int(best[np.argmax([step[:, c - 1 : c + 1].mean() for c in best])])
    line = near[:, column]
    start, end = _longest_run(line)
    pair = np.maximum(step[start:end, column], step[start:end, column - 1])
    strength = float(np.percentile(pair, 20)) if end > start else 0.0
    rows = slice(start, end) if end - start > 8 else slice(None)
    gutter, shift = _gutter(part[rows].mean(axis=2, dtype=np.float32), column, coverage, first)
    colour = _colour_across(part[rows], column - 1 - gutter, column + 3 + gutter)
    return SeamEvidence(
        across,
        (left + (column + 1 + shift) / scale) / width,
        float(coverage.max()),
        (end - start) / len(line),
        strength,
        colour,
        gutter / scale / width,
        _lean(part[rows], column + 1),
    )


def _longest_run(line: npt.NDArray[np.bool_], gap: int = 2) -> tuple[int, int]:
    """First and end index of the longest run of True, bridging gaps of up to ``gap``."""
    hits = np.flatnonzero(line)
    if not len(hits):
        return 0, 0
    breaks = np.flatnonzero(np.diff(hits) > gap + 1)
    starts = np.concatenate([[0], breaks + 1])
    ends = np.concatenate([breaks, [len(hits) - 1]])
    k = int(np.argmax(hits[ends] - hits[starts]))
    return int(hits[starts[k]]), int(hits[ends[k]]) + 1


def _lean(part: UInt8, column: int) -> float:
    """Drift of a line from the upper to the lower third of these rows: the shift that best aligns their steps.

    Half a degree moves it by 1.7 px over 288 rows; an edited seam stays within a tenth.
    """
    near = part[:, max(0, column - 6) : column + 6].astype(np.int16)
    step = (np.abs(np.diff(near, axis=1)).max(axis=2) >= STEP).astype(np.float64)
    third = len(step) // 3
    upper, lower = (np.mean(rows, axis=0) for rows in (step[:third], step[-third:]))
    upper, lower = upper - np.median(upper), lower - np.median(lower)
    reach = range(-3, 4)
    fit = [float((upper[3:-3] * lower[3 + k : len(lower) - 3 + k]).sum()) for k in reach]
    best = int(np.argmax(fit))
    if not 0 < best < len(fit) - 1:
        return float(abs(reach[best]))
    curve = fit[best - 1] - 2 * fit[best] + fit[best + 1]
    return float(abs(reach[best] + 0.5 * (fit[best - 1] - fit[best + 1]) / curve)) if curve < 0 else 0.0


def _gutter(brightness: Float32, column: int, coverage: npt.NDArray[np.float64], first: int) -> tuple[int, float]:
    """Width of the even bar that starts or ends at ``column``, and where its middle lies from there.

    Graphics are even; rooms hardly ever are. (0, 0.0) where there is no such bar.
    """
    strong = np.flatnonzero(coverage >= 0.65 * coverage.max()) + first
    column = int(column)
    right = column + 3 + _even_run(brightness[:, column + 3 :])
    left = column - _even_run(brightness[:, :column][:, ::-1])
    for other in strong[np.argsort(-np.abs(strong - column))]:
        # The columns inside are those clear of both steps.
        if (column + 3 < other <= right) or (left <= other + 3 < column):
            return abs(int(other) - column), (int(other) - column) / 2
    return 0, 0.0


def _even_run(columns: Float32) -> int:
    """How many of these columns, from the first on, are even down their rows and alike."""
    low, high = np.inf, -np.inf
    for k in range(columns.shape[1]):
        column = columns[:, k]
        middle = float(np.median(column))
        low, high = min(low, middle), max(high, middle)
        if high - low >= 8 or 1.48 * float(np.median(np.abs(column - middle))) >= 3.5:
            return k
    return columns.shape[1]


def _colour_across(part: UInt8, left: int, right: int) -> float:
    """Colour difference of the two sides of a line that lies between columns left and right.

    The smaller of two distances: of the strips next to the line, and of those farther out. A pillar differs from the
    wall beside it, but the wall goes on behind it.
    """
    distances = []
    for near, far in ((0, STRIP), (STRIP, 4 * STRIP)):
        sides = part[:, max(0, left - far) : max(0, left - near)], part[:, right + near : right + far]
        if all(side.shape[1] >= STRIP // 2 for side in sides):
            distances.append(colour_distance(*sides))
    return min(distances, default=0.0)


def is_seam(rows: Float32, options: SplitOptions | None = None) -> npt.NDArray[np.bool_]:
    """Which evidence rows show a seam.

    Args:
        rows: [S, 8] in the order of ``EVIDENCE``; rows of zeros (no candidate) show none.

    Returns:
        [S] bool.
    """
    options = options or SplitOptions()
    across, position, coverage, reach, strength, colour, gutter, lean = (
        np.asarray(rows, np.float64).reshape(-1, len(EVIDENCE)).T
    )
    away = np.abs(position[:, None] - np.array([1 / 2, 1 / 3, 2 / 3])).min(axis=1)
    usual = away < 0.015
    whole = coverage >= np.where(usual, options.usual_coverage, options.coverage)
    partial = (coverage >= options.partial_coverage) & (reach >= 0.6) & (usual | (gutter > 0))
    # A pillar has two edges, which show as a bar; a picture edited from two rooms has one.
    unbroken = (coverage >= options.unbroken) & (reach >= options.unbroken) & (gutter == 0)
    unbroken &= colour >= options.unbroken_colour
    exact = (away < options.exact) & (lean <= LEAN_PX / 3) & (gutter == 0) & (colour >= options.exact_colour)
    exact &= (coverage >= options.exact_coverage) & (reach >= options.exact_reach)
    told = ((whole | partial) & (colour >= options.colour)) | unbroken | exact
    told = np.where(across == 2, (coverage >= options.inset) & (reach >= options.inset_side), told)
    seam = told & (strength >= options.strength) & (lean <= LEAN_PX)
    return np.asarray(seam, dtype=np.bool_)


def split_detail(rows: Float32, options: SplitOptions | None = None) -> str:
    """Decide for a shot: text that says what was seen where it is a split screen, "" where it is not.

    Args:
        rows: [S, 8] evidence of the shot's samples with two faces; zeros where a frame had no candidate.
    """
    options = options or SplitOptions()
    rows = np.asarray(rows, np.float32).reshape(-1, len(EVIDENCE))
    seam = is_seam(rows, options)
    if not seam.any():
        return ""
    for across, kind in enumerate(("vertical seam", "horizontal seam", "window around one face")):
        mine = seam & (rows[:, 0] == across)
        if not mine.any():
            continue
        place = float(np.median(rows[mine, 1]))
        same = mine & (np.abs(rows[:, 1] - place) < SAME_PLACE)
        if same.sum() >= options.persistence * len(rows):
            coverage, strength, colour = np.median(rows[same][:, [2, 4, 5]], axis=0)
            return (
                f"{kind} at {place:.3f} of the picture in {int(same.sum())} of "
                f"{len(rows)} samples: coverage {coverage:.2f}, step {strength:.0f}, colour distance {colour:.2f}"
            )
    return ""
