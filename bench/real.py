"""Checks without truth on real clips of two people: what a fit must satisfy whatever the truth is.

    python bench/real.py [--media FOLDER] [--ict FOLDER_OR_ARCHIVE] [--work FOLDER] [--json] [--write]

* held out: every fifth FaceMesh landmark (0, 5, 10, ...) is hidden from the fit; the stored row (shape, expression,
  jaw, pose: no personal deformation that a row does not hold) must predict it. Error of a face-frame: mean distance
  over the held-out landmarks that the head model has, in % of face scale; then the median over face-frames.
* mirror: the clips are flipped left to right (ffmpeg hflip) and curated again; the result must be the mirrored one.
* identity: cosine between the identity coefficients of shots of one person, and of different people.
* half rate: every second frame alone must give the same heads.

The clips are curated (geometry only) into --work, a temporary folder by default; the fits start from the landmarks
stored there. People in the clips are told apart by hand: PEOPLE.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ffmpeg
import numpy as np
import numpy.typing as npt
import torch
from duologue.bench.fit import open_ict
from duologue.cli import main as duologue
from duologue.fitting.fit import FitOptions, HeadFitter
from duologue.fitting.head_model import HeadModel, load_head_model, rotation_matrix
from duologue.fitting.reduce import reduce, reduced_landmarks
from duologue.fitting.reduced import ReducedModel
from duologue.schemas import landmarks
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import BadInput
from duologue.schemas.heads import FittedPair, HeadTrack
from duologue.schemas.landmarks import tracks_from_row
from duologue.schemas.row import table_to_rows
from duologue.schemas.shard import open_shard
from duologue.schemas.tracks import ClipTracks, FaceTrack, face_scale_px

Array = npt.NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "bench" / "results" / "real.json"
CLIPS = ("two_sitcom_cuts.mp4", "two_faces_family_silent.mp4", "two_faces_headpose.gif")
SETTINGS = ("run.geometry_only=true", "select.sound=false", "clips.shortest_s=2.0")
HELD_OUT = tuple(range(0, 468, 5))
BARS = {"ict": 4.2, "canonical": 6.0}
FLIP, MIRROR = np.diag([1.0, -1.0, -1.0]), np.diag([-1.0, 1.0, 1.0])
# Who is who in two_sitcom_cuts.mp4: start of the shot, about, seconds -> the people a and b.
PEOPLE = {1.7: ("woman in brown", "man in stripes"), 13.0: ("blonde woman", "man in red"),
          18.4: ("woman in brown", "man in stripes"), 20.6: ("blonde woman", "man in red")}  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """A curated clip: its file's name, its landmarks."""

    name: str
    tracks: ClipTracks

    @property
    def label(self) -> str:
        return f"{self.name} {self.tracks.start_s:.1f} s"


def curated(videos: list[Path], out: Path) -> list[Clip]:
    """The clips that the pipeline finds, from their stored landmarks, by name and time."""
    words = ["curate", *map(str, videos), "--out", str(out), "--quiet"]
    for setting in SETTINGS:
        words += ["--set", setting]
    if duologue(words) != 0:
        raise SystemExit("the clips could not be curated")
    data = Dataset(out)
    names = {row["pair_id"]: Path(row["source_uri"]).name for row in data.table(["pair_id", "source_uri"]).to_pylist()}
    clips = []
    for entry in data.manifest.of_kind("landmarks"):
        for row in table_to_rows(open_shard(data.files, entry.path).read(), landmarks.BY_NAME):
            clips.append(Clip(names[row["pair_id"]], tracks_from_row(row)))
    return sorted(clips, key=lambda clip: (clip.name, clip.tracks.start_s))


