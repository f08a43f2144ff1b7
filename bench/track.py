"""What tracking costs beyond the landmark network itself, single-threaded CPU time.

    python bench/track.py [CLIP...] [--json]
    python bench/track.py --confidence [--json]

"bare" runs the landmark network alone on exactly the crops that the tracker gave it for frames it kept, in the same
run. The ratio is the tracker's whole cost per measured face-frame (detection, cropping, checks, appearance, faces
that were tried and dropped) over the bare cost. Decoding is not counted. "solution" is MediaPipe's own FaceMesh, which
adds its detector and tracker, on the same crops. Without clips a synthetic conversation is filmed.

--confidence degrades two public-domain portraits (blur, noise, cover, small size) and compares the expected landmark
error behind ``confidence`` with the true one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from duologue.schemas.tracks import face_scale_px
from duologue.transforms.decode import Frame
from duologue.transforms.detect_faces import Detections, FaceDetector
from duologue.transforms.face_mesh import FaceMesh, MeshFace, Region, region_from_landmarks, sharpness
from duologue.transforms.face_quality import expected_error, implausible, rigid_change
from duologue.transforms.identify import AppearanceIdentifier
from duologue.transforms.planar import Pixels
from duologue.transforms.track import TrackOptions, track_piece

T = TypeVar("T")


class _Clocked:
    """Counts calls and CPU seconds of a model's one verb."""

    def __init__(self) -> None:
        self.calls, self.seconds = 0, 0.0

    def run(self, work: Callable[[], T]) -> T:
        start = time.process_time()
        result = work()
        self.seconds += time.process_time() - start
        self.calls += 1
        return result


class _Mesh(_Clocked):
    def __init__(self) -> None:
        super().__init__()
        self.model = FaceMesh()
        self.crops: list[np.ndarray] = []

    def measure(self, picture: Pixels, region: Region) -> MeshFace:
        return self.measure_all(picture, [region])[0]

    def measure_all(self, picture: Pixels, regions: Sequence[Region]) -> list[MeshFace]:
        faces = self.run(lambda: self.model.measure_all(picture, regions))
        self.calls += len(faces) - 1
        self.crops += [face.crop for face in faces]
        return faces


class _Detector(_Clocked):
    def __init__(self) -> None:
        super().__init__()
        self.model = FaceDetector(wide=True)

    def detect(
        self, rgb: np.ndarray, smallest_px: float, enough: int = 0, seen: Detections | None = None
    ) -> Detections:
        return self.run(lambda: self.model.detect(rgb, smallest_px, enough, seen))


def film(folder: Path, seconds: float) -> list[Path]:
    """A synthetic conversation."""
    made = folder / "conversation"
    command = [sys.executable, "-m", "duologue.cli", "synthesize", "--out", str(made), "--seconds", str(seconds)]
    subprocess.run(command, check=True, capture_output=True)
    return sorted(made.glob("*.mp4"))


def measure(path: Path, most_s: float) -> dict[str, float]:
    """Figures of one clip, its first ``most_s`` seconds."""
    video = cv2.VideoCapture(str(path))
    fps = video.get(cv2.CAP_PROP_FPS)
    frames: list[Frame] = []
    while len(frames) < most_s * fps:
        ok, bgr = video.read()
        if not ok:
            break
        frames.append(Frame(len(frames) / fps, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))
    mesh, detector, identifier = _Mesh(), _Detector(), AppearanceIdentifier()
    track_piece(frames[:10], TrackOptions(), detector, mesh, identifier)
    mesh.calls = detector.calls = 0
    mesh.seconds = detector.seconds = 0.0
    mesh.crops.clear()
    start = time.process_time()
    piece = track_piece(frames, TrackOptions(), detector, mesh, identifier)
    total = time.process_time() - start
    kept = sum(int(t.valid.sum()) for t in piece.tracklets)
    start = time.process_time()
    for crop in mesh.crops:
        mesh.model.infer(crop)
    bare = (time.process_time() - start) / max(len(mesh.crops), 1)
    solution = _solution_seconds(mesh.crops[:200])
    return {
        "frames": len(frames),
        "face_frames": kept,
        "network_calls": mesh.calls,
        "detector_calls": detector.calls,
        "total_s": total,
        "bare_ms": 1e3 * bare,
        "solution_ms": 1e3 * solution,
        "mesh_ms": 1e3 * mesh.seconds / max(mesh.calls, 1),
        "detector_ms_per_frame": 1e3 * detector.seconds / len(frames),
        "track_ms_per_face_frame": 1e3 * total / max(kept, 1),
        "ratio": total / max(kept * bare, 1e-9),
    }


def _solution_seconds(crops: list[np.ndarray]) -> float:
    import mediapipe

    with mediapipe.solutions.face_mesh.FaceMesh(max_num_faces=1, refine_landmarks=True) as solution:
        solution.process(crops[0])
        start = time.process_time()
        for crop in crops:
            solution.process(crop)
        return (time.process_time() - start) / len(crops)


