"""A silent film of two people in one room, from the public-domain portraits of skimage and matplotlib."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

WIDTH, HEIGHT, FPS, SECONDS = 640, 360, 25, 4.0


def write_two_portraits(path: Path) -> Path:
    """Both portraits sway a little, at face scales of about 40 px."""
    import matplotlib.cbook
    import matplotlib.image
    import skimage.data

    hopper = matplotlib.image.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    people = [
        (_soft(skimage.data.astronaut()[0:300, 90:370]), 0.3 * WIDTH, 0.0),
        (_soft(hopper[20:420, 70:440]), 0.7 * WIDTH, 1.5),
    ]
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    room = np.stack([120 + 20 * x / WIDTH, 115 + 20 * y / HEIGHT, 105 + 10 * x / WIDTH], -1).astype(np.float32)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "veryfast", "crf": "18"}
        for index in range(round(SECONDS * FPS)):
            picture = room.copy()
            for patch, centre, phase in people:
                sway = math.sin(2 * math.pi * 0.4 * index / FPS + phase)
                _paste(picture, patch, centre + 12 * sway, 0.55 * HEIGHT + 4 * sway, 4 * sway)
            frame = av.VideoFrame.from_ndarray(picture.round().astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _soft(rgb: np.ndarray, height: int = 210) -> np.ndarray:
    """[h, w, 4] float32: the picture at ``height``, its alpha fading to the edges."""
    small = cv2.resize(rgb, (round(rgb.shape[1] * height / rgb.shape[0]), height), interpolation=cv2.INTER_AREA)
    h, w = small.shape[:2]
    y, x = np.mgrid[:h, :w]
    edge = np.minimum(np.minimum(x, w - 1 - x) / (0.2 * w), np.minimum(y, h - 1 - y) / (0.15 * h))
    return np.dstack([small.astype(np.float32), np.clip(edge, 0, 1).astype(np.float32)])


def _paste(picture: np.ndarray, patch: np.ndarray, x: float, y: float, turn_deg: float) -> None:
    h, w = patch.shape[:2]
    place = cv2.getRotationMatrix2D((w / 2, h / 2), turn_deg, 1.0)
    place[:, 2] += (x - w / 2, y - h / 2)
    moved = cv2.warpAffine(patch, place, (picture.shape[1], picture.shape[0]), flags=cv2.INTER_LINEAR)
    picture += moved[..., 3:] * (moved[..., :3] - picture)
