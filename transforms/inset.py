"""A picture in a picture: a small window with one of two faces in it, laid over the other's picture.

What it leaves is a rectangle of exactly vertical and horizontal sharp lines around one face alone, unbroken under the
chin too, where a window, a mirror or a door behind a person is hidden by the body. Tiles of a call with room around
them are found the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Float32

UInt8 = npt.NDArray[np.uint8]
Int16 = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]

STEP = 8  # least difference (0..255, strongest channel) across a seam's two pixels
STRIP = 16  # pixels either side of a seam whose colours are compared
LEAST_BESIDE = 0.8  # of a line, beside the face alone, to be tried as a side
LARGEST = 0.62  # of the picture's width and height: more is a window of its own, told by one line
TRIED = 6  # lines on each side of the face

_SMOOTH = np.diag(np.full(8, 0.5)) + np.diag(np.full(7, 0.25), 1) + np.diag(np.full(7, 0.25), -1)


@dataclass(frozen=True)
class Inset:
    """A rectangle around a face.

    Attributes:
        left, top, right, bottom: shares 0..1 of the picture.
        coverage: mean share of the sides that has a sharp step; weakest: the least of the four.
        strength: median step along the sides, 0..255. colour: Bhattacharyya distance (0..1) of the picture inside and
            just outside.
    """

    left: float
    top: float
    right: float
    bottom: float
    coverage: float
    weakest: float
    strength: float
    colour: float


def find_inset(part: UInt8, face: Float32, other: Float32) -> Inset | None:
    """The best rectangle around ``face`` that leaves ``other`` out; at most one of its sides is the picture's own.

    Args:
        part: [H, W, 3] the whole picture, about 288 rows. face, other: [4] boxes in its pixels.
    """
    height, width = part.shape[:2]
    x0, y0, x1, y1 = (round(float(v)) for v in face)
    x0, y0, x1, y1 = max(x0, 4), max(y0, 4), min(x1, width - 4), min(y1, height - 4)
    if x1 - x0 < 6 or y1 - y0 < 6:
        return None
    beside_v = sharp_steps(part[y0:y1])[1].mean(0)  # vertical lines; index i is column i + 1
    lefts = _lines(beside_v[: x0 - 1], nearest_last=True)
    rights = x1 + _lines(beside_v[x1:], nearest_last=False)
    if not len(lefts) and not len(rights):
        return None
    beside_h = sharp_steps(turned(part[:, x0:x1]))[1].mean(0)
    tops = _lines(beside_h[: y0 - 1], nearest_last=True)
    bottoms = y1 + _lines(beside_h[y1:], nearest_last=False)
    if sum(len(lines) == 0 for lines in (lefts, rights, tops, bottoms)) > 1:
        return None
    step_v, near_v = sharp_steps(part)
    turned_step, turned_near = sharp_steps(turned(part))
    step_h, near_h = turned_step.T, turned_near.T
    # The picture's own edges, one of which may be a side.
    lefts, tops = np.append(lefts, -1), np.append(tops, -1)
    rights, bottoms = np.append(rights, near_v.shape[1]), np.append(bottoms, near_h.shape[0])
    down, across = _counts(near_v), _counts(turned_near).T
    t, b = np.maximum(tops, 0), np.minimum(bottoms, height)
    lo, hi = np.maximum(lefts, 0), np.minimum(rights, width)

    def column(places: npt.NDArray[np.int64], own: int) -> Floats:
        """[places, T, B] share of each column between tops and bottoms."""
        inside = np.clip(places, 0, near_v.shape[1] - 1)
        share = (down[b][None, :, inside] - down[t][:, None, inside]) / np.maximum(b[None] - t[:, None], 1)[..., None]
        share[..., places == own] = np.nan
        return np.asarray(share.transpose(2, 0, 1))

    def row(places: npt.NDArray[np.int64], own: int) -> Floats:
        """[places, L, R] share of each row between lefts and rights."""
        inside = np.clip(places, 0, near_h.shape[0] - 1)
        share = across[inside][:, None, hi] - across[inside][:, lo, None]
        share = share / np.maximum(hi[None, None] - lo[None, :, None], 1)
        share[places == own] = np.nan
        return np.asarray(share)

    left, right = column(lefts, -1), column(rights, near_v.shape[1])  # [L, T, B], [R, T, B]
    top, bottom = row(tops, -1), row(bottoms, near_h.shape[0])  # [T, L, R], [B, L, R]
    shape = (len(lefts), len(rights), len(tops), len(bottoms))
    sides = np.stack(
        [
            np.broadcast_to(left[:, None], shape),
            np.broadcast_to(right[None], shape),
            np.broadcast_to(top.transpose(1, 2, 0)[..., None], shape),
            np.broadcast_to(bottom.transpose(1, 2, 0)[:, :, None], shape),
        ]
    )
    with np.errstate(invalid="ignore"):
        missing = np.isnan(sides).sum(0)
        weakest = np.nanmin(np.where(np.isnan(sides), 2.0, sides), axis=0)
        coverage = np.nansum(sides, axis=0) / np.maximum(4 - missing, 1)
    wide = (hi[None] - lo[:, None])[:, :, None, None] <= LARGEST * width
    tall = (b[None] - t[:, None])[None, None] <= LARGEST * height
    ox, oy = (float(other[0] + other[2]) / 2, float(other[1] + other[3]) / 2)
    beyond_x = (ox < lo[:, None]) | (ox > hi[None])
    beyond_y = (oy < t[:, None]) | (oy > b[None])
    apart = beyond_x[:, :, None, None] | beyond_y[None, None]
    score = np.where((missing <= 1) & wide & tall & apart, coverage + weakest, -1.0)
    best = np.unravel_index(int(np.argmax(score)), shape)
    if score[best] < 0:
        return None
    i, j, k, m = (int(place) for place in best)
    along = [step_v[t[k] : b[m], c] for c in (lefts[i], rights[j]) if 0 <= c < step_v.shape[1]]
    along += [step_h[r, lo[i] : hi[j]] for r in (tops[k], bottoms[m]) if 0 <= r < step_h.shape[0]]
    return Inset(
        float(lo[i]) / width,
        float(t[k]) / height,
        float(hi[j]) / width,
        float(b[m]) / height,
        float(coverage[best]),
        float(weakest[best]),
        float(np.median(np.concatenate(along))),
        _colour_around(part, int(lo[i]), int(t[k]), int(hi[j]), int(b[m])),
    )


def _counts(near: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """[H + 1, W] how many of each column's first rows are set."""
    whole: npt.NDArray[np.int32] = np.asarray(cv2.integral(near.view(np.uint8)), np.int32)
    return whole[:, 1:] - whole[:, :-1]


