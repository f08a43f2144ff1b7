"""Seams of edited pictures reject; door frames, pillars, corners and tables of real rooms do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from duologue.transforms.split_screen import EVIDENCE, is_seam, seam_evidence, split_detail

SHARED = Path(__file__).parents[2].parent / "shared"
W, H = 480, 270
BOXES = np.array([[80, 60, 150, 130], [330, 70, 400, 140]], np.float32)
Picture = np.ndarray


def room(seed: int, width: int = W, height: int = H, tone: tuple[int, int, int] = (120, 110, 100)) -> Picture:
    """A soft room: broad patches of related colour and fine grain."""
    rng = np.random.default_rng(seed)
    broad = rng.normal(0, 16, (5, 8, 1)) + rng.normal(0, 5, (5, 8, 3))
    return np.asarray(np.array(tone) + cv2.resize(broad, (width, height), interpolation=cv2.INTER_CUBIC))


def people(picture: Picture, boxes: np.ndarray, t: int) -> Picture:
    """A head and shoulders at each box, moving a little."""
    out = picture.copy()
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        dx, dy = 3 * np.sin(t / 2 + k), 2 * np.cos(t / 3 + k)
        cx, cy, w = (x0 + x1) / 2 + dx, (y0 + y1) / 2 + dy, x1 - x0
        body = (60, 70, 130) if k else (140, 50, 60)
        cv2.ellipse(out, (int(cx), int(cy + 2.1 * w)), (int(1.1 * w), int(1.4 * w)), 0, 0, 360, body, -1)
        cv2.ellipse(out, (int(cx), int(cy)), (int(0.5 * w), int(0.65 * w)), 0, 0, 360, (200, 160, 140), -1)
    return out


def developed(picture: Picture, t: int) -> np.ndarray:
    """Grain and compression as a camera and a codec leave them."""
    rng = np.random.default_rng(t)
    image = np.clip(picture + rng.normal(0, 2.5, picture.shape), 0, 255).astype(np.uint8)
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], 1))


def decide(make: Callable[[int], Picture], boxes: np.ndarray = BOXES, samples: int = 12) -> str:
    rows = []
    for t in range(samples):
        seam = seam_evidence(developed(make(t), t), boxes[0], boxes[1])
        rows.append(seam.to_row() if seam else [0.0] * len(EVIDENCE))
    return split_detail(np.array(rows, np.float32))


def side_by_side(t: int, tones: tuple[tuple[int, int, int], ...] = ((150, 60, 60), (60, 90, 130))) -> Picture:
    left = people(room(1, tone=tones[0]), BOXES, t)
    right = people(room(2, tone=tones[1]), BOXES, t)
    return np.concatenate([left[:, : W // 2], right[:, W // 2 :]], axis=1)


def inset(t: int, tone: tuple[int, int, int] = (90, 130, 100)) -> Picture:
    """One person fills the picture; the other sits in a small window in its corner."""
    whole = people(room(1), BOXES[:1], t)
    window = people(room(2, tone=tone), np.array([[60, 50, 105, 100]]), t)[:110, :160]
    whole[150:260, 310:470] = window
    return whole


INSET_BOXES = np.array([[80, 60, 150, 130], [370, 200, 415, 250]], np.float32)


def test_a_small_window_in_a_corner() -> None:
    assert "window around one face at 0.64" in decide(inset, INSET_BOXES)


def test_tiles_with_room_around_them() -> None:
    def tiles(t: int) -> Picture:
        out = np.full((H, W, 3), 40.0)
        for k, x in enumerate((16, 246)):
            out[60:210, x : x + 218] = people(room(3 + k), np.array([[80, 40, 130, 95]]), t + k)[:150, :218]
        return out

    boxes = np.array([[96, 100, 146, 155], [326, 100, 376, 155]], np.float32)
    assert decide(tiles, boxes) != ""


def test_a_window_or_a_picture_behind_a_head_keeps_the_shot() -> None:
    def before_a_window(t: int) -> Picture:
        wall = room(5)
        cv2.rectangle(wall, (295, 20), (445, 190), (225, 230, 235), -1)  # exactly upright, its sill behind the person
        cv2.rectangle(wall, (20, 15), (70, 50), (40, 35, 30), -1)
        return people(wall, BOXES, t)

    assert decide(before_a_window) == ""


def test_two_rooms_side_by_side() -> None:
    assert "vertical seam at 0.5" in decide(side_by_side)


def test_seam_away_from_the_middle() -> None:
    def off_centre(t: int) -> Picture:
        left, right = room(1, tone=(150, 60, 60)), room(2, tone=(60, 90, 130))
        return people(np.concatenate([left[:, :207], right[:, 207:]], axis=1), BOXES, t)

    assert "vertical seam at 0.4" in decide(off_centre)


def test_an_unbroken_line_of_like_colours_needs_the_whole_height() -> None:
    row = np.array([0, 0.43, 1.0, 1.0, 25, 0.36, 0.0, 0.05], np.float32)
    assert is_seam(row[None])[0]
    for place, value in ((2, 0.93), (3, 0.9), (5, 0.25), (6, 0.04), (7, 1.2), (4, 5)):
        other = row.copy()
        other[place] = value
        assert not is_seam(other[None])[0], EVIDENCE[place]


def test_two_blurred_backdrops_of_like_colours_are_told_by_the_exact_middle() -> None:
    def call(t: int, seam: int) -> Picture:
        tones = {1: (126, 118, 104), 2: (118, 112, 104)}
        left, right = (cv2.GaussianBlur(room(k, tone=tones[k]), (0, 0), 9) for k in tones)
        both = [people(picture, BOXES, t) for picture in (left, right)]
        picture = np.concatenate([both[0][:, :seam], both[1][:, seam:]], axis=1)
        return np.asarray(cv2.ellipse(picture, (seam - 10, H), (60, 18), 0, 0, 360, (60, 60, 60), -1))  # a shoulder

    assert "vertical seam at 0.500" in decide(lambda t: call(t, W // 2))
    assert decide(lambda t: call(t, W // 2 - 14)) == ""


def test_an_exact_line_needs_its_place_and_its_shape() -> None:
    row = np.array([0, 0.501, 0.86, 0.72, 9, 0.22, 0.0, 0.2], np.float32)
    assert is_seam(row[None])[0]
    for place, value in ((1, 0.504), (2, 0.84), (3, 0.6), (4, 7), (5, 0.18), (6, 0.02), (7, 0.4)):
        other = row.copy()
        other[place] = value
        assert not is_seam(other[None])[0], EVIDENCE[place]


def test_banner_across_both_windows() -> None:
    def news(t: int) -> Picture:
        picture = side_by_side(t)
        picture[205:] = (20, 20, 90)
        picture[215:225, 40:300] = 240
        return picture

    assert "vertical seam" in decide(news)


def test_windows_with_a_gap_and_a_margin() -> None:
    def call(t: int) -> Picture:
        picture = np.full((H, W, 3), 32.0)
        both = side_by_side(t)
        picture[35:235, 20:220] = both[35:235, 20:220]
        picture[35:235, 230:460] = both[35:235, 250:480]
        return picture

    assert "vertical seam" in decide(call)


def test_one_room_above_the_other() -> None:
    boxes = np.array([[200, 20, 240, 60], [205, 170, 245, 210]], np.float32)

    def narrow(t: int) -> Picture:
        upper, lower = room(3, tone=(150, 60, 60)), room(4, tone=(60, 90, 130))
        picture = np.concatenate([upper[: H // 2], lower[H // 2 :]])
        top, bottom = people(picture, boxes[:1], t), people(picture, boxes[1:], t)
        return np.concatenate([top[: H // 2], bottom[H // 2 :]])

    assert "horizontal seam at 0.5" in decide(narrow, boxes)


@pytest.mark.parametrize("seed", range(5))
def test_a_plain_room(seed: int) -> None:
    assert decide(lambda t: people(room(seed), BOXES, t)) == ""


def door(t: int, x: int = 250, top: int = 0, bottom: int = H, blur: float = 0.0, lean: float = 0.0) -> Picture:
    """A room whose right part, behind an edge at x, is another colour."""
    picture, beyond = room(6), room(7, tone=(70, 90, 120))
    mask = np.zeros((H, W))
    for y in range(top, bottom):
        edge = x + lean * (y - H / 2)
        mask[y] = np.clip(np.arange(W) - edge + 0.5, 0, 1)
    if blur:
        mask = cv2.GaussianBlur(mask, (0, 0), blur)
    return people(picture * (1 - mask[..., None]) + beyond * mask[..., None], BOXES, t)


def test_a_door_frame_that_ends() -> None:
    assert decide(lambda t: door(t, top=40, bottom=200)) == ""


def test_a_door_frame_behind_a_table() -> None:
    def table(t: int) -> Picture:
        picture = door(t)
        picture[190:] = (110, 80, 50)
        return picture

    assert decide(table) == ""


def test_a_door_frame_crossed_by_a_shoulder() -> None:
    boxes = BOXES + np.array([[90, 0, 90, 0], [0, 0, 0, 0]], np.float32)

    def crossed(t: int) -> Picture:
        picture, beyond = room(6), room(7, tone=(70, 90, 120))
        return people(np.concatenate([picture[:, :270], beyond[:, 270:]], axis=1), boxes, t)

    assert decide(crossed, boxes) == ""


def test_a_leaning_door_frame() -> None:
    """Half a degree, in the very middle: less than most hand-held cameras tilt."""
    assert decide(lambda t: door(t, x=240, lean=np.tan(np.radians(0.5)))) == ""


def test_a_door_frame_out_of_focus() -> None:
    assert decide(lambda t: door(t, blur=3.0)) == ""


def test_a_pillar_in_front_of_one_wall() -> None:
    def pillar(t: int) -> Picture:
        picture = room(8)
        picture[:, 236:252] = (60, 50, 45)
        return people(picture, BOXES, t)

    assert decide(pillar) == ""


def test_a_seam_that_comes_and_goes_is_a_moving_edge() -> None:
    """The camera pans over a corner: a perfect edge, but never twice at one place."""
    assert decide(lambda t: door(t, x=180 + 11 * t)) == ""


def test_faces_that_overlap_leave_no_room() -> None:
    assert seam_evidence(np.zeros((H, W, 3), np.uint8), BOXES[0], BOXES[0] + 10) is None
    assert split_detail(np.zeros((5, len(EVIDENCE)), np.float32)) == ""
    assert split_detail(np.zeros((0, len(EVIDENCE)), np.float32)) == ""


def test_colour_and_seam_are_both_needed() -> None:
    row = np.array([[0, 0.5, 1.0, 1.0, 40.0, 0.6, 0.0, 0.1]], np.float32)
    assert is_seam(row)[0]
    for column, value in ((2, 0.5), (4, 3.0), (5, 0.1), (7, 1.0)):
        changed = row.copy()
        changed[0, column] = value
        assert not is_seam(changed)[0]
