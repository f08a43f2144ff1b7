"""What tracking costs beyond the landmark network itself, on real clips, single-threaded CPU time.

    python bench/track.py CLIP... [--json]

"bare" runs the landmark network alone on exactly the crops that the tracker gave it for frames it kept, in the same
run. The ratio is the tracker's whole cost per measured face-frame (detection, cropping, checks, appearance, faces
that were tried and dropped) over the bare cost. Decoding is not counted.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
from duologue.transforms.detect_faces import Detections, FaceDetector
from duologue.transforms.face_mesh import FaceMesh, MeshFace, Region
from duologue.transforms.identify import AppearanceIdentifier
from duologue.transforms.track import TrackOptions, track_piece


class _Frame:
    def __init__(self, time_s: float, rgb: np.ndarray) -> None:
        self.time_s, self.rgb = time_s, rgb


class _Clocked:
    """Counts calls and CPU seconds of a model's one verb."""

    def __init__(self) -> None:
        self.calls, self.seconds = 0, 0.0

    def run(self, work, *args):
        start = time.process_time()
        result = work(*args)
        self.seconds += time.process_time() - start
        self.calls += 1
        return result


class _Mesh(_Clocked):
    def __init__(self) -> None:
        super().__init__()
        self.model, self.crops = FaceMesh(), []

    def measure(self, rgb: np.ndarray, region: Region) -> MeshFace:
        face = self.run(self.model.measure, rgb, region)
        self.crops.append(face.crop)
        return face


class _Detector(_Clocked):
    def __init__(self) -> None:
        super().__init__()
        self.model = FaceDetector()

    def detect(self, rgb: np.ndarray, smallest_px: float, enough: int = 0) -> Detections:
        return self.run(self.model.detect, rgb, smallest_px, enough)


def measure(path: Path, most_s: float) -> dict[str, float]:
    """Figures of one clip, its first ``most_s`` seconds."""
    video = cv2.VideoCapture(str(path))
    fps = video.get(cv2.CAP_PROP_FPS)
    frames = []
    while len(frames) < most_s * fps:
        ok, bgr = video.read()
        if not ok:
            break
        frames.append(_Frame(len(frames) / fps, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))
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
    return {
        "frames": len(frames),
        "face_frames": kept,
        "network_calls": mesh.calls,
        "detector_calls": detector.calls,
        "total_s": total,
        "bare_ms": 1e3 * bare,
        "mesh_ms": 1e3 * mesh.seconds / max(mesh.calls, 1),
        "detector_ms_per_frame": 1e3 * detector.seconds / len(frames),
        "track_ms_per_face_frame": 1e3 * total / max(kept, 1),
        "ratio": total / max(kept * bare, 1e-9),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--most-s", type=float, default=8.0, help="seconds of each clip")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows = {path.name: measure(path, options.most_s) for path in options.clips}
    for name, row in rows.items():
        print(f"{name:32s} " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()))
    kept = sum(r["face_frames"] for r in rows.values())
    ceiling = sum(r["face_frames"] * r["bare_ms"] for r in rows.values())
    spent = sum(1e3 * r["total_s"] for r in rows.values())
    figures = {
        "track_ratio": round(spent / ceiling, 3),
        "track_ms_per_face_frame": round(spent / kept, 3),
        "bare_ms_per_face_frame": round(ceiling / kept, 3),
        "clips": {name: {k: round(v, 3) for k, v in row.items()} for name, row in rows.items()},
    }
    if options.json:
        print(json.dumps(figures))
    else:
        print(f"tracking costs {figures['track_ratio']} x the bare network")


if __name__ == "__main__":
    main()
