"""How real the rendered faces are: what detectors and descriptors that made none of them say, and what rendering costs.

    python bench/synthesis.py --yunet yunet.onnx --scrfd scrfd_2.5g_kps.onnx --json

Detection: single heads of all identities at given yaws, in a room, at two sizes; a face counts as found when a
detection overlaps the truth's box (of the landmarks that face the camera) with intersection over union >= 0.3.
Cost: process CPU seconds per second of 1280x720 film.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from duologue.bench.shared.report import default_device, machine, parser_of, tell
from duologue.fitting.load_head import load_head_model
from duologue.synthesis.actor import Actor
from duologue.synthesis.avatar import build_avatar
from duologue.synthesis.dress import FLIP
from duologue.synthesis.identities import NAMES, load_identity
from duologue.synthesis.motion import HeadMotion, head_rotation
from duologue.synthesis.rasterize import Canvas, composite
from duologue.synthesis.room import Room
from duologue.synthesis.scenario import Camera, Scenario

WIDTH, HEIGHT = 640, 480
YAWS = (0.0, 15.0, 30.0, 45.0, 60.0, 75.0)
CAMERA = Camera(position=(0.0, 0.0, -1.2), look_at=(0.0, 0.04, 0.0))
FOCALS = (500.0, 1000.0)


def posed(name: str, yaws: np.ndarray, rng: np.random.Generator) -> Actor:
    """One identity at each yaw, with small random pitch, roll and jaw."""
    model = load_head_model("canonical")
    avatar = build_avatar(load_identity(name), model, 1)
    n = len(yaws)
    azimuth = np.radians(yaws)
    rotation = head_rotation(azimuth, np.radians(rng.normal(0, 5, n)), np.radians(rng.normal(0, 4, n)))
    joints = model.posed_joints(avatar.shape)
    middle = 0.5 * (joints[3] + joints[4]) - joints[0]
    jaw = np.zeros((n, 3))
    jaw[:, 0] = np.abs(rng.normal(0, 0.06, n))
    body = head_rotation(azimuth * 0.6, np.zeros(n), np.zeros(n))
    still = np.zeros((n, len(model.expression_names)))
    motion = HeadMotion(
        rotation, -np.einsum("tij,j->ti", rotation @ FLIP, middle), body, still, jaw, np.zeros((n, 2, 3)),
        np.zeros(n, dtype=np.int64),
    )  # fmt: skip
    return Actor(avatar, motion)


def picture(actor: Actor, t: int, focal: float, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB and the box of the landmarks that face the camera."""
    lower, upper = Canvas(WIDTH, HEIGHT, 1), Canvas(WIDTH, HEIGHT, 2)
    camera = replace(CAMERA, focal_px=focal)
    image = background.copy()
    actor.draw(lower, upper, t, camera, focal)
    composite(lower, image)
    composite(upper, image)
    noise = np.random.default_rng(t).normal(0, 2, image.shape)
    front = actor.front_points(t, camera, WIDTH, HEIGHT)
    return np.clip(image + noise, 0, 255).astype(np.uint8), np.concatenate([front.min(0), front.max(0)])


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    size = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(size / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - size))


class YuNet:
    def __init__(self, path: str) -> None:
        self._net = cv2.FaceDetectorYN.create(path, "", (WIDTH, HEIGHT), 0.5)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        _, found = self._net.detect(np.ascontiguousarray(image[..., ::-1]))
        if found is None:
            return np.zeros((0, 4))
        return np.asarray(np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1))


class Scrfd:
    """SCRFD (Guo et al. 2022): three strides, two anchors; scores over 0.5, no suppression (any match counts)."""

    def __init__(self, path: str) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        self._net = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        self._input = self._net.get_inputs()[0].name

    def __call__(self, image: np.ndarray) -> np.ndarray:
        blob = np.zeros((640, 640, 3), np.float32)
        blob[:HEIGHT, :WIDTH] = image
        outputs = self._net.run(None, {self._input: ((blob - 127.5) / 128.0).transpose(2, 0, 1)[None]})
        flat = [np.asarray(o).reshape(-1, np.asarray(o).shape[-1]) for o in outputs]
        boxes = []
        for stride in (8, 16, 32):
            count = 2 * (640 // stride) ** 2
            score = next(o for o in flat if o.shape == (count, 1))[:, 0]
            reach = next(o for o in flat if o.shape == (count, 4)) * stride
            y, x = np.mgrid[: 640 // stride, : 640 // stride] * stride
            centre = np.repeat(np.stack([x, y], -1).reshape(-1, 2), 2, axis=0)
            good = score > 0.5
            boxes.append(np.concatenate([centre - reach[:, :2], centre + reach[:, 2:]], 1)[good])
        return np.concatenate(boxes)


def detection(detectors: dict[str, Any], pictures: list[tuple[float, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Share of faces found, by detector and |yaw|."""
    out: dict[str, Any] = {}
    for name, detector in detectors.items():
        hits: dict[float, list[bool]] = {}
        for yaw, image, box in pictures:
            hits.setdefault(abs(yaw), []).append(any(overlap(b, box) >= 0.3 for b in detector(image)))
        out[f"{name}_found_to_45"] = float(np.mean([h for y, v in hits.items() if y <= 45 for h in v]))
        out[f"{name}_found_45_to_75"] = float(np.mean([h for y, v in hits.items() if y > 45 for h in v]))
        out[f"{name}_by_yaw"] = {f"{y:g}": float(np.mean(v)) for y, v in sorted(hits.items())}
        out[f"{name}_faces"] = sum(len(v) for v in hits.values())
    return out


def cost() -> float:
    """Process CPU seconds per second of the default film, everything compiled and built."""
    from duologue.synthesis.render import render_conversation

    film = replace(Scenario(), seconds=1.0, shots=Scenario().shots[:1])
    with tempfile.TemporaryDirectory() as folder:
        render_conversation(film, folder)
        one = time.process_time()
        render_conversation(film, folder)
        two = time.process_time()
        render_conversation(replace(film, seconds=4.0), folder)
        three = time.process_time()
    return ((three - two) - (two - one)) / 3.0


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--yunet", type=Path, help="YuNet onnx")
    parser.add_argument("--scrfd", type=Path, help="SCRFD onnx with keypoints")
    parser.add_argument("--repeats", type=int, default=2, help="random small poses per identity, yaw and size")
    parser.add_argument("--skip-cost", action="store_true", help="do not film")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detectors: dict[str, Any] = {}
    if options.yunet:
        detectors["yunet"] = YuNet(str(options.yunet))
    if options.scrfd:
        detectors["scrfd"] = Scrfd(str(options.scrfd))
    rng = np.random.default_rng(7)
    yaws = np.array([s * y for y in YAWS for s in (-1.0, 1.0)] * options.repeats)
    pictures = []
    for name in NAMES if detectors else ():
        actor = posed(name, yaws, rng)
        for focal in FOCALS:
            room = Room(3).background(replace(CAMERA, focal_px=focal), WIDTH, HEIGHT, focal)
            pictures += [(float(y), *picture(actor, t, focal, room)) for t, y in enumerate(yaws)]
    result: dict[str, Any] = {"identities": len(NAMES), **detection(detectors, pictures)}
    if not options.skip_cost:
        result["cpu_seconds_per_second_720p"] = cost()
    result |= machine(default_device())
    tell(result, options.json)


if __name__ == "__main__":
    main()