def turned(part: UInt8) -> UInt8:
    """[W, H, 3] rows for columns; many times faster than numpy's copy of a transposed view."""
    return np.asarray(cv2.transpose(part), dtype=np.uint8)


def _colour_around(part: UInt8, left: int, top: int, right: int, bottom: int) -> float:
    y0, x0 = max(top - STRIP, 0), max(left - STRIP, 0)
    box = part[y0 : bottom + STRIP, x0 : right + STRIP]
    around = np.ones(box.shape[:2], bool)
    around[top - y0 : bottom - y0, left - x0 : right - x0] = False
    return colour_distance(part[top:bottom, left:right].reshape(-1, 1, 3), box[around][:, None])


def sharp_steps(part: UInt8) -> tuple[Int16, npt.NDArray[np.bool_]]:
    """Differences [H, W - 2] across columns 1 to W - 2 (strongest channel, 0..255), and where one is sharp.

    A step between two pixels shows in either of two columns.
    """
    apart = cv2.absdiff(np.ascontiguousarray(part[:, 2:]), np.ascontiguousarray(part[:, :-2]))
    step: Int16 = np.maximum(np.maximum(apart[..., 0], apart[..., 1]), apart[..., 2]).astype(np.int16)
    around = np.zeros_like(step)
    around[:, 2:-2] = (step[:, :-4] + step[:, 4:]) // 2
    sharp = (step >= STEP) & (step > around + around // 4)
    near = sharp.copy()
    near[:, 1:] |= sharp[:, :-1]
    return step, near


def colour_distance(left: UInt8, right: UInt8) -> float:
    """Bhattacharyya distance between the colour histograms (8 x 8 x 8 RGB, smoothed) of two strips."""
    histograms = []
    for strip in (left, right):
        bins = np.asarray(cv2.calcHist([np.ascontiguousarray(strip)], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3))
        for _ in range(3):  # neighbouring bins are similar colours; each turn smooths one axis and brings up the next
            bins = np.tensordot(bins, _SMOOTH, axes=(0, 0))
        histograms.append(bins / max(float(bins.sum()), 1e-9))
    shared = float(np.sqrt(histograms[0] * histograms[1]).sum())
    return float(np.sqrt(max(0.0, 1.0 - shared)))


def _lines(beside: Floats, *, nearest_last: bool) -> npt.NDArray[np.int64]:
    """Indices of the strongest lines, at most ``TRIED``, one for each run of neighbours; nearer ones first at a tie."""
    strong = beside >= LEAST_BESIDE
    places: list[int] = []
    for k in np.flatnonzero(strong):
        if k and strong[k - 1]:
            if beside[k] > beside[places[-1]]:
                places[-1] = int(k)
        else:
            places.append(int(k))
    order = sorted(places, key=lambda k: (-beside[k], -k if nearest_last else k))
    return np.array(order[:TRIED], np.int64)


def reduced(rgb: UInt8, rows: int) -> tuple[UInt8, float]:
    """The picture at about ``rows`` rows, and its scale."""
    scale = min(1.0, rows / min(rgb.shape[:2]))
    if scale == 1.0:
        return rgb, 1.0
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), scale