def mirrored(videos: list[Path], folder: Path) -> list[Path]:
    """The videos flipped left to right, sound and times as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for video in videos:
        path = folder / f"{video.stem}.mkv"
        if not path.exists():
            source = ffmpeg.input(str(video), copyts=None)
            options = {"vcodec": "libx264", "crf": 8, "preset": "fast", "pix_fmt": "yuv444p", "vsync": "passthrough"}
            ffmpeg.output(source, str(path), vf="hflip", acodec="copy", **options).run(
                quiet=True, overwrite_output=True
            )
        out.append(path)
    return out


def source_rate(tracks: ClipTracks) -> float:
    return float(1 / np.median(np.diff(tracks.times)))


def fitted(fitter: HeadFitter, tracks: ClipTracks) -> FittedPair | None:
    result = fitter.fit([tracks])[0]
    if isinstance(result, BadInput):
        print(f"  not fitted: {tracks.video_id[:8]} {tracks.start_s:.1f} s: {result}", file=sys.stderr)
        return None
    return result


def heads(pair: FittedPair, tracks: ClipTracks) -> tuple[tuple[HeadTrack, FaceTrack], tuple[HeadTrack, FaceTrack]]:
    return (pair.a, tracks.a), (pair.b, tracks.b)


def matrices(head: HeadTrack, rows: npt.NDArray[np.int64]) -> Array:
    return np.asarray(rotation_matrix(head.rotation[rows].astype(np.float64)))


def reprojected(pair: FittedPair, head: HeadTrack, model: ReducedModel, rows: npt.NDArray[np.int64]) -> Array:
    """[N, L, 2] pixels: where a row says that the model's landmarks are."""
    points = reduced_landmarks(model, head.shape, head.expression[rows], head.jaw[rows])
    root = model.joints[0] + model.joint_dirs[0] @ head.shape.astype(np.float64)
    turned = (points - root) @ (matrices(head, rows) @ FLIP).transpose(0, 2, 1)
    camera = head.scale * turned + head.translation[rows, None]
    return np.asarray(camera[..., :2] / camera[..., 2:] * pair.focal_px + [pair.width / 2, pair.height / 2])


def held_out_errors(model: ReducedModel, clip: Clip, options: FitOptions, points: tuple[int, ...]) -> dict[str, Array]:
    """Per face-frame mean error over ``points``, % of face scale, by person."""
    tracks = clip.tracks
    # On the source's own frames, so that nothing measured is interpolated.
    fitter = HeadFitter(model, replace(options, fps=source_rate(tracks)))
    pair = fitted(fitter, tracks)
    if pair is None:
        return {}
    keep = np.nonzero(np.isin(model.landmarks, points))[0]
    out = {}
    for head, track in heads(pair, tracks):
        nearest = np.abs(tracks.times[None] - pair.times[:, None]).argmin(1)
        same = np.abs(tracks.times[nearest] - pair.times) < 2e-3
        rows = np.nonzero(head.valid & same & track.valid[nearest])[0]
        seen = track.landmarks[nearest[rows]]
        miss = np.linalg.norm(
            reprojected(pair, head, model, rows)[:, keep] - seen[:, model.landmarks[keep], :2], axis=-1
        )
        out[head.track_id] = 100 * miss.mean(1) / face_scale_px(seen)
    return out


def held_out(model: ReducedModel, clips: list[Clip], options: FitOptions) -> dict[str, Any]:
    hidden = replace(options, held_out=HELD_OUT)
    per_clip: dict[str, float] = {}
    everything: list[Array] = []
    for clip in clips:
        errors = held_out_errors(model, clip, hidden, HELD_OUT)
        if errors:
            per_clip[clip.label] = float(np.median(np.concatenate(list(errors.values()))))
            everything += errors.values()
    return {"median_pct": float(np.median(np.concatenate(everything))), "clips": per_clip}


def vector_angles(a: Array, b: Array) -> Array:
    """Degrees between rotation matrices [N, 3, 3]."""
    return np.degrees(np.arccos(np.clip((np.einsum("nij,nij->n", a, b) - 1) / 2, -1, 1)))