def confidence() -> dict[str, object]:
    """Expected against true landmark error under known degradations, as fractions of face scale."""
    import matplotlib.cbook
    import skimage.data
    from scipy.stats import spearmanr

    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    hopper = np.asarray(cv2.imread(str(path)))[..., ::-1]
    mesh, rng = FaceMesh(), np.random.default_rng(1)
    true, expected = [], []
    for portrait, region in ((skimage.data.astronaut(), Region(222, 122, 170)), (hopper, Region(258, 190, 300))):
        portrait = np.ascontiguousarray(portrait)
        for _ in range(3):
            clean = mesh.measure(portrait, region)
            region = region_from_landmarks(clean.landmarks)
        for face_px in (40, 70, 110):
            scale = face_px / float(np.ptp(clean.landmarks[:468, 1]))
            small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            truth = clean.landmarks.copy()
            truth[:, :2] = (clean.landmarks[:, :2] + 0.5) * scale - 0.5
            truth[:, 2] *= scale
            for image in _degraded(small, truth, face_px, rng):
                before = None
                for _ in range(4):
                    sway = region_from_landmarks(truth)
                    x, y = rng.normal(0, 0.01 * sway.side, 2)
                    seen = mesh.measure(image, Region(sway.x + x, sway.y + y, sway.side, rng.normal(0, 0.03)))
                    seen = mesh.measure(image, region_from_landmarks(seen.landmarks))
                    change = float("nan") if before is None else rigid_change(before, seen.landmarks)
                    before = seen.landmarks
                    if seen.logit < TrackOptions.keep_logit or implausible(seen):
                        continue
                    expected.append(expected_error(seen.landmarks, seen.logit, change, sharpness(seen.crop)))
                    off = np.linalg.norm(seen.landmarks[:468, :2] - truth[:468, :2], axis=1).mean()
                    true.append(float(off / face_scale_px(truth)))
    errors, guesses = np.array(true), np.array(expected)
    bands = {}
    for low, high in ((0, 0.025), (0.025, 0.035), (0.035, 0.05), (0.05, 0.07), (0.07, 0.1), (0.1, 0.15)):
        here = errors[(guesses >= low) & (guesses < high)]
        if len(here):
            bands[f"{low}-{high}"] = [len(here), *np.round(np.percentile(here, [10, 50, 90]), 3).tolist()]
    rank = float(spearmanr(errors, guesses)[0])
    return {"confidence_spearman": round(rank, 3), "frames": len(errors), "true_error_by_expected_n_p10_p50_p90": bands}


def _degraded(rgb: np.ndarray, landmarks: np.ndarray, face_px: int, rng: np.random.Generator) -> list[np.ndarray]:
    made = [rgb]
    made += [cv2.GaussianBlur(rgb, (0, 0), share * face_px) for share in (0.02, 0.04, 0.07, 0.1)]
    made += [np.clip(rgb + rng.normal(0, s, rgb.shape), 0, 255).astype(np.uint8) for s in (8, 16, 32, 50, 80)]
    x0, y0 = landmarks[:468, :2].min(axis=0).astype(int)
    x1, y1 = landmarks[:468, :2].max(axis=0).astype(int)
    for share in (0.15, 0.3, 0.45, 0.6):
        for side in range(3):
            covered = rgb.copy()
            if side == 0:
                covered[:, : x0 + int(share * (x1 - x0))] = (60, 70, 80)
            elif side == 1:
                covered[y1 - int(share * (y1 - y0)) :] = (150, 110, 90)
            else:
                covered[: y0 + int(share * (y1 - y0))] = (40, 40, 40)
            made.append(covered)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--confidence", action="store_true", help="expected against true landmark error")
    parser.add_argument("--most-s", type=float, default=8.0, help="seconds of each clip")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.confidence:
        print(json.dumps(confidence(), indent=None if options.json else 1))
        return
    with tempfile.TemporaryDirectory() as folder:
        clips = options.clips or film(Path(folder), options.most_s)
        rows = {path.name: measure(path, options.most_s) for path in clips}
    for name, row in rows.items():
        print(f"{name:32s} " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()))
    kept = sum(r["face_frames"] for r in rows.values())
    ceiling = sum(r["face_frames"] * r["bare_ms"] for r in rows.values())
    spent = sum(1e3 * r["total_s"] for r in rows.values())
    figures = {
        "track_ratio": round(spent / ceiling, 3),
        "track_ms_per_face_frame": round(spent / kept, 3),
        "bare_ms_per_face_frame": round(ceiling / kept, 3),
        "solution_ms_per_face_frame": round(float(np.mean([r["solution_ms"] for r in rows.values()])), 3),
        "clips": {name: {k: round(v, 3) for k, v in row.items()} for name, row in rows.items()},
    }
    if options.json:
        print(json.dumps(figures))
    else:
        print(f"tracking costs {figures['track_ratio']} x the bare network")


if __name__ == "__main__":
    main()