def compared(one: FittedPair, other: FittedPair, mirror: bool) -> dict[str, float]:
    """Medians of how far two fits of one clip are apart; ``mirror``: the second is of the mirrored video."""
    nearest = np.abs(other.times[None] - one.times[:, None]).argmin(1)
    flip = MIRROR if mirror else np.eye(3)
    theirs = (other.b, other.a) if mirror else (other.a, other.b)
    good = np.abs(other.times[nearest] - one.times) < 0.02
    rotation, positions = [], []
    both = good.copy()
    for head, match in zip((one.a, one.b), theirs, strict=True):
        ok = good & head.valid & match.valid[nearest]
        rows = np.nonzero(ok)[0]
        rotation.append(vector_angles(matrices(head, rows), flip @ matrices(match, nearest[rows]) @ flip))
        both &= ok
    rows = np.nonzero(both)[0]
    mine = (one.b.head_centre - one.a.head_centre)[rows].astype(np.float64)
    positions = (theirs[1].head_centre - theirs[0].head_centre)[nearest[rows]].astype(np.float64) @ flip
    return {
        "rotation_deg": float(np.median(np.concatenate(rotation))),
        "relative_position_cm": float(100 * np.median(np.linalg.norm(mine - positions, axis=-1))),
        "frames": len(rows),
    }


def mirror_check(fitter: HeadFitter, clips: list[Clip], flipped: list[Clip]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for clip in clips:
        stem = Path(clip.name).stem
        match = [
            other
            for other in flipped
            if Path(other.name).stem == stem and abs(other.tracks.start_s - clip.tracks.start_s) < 0.3
        ]
        one = fitted(fitter, clip.tracks)
        two = fitted(fitter, match[0].tracks) if match else None
        if one is None or two is None:
            out[clip.label] = None  # the mirrored clip was not found or not fitted
            continue
        out[clip.label] = compared(one, two, mirror=True)
    return summary(out, ("rotation_deg", "relative_position_cm"))


def thinned(tracks: ClipTracks) -> ClipTracks:
    """Every second frame."""

    def part(track: FaceTrack) -> FaceTrack:
        names = ("landmarks", "box", "valid", "confidence", "sharpness")
        return replace(track, **{name: getattr(track, name)[::2] for name in names})

    return replace(tracks, times=tracks.times[::2], a=part(tracks.a), b=part(tracks.b))


def half_rate(fitter: HeadFitter, clips: list[Clip]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for clip in clips:
        one, two = fitted(fitter, clip.tracks), fitted(fitter, thinned(clip.tracks))
        out[clip.label] = None if one is None or two is None else compared(one, two, mirror=False)
    return summary(out, ("rotation_deg", "relative_position_cm"))


def summary(clips: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Medians over clips, each weighted alike."""
    found = [clip for clip in clips.values() if clip is not None]
    out: dict[str, Any] = {name: float(np.median([clip[name] for clip in found])) for name in names if found}
    return {**out, "clips": clips}


def identity(fitter: HeadFitter, clips: list[Clip]) -> dict[str, Any]:
    """Cosines between identity coefficients of shots whose people are known."""
    shapes: list[tuple[str, float, Array]] = []
    for clip in clips:
        who = next((p for at, p in PEOPLE.items() if abs(at - clip.tracks.start_s) < 0.5), None)
        if clip.name != CLIPS[0] or who is None:
            continue
        pair = fitted(fitter, clip.tracks)
        if pair is not None:
            for name, head in zip(who, (pair.a, pair.b), strict=True):
                shapes.append((name, clip.tracks.start_s, head.shape.astype(np.float64)))
    same: list[float] = []
    different: list[float] = []
    detail: dict[str, float] = {}
    for one, other in combinations(shapes, 2):
        if one[1] == other[1] and one[0] == other[0]:
            continue
        cosine = float(one[2] @ other[2] / (np.linalg.norm(one[2]) * np.linalg.norm(other[2])))
        (same if one[0] == other[0] else different).append(cosine)
        detail[f"{one[0]} {one[1]:.1f} / {other[0]} {other[1]:.1f}"] = round(cosine, 3)
    return {
        "same": float(np.mean(same)),
        "different": float(np.mean(different)),
        "margin": float(np.mean(same) - np.mean(different)),
        "worst_margin": min(same) - max(different),
        "cosines": detail,
    }


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip()


def check(model: HeadModel, clips: list[Clip], flipped: list[Clip]) -> dict[str, Any]:
    reduced, options = reduce(model), FitOptions()
    fitter = HeadFitter(reduced, options)
    return {
        "held_out": held_out(reduced, clips, options),
        "mirror": mirror_check(fitter, clips, flipped),
        "identity": identity(fitter, clips),
        "half_rate": half_rate(fitter, clips),
    }


def show(name: str, result: dict[str, Any]) -> None:
    print(f"\n{name}")
    print(f"{'clip':38s}{'held out %':>11s}{'mirror deg':>12s}{'mirror cm':>11s}{'half deg':>10s}{'half cm':>9s}")

    def cell(table: dict[str, Any] | None, key: str, width: int) -> str:
        return f"{table[key]:{width}.2f}" if table else f"{'-':>{width}s}"

    for clip, error in result["held_out"]["clips"].items():
        mirror, half = result["mirror"]["clips"].get(clip), result["half_rate"]["clips"].get(clip)
        print(f"{clip:38s}{error:11.2f}{cell(mirror, 'rotation_deg', 12)}{cell(mirror, 'relative_position_cm', 11)}"
              f"{cell(half, 'rotation_deg', 10)}{cell(half, 'relative_position_cm', 9)}")  # fmt: skip
    total, mirror, half = result["held_out"]["median_pct"], result["mirror"], result["half_rate"]
    print(f"{'median':38s}{total:11.2f}{cell(mirror, 'rotation_deg', 12)}{cell(mirror, 'relative_position_cm', 11)}"
          f"{cell(half, 'rotation_deg', 10)}{cell(half, 'relative_position_cm', 9)}")  # fmt: skip
    who = result["identity"]
    print(f"identity: same person {who['same']:.2f}, different people {who['different']:.2f}, "
          f"margin {who['margin']:.2f}, worst same minus best different {who['worst_margin']:.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, default=ROOT.parent / "shared" / "media", help="folder with the clips")
    parser.add_argument("--ict", help="ICT-FaceKit folder or archive")
    parser.add_argument("--work", type=Path, help="keep the curated clips here, for a second run")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.relative_to(ROOT)}")
    args = parser.parse_args()
    videos = [args.media / name for name in CLIPS if (args.media / name).exists()]
    if not videos:
        raise SystemExit(f"none of {', '.join(CLIPS)} in {args.media}")
    torch.set_num_threads(1)
    models = {"canonical": load_head_model("canonical")}
    ict = open_ict(args.ict)
    if ict is not None:
        models["ict"] = ict
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        clips = curated(videos, work / "clips")
        flipped = curated(mirrored(videos, work / "mirrored-videos"), work / "mirrored")
    results: dict[str, Any] = {}
    for name, model in models.items():
        results[name] = check(model, clips, flipped)
        if not args.json:
            show(name, results[name])
    best = results.get("ict", results["canonical"])
    document = {
        **{f"held_out_{name}_pct": result["held_out"]["median_pct"] for name, result in results.items()},
        "mirror_rotation_deg": best["mirror"]["rotation_deg"],
        "mirror_relative_position_cm": best["mirror"]["relative_position_cm"],
        "identity_margin": best["identity"]["margin"],
        "half_rate_rotation_deg": best["half_rate"]["rotation_deg"],
        "bars_held_out_pct": BARS,
        "models": results,
        "command": "python bench/real.py " + " ".join(sys.argv[1:]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "commit": commit(),
    }
    if args.write:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
