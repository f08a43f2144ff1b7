"""``duologue accuracy --real DIR``: what must hold on real videos whatever the truth is.

* held out: every fifth FaceMesh landmark (0, 5, 10, ...) is hidden from the fit; the stored row (shape, expression,
  jaw, pose: no personal deformation that a row does not hold) must predict it. Error of a face-frame: mean distance
  over the held-out landmarks that the head model has, in % of face scale; then the median over face-frames.
* mirror: the videos flipped left to right and curated again must give the mirrored heads.
* half rate: the videos decoded at every second frame and curated again must give the same heads.
* identity: cosine between the identity coefficients of one person's shots, and of different people's. Who is who is
  what binding found (``person_id``) unless it is given.
* static camera: where two shots of one video have the same people at the same place in the picture, their distance must
  be the same; half the difference is an error that no truth is needed for.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
import numpy.typing as npt

from ...fitting.fit import FitOptions, HeadFitter
from ...fitting.head_model import HeadModel, rotation_matrix
from ...fitting.landmark_bias import load_bias
from ...fitting.load_head import load_head_model
from ...fitting.reduce import reduce, reduced_landmarks
from ...fitting.reduced import ReducedModel
from ...schemas import landmarks
from ...schemas.dataset import Dataset
from ...schemas.errors import BadInput, UsageError
from ...schemas.heads import FittedPair, HeadTrack
from ...schemas.landmarks import tracks_from_row
from ...schemas.row import table_to_rows
from ...schemas.shard import open_shard
from ...schemas.tracks import ClipTracks, FaceTrack, face_scale_px
from ..config import load_config
from ..curate import curate, quiet_libraries
from ..inputs import resolve_inputs
from ..plan import make_plan
from ..runners import beam_options
from .clock import FLIP, angles_deg

Array = npt.NDArray[np.float64]
SETTINGS = ("run.geometry_only=true", "clips.shortest_s=2.0")
HELD_OUT = tuple(range(0, 468, 5))
MIRROR = np.diag([-1.0, 1.0, 1.0])
SAME_PLACE = 0.1  # both faces within this share of the picture's width, and of their own size: the same set-up
FILTERS = {"mirror": "hflip", "half": "select=not(mod(n\\,2))"}


@dataclass(frozen=True)
class Clip:
    """A curated clip: its file's name, with the beginning of the video's id where several have one name; its landmarks;
    who its people are ("" where unknown)."""

    name: str
    tracks: ClipTracks
    people: tuple[str, str] = ("", "")

    @property
    def label(self) -> str:
        return f"{self.name} {self.tracks.start_s:.1f} s"


def curated(videos: list[Path], out: Path, workers: int = 1, settings: tuple[str, ...] = SETTINGS) -> list[Clip]:
    """The clips that the pipeline finds, from their stored landmarks, by name and time.

    Raises:
        UsageError: the job did not finish.
    """
    plan = make_plan(load_config("", list(settings)), str(out))
    with quiet_libraries():
        state = curate(plan, resolve_inputs([str(v) for v in videos]), beam_options("DirectRunner", workers, []))
    if state != "DONE":
        raise UsageError(f"curating {len(videos)} videos ended as {state}")
    data = Dataset(out)
    columns = ["pair_id", "source_uri", "a.person_id", "b.person_id"]
    facts = {row["pair_id"]: row for row in data.table(columns).to_pylist()}
    clips = []
    for entry in data.manifest.of_kind("landmarks"):
        for row in table_to_rows(open_shard(data.files, entry.path).read(), landmarks.BY_NAME):
            fact = facts[row["pair_id"]]
            people = (fact["a.person_id"], fact["b.person_id"])
            clips.append(Clip(Path(fact["source_uri"]).name, tracks_from_row(row), people))
    return sorted(told_apart(clips), key=lambda clip: (clip.name, clip.tracks.start_s))


def told_apart(clips: list[Clip]) -> list[Clip]:
    """Clips of different videos with one name get the beginning of the video's id into it."""
    videos: dict[str, set[str]] = {}
    for clip in clips:
        videos.setdefault(clip.name, set()).add(clip.tracks.video_id)
    return [
        replace(clip, name=f"{clip.name} ({clip.tracks.video_id[:6]})") if len(videos[clip.name]) > 1 else clip
        for clip in clips
    ]


def altered(videos: list[Path], folder: Path, how: str) -> list[Path]:
    """The videos "mirror"ed left to right or at "half" their frames, sound and times as they are.

    They are named by :func:`name_of_altered`, whatever the videos are called and wherever they lie.

    Raises:
        UsageError: ffmpeg cannot read one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for video in videos:
        path = folder / f"{name_of_altered(_video_id(video))}.mkv"
        partial = path.with_name(f"partial-{path.name}")
        if path not in out and not path.exists():
            source = ffmpeg.input(str(video), copyts=None)
            options = {"vcodec": "libx264", "crf": 8, "preset": "fast", "pix_fmt": "yuv444p", "vsync": "passthrough"}
            try:
                ffmpeg.output(source, str(partial), vf=FILTERS[how], acodec="copy", **options).run(
                    quiet=True, overwrite_output=True
                )
            except ffmpeg.Error as error:
                partial.unlink(missing_ok=True)
                last = (error.stderr or b"").decode(errors="replace").strip().splitlines()[-1:]
                raise UsageError(f"{video}: ffmpeg cannot read it ({' '.join(last)})") from None
            partial.rename(path)  # an interrupted run leaves nothing that the next would take for whole
        out += [] if path in out else [path]
    return out


def name_of_altered(video_id: str) -> str:
    """The stem of the altered file of a video."""
    return video_id[:16]


def _video_id(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_rate(tracks: ClipTracks) -> float:
    return float(1 / np.median(np.diff(tracks.times)))


def fitted(fitter: HeadFitter, tracks: ClipTracks) -> FittedPair | None:
    result = fitter.fit([tracks])[0]
    if isinstance(result, BadInput):
        print(f"not fitted: {tracks.video_id[:8]} {tracks.start_s:.1f} s: {result}", file=sys.stderr)
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
    return np.asarray(camera[..., :2] / camera[..., 2:] * pair.focal_px + [(pair.width - 1) / 2, (pair.height - 1) / 2])


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
        if options.detector_bias:
            seen = load_bias().correct(seen)  # what the fit aims at
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
    if not everything:
        raise UsageError(f"none of {len(clips)} clips could be fitted")
    return {"median_pct": float(np.median(np.concatenate(everything))), "clips": per_clip}


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
        rotation.append(angles_deg(matrices(head, rows), flip @ matrices(match, nearest[rows]) @ flip))
        both &= ok
    rows = np.nonzero(both)[0]
    mine = (one.b.head_centre - one.a.head_centre)[rows].astype(np.float64)
    positions = (theirs[1].head_centre - theirs[0].head_centre)[nearest[rows]].astype(np.float64) @ flip
    return {
        "rotation_deg": float(np.median(np.concatenate(rotation))),
        "relative_position_cm": float(100 * np.median(np.linalg.norm(mine - positions, axis=-1))),
        "frames": len(rows),
    }


def thinned(tracks: ClipTracks) -> ClipTracks:
    """Every second frame."""

    def part(track: FaceTrack) -> FaceTrack:
        names = ("landmarks", "box", "valid", "confidence", "sharpness")
        return replace(track, **{name: getattr(track, name)[::2] for name in names})

    return replace(tracks, times=tracks.times[::2], a=part(tracks.a), b=part(tracks.b))


def summary(clips: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Medians over clips, each weighted alike."""
    found = [clip for clip in clips.values() if clip is not None]
    out: dict[str, Any] = {name: float(np.median([clip[name] for clip in found])) for name in names if found}
    return {**out, "clips": clips}


def agreement(fitter: HeadFitter, clips: list[Clip], others: list[Clip], mirror: bool) -> dict[str, Any]:
    """Clips against those of the altered videos; None where one was not found or not fitted."""
    out: dict[str, Any] = {}
    for clip in clips:
        stem = name_of_altered(clip.tracks.video_id)
        match = [
            other
            for other in others
            if Path(other.name).stem == stem and abs(other.tracks.start_s - clip.tracks.start_s) < 0.3
        ]
        one = fitted(fitter, clip.tracks)
        two = fitted(fitter, match[0].tracks) if match else None
        out[clip.label] = None if one is None or two is None else compared(one, two, mirror)
    return summary(out, ("rotation_deg", "relative_position_cm"))


def half_rate(fitter: HeadFitter, clips: list[Clip]) -> dict[str, Any]:
    """The same landmarks at every second frame: what the fit alone makes of half the rate."""
    out: dict[str, Any] = {}
    for clip in clips:
        one, two = fitted(fitter, clip.tracks), fitted(fitter, thinned(clip.tracks))
        out[clip.label] = None if one is None or two is None else compared(one, two, mirror=False)
    return summary(out, ("rotation_deg", "relative_position_cm"))


def identity(fitter: HeadFitter, clips: list[Clip]) -> dict[str, Any]:
    """Cosines between identity coefficients of shots whose people are known; nulls without two shots of one person."""
    shapes: list[tuple[str, str, Array]] = []
    for clip in clips:
        pair = fitted(fitter, clip.tracks) if all(clip.people) else None
        if pair is not None:
            for name, head in zip(clip.people, (pair.a, pair.b), strict=True):
                shapes.append((name, clip.label, head.shape.astype(np.float64)))
    same: list[float] = []
    different: list[float] = []
    detail: dict[str, float] = {}
    for one, other in combinations(shapes, 2):
        cosine = float(one[2] @ other[2] / (np.linalg.norm(one[2]) * np.linalg.norm(other[2])))
        (same if one[0] == other[0] else different).append(cosine)
        detail[f"{one[0]} {one[1]} / {other[0]} {other[1]}"] = round(cosine, 3)
    if not same or not different:
        return {"same": None, "different": None, "margin": None, "worst_margin": None, "cosines": detail}
    return {
        "same": float(np.mean(same)),
        "different": float(np.mean(different)),
        "margin": float(np.mean(same) - np.mean(different)),
        "worst_margin": min(same) - max(different),
        "cosines": detail,
    }


def static_camera(fitter: HeadFitter, clips: list[Clip]) -> dict[str, Any]:
    """Distances of clips of one video that show the same picture; null without such a pair of clips."""
    seen: list[tuple[Clip, Array, float]] = []
    for clip in clips:
        pair = fitted(fitter, clip.tracks)
        if pair is None:
            continue
        boxes = np.stack([np.nanmedian(track.box, axis=0) for track in (clip.tracks.a, clip.tracks.b)])
        both = pair.a.valid & pair.b.valid
        away = np.linalg.norm(pair.b.head_centre - pair.a.head_centre, axis=-1)[both]
        seen.append((clip, np.asarray(boxes, np.float64), float(np.median(away))))
    found: dict[str, float] = {}
    for (one, box, near), (other, box2, far) in combinations(seen, 2):
        size = box[:, 2:] - box[:, :2]
        moved = np.abs(box - box2).max() / one.tracks.width
        grown = np.abs(np.log((box2[:, 2:] - box2[:, :2]) / size)).max()
        if one.name == other.name and moved < SAME_PLACE and grown < SAME_PLACE:
            found[f"{one.label} / {other.tracks.start_s:.1f} s"] = 50.0 * abs(near - far) / (0.5 * (near + far))
    return {"distance_pct": float(np.median(list(found.values()))) if found else None, "pairs": found}


def check(model: HeadModel, clips: list[Clip], flipped: list[Clip], halved: list[Clip] | None = None) -> dict[str, Any]:
    """Every check with one head model.

    Args:
        flipped, halved: clips of the altered videos; without ``halved``, the same landmarks are thinned.
    """
    reduced, options = reduce(model), FitOptions()
    fitter = HeadFitter(reduced, options)
    return {
        "held_out": held_out(reduced, clips, options),
        "mirror": agreement(fitter, clips, flipped, mirror=True),
        "identity": identity(fitter, clips),
        "half_rate": half_rate(fitter, clips) if halved is None else agreement(fitter, clips, halved, mirror=False),
        "static_camera": static_camera(fitter, clips),
    }


def text(result: dict[str, Any]) -> str:
    """The table for a terminal."""
    lines = [f"{'clip':40s}{'held out %':>11s}{'mirror deg':>12s}{'mirror cm':>11s}{'half deg':>10s}{'half cm':>9s}"]

    def cell(table: dict[str, Any] | None, key: str, width: int) -> str:
        return f"{table[key]:{width}.2f}" if table and table.get(key) is not None else f"{'-':>{width}s}"

    def line(name: str, error: float, mirror: dict[str, Any] | None, half: dict[str, Any] | None) -> str:
        return (
            f"{name[:39]:40s}{error:11.2f}{cell(mirror, 'rotation_deg', 12)}{cell(mirror, 'relative_position_cm', 11)}"
            f"{cell(half, 'rotation_deg', 10)}{cell(half, 'relative_position_cm', 9)}"
        )

    mirror, half = result["mirror"], result["half_rate"]
    for clip, error in result["held_out"]["clips"].items():
        lines.append(line(clip, error, mirror["clips"].get(clip), half["clips"].get(clip)))
    lines.append(line("median", result["held_out"]["median_pct"], mirror, half))
    who, still = result["identity"], result["static_camera"]["distance_pct"]
    lines.append(
        "identity: no person was seen in two clips"
        if who["margin"] is None
        else f"identity: same person {who['same']:.2f}, different people {who['different']:.2f}, "
        f"margin {who['margin']:.2f}, worst same minus best different {who['worst_margin']:.2f}"
    )
    lines.append(
        "static camera: no two clips show the same picture"
        if still is None
        else f"static camera: distance off by {still:.1f} % of itself (half the difference of two clips, median)"
    )
    return "\n".join(lines)


def run_real(folder: Path, out: Path, workers: int, settings: list[str], *, quiet: bool) -> int:
    """Curate the videos of a folder as they are, mirrored and at half rate, and print how far the three agree.

    Raises:
        UsageError: no videos, or no clip with two people in them.
    """
    videos = [Path(item.uri.removeprefix("file://")) for item in resolve_inputs([str(folder)])]
    chosen = (*SETTINGS, *settings)
    model = load_head_model(load_config("", list(chosen)).backends.head_model or None)
    clips = curated(videos, out / "clips", workers, chosen)
    if not clips:
        raise UsageError(f"{folder}: no clip with exactly two people was found in {len(videos)} files")
    found = {clip.tracks.video_id for clip in clips}
    videos = [video for video in videos if _video_id(video) in found]
    both = {how: curated(altered(videos, out / f"{how}-videos", how), out / how, workers, chosen) for how in FILTERS}
    result = check(model, clips, both["mirror"], both["half"])
    if not quiet:
        print(text(result))
    half, mirror = result["half_rate"], result["mirror"]
    print(json.dumps({
        "held_out_pct": result["held_out"]["median_pct"],
        "mirror_rotation_deg": mirror.get("rotation_deg"),
        "mirror_relative_position_cm": mirror.get("relative_position_cm"),
        "half_rate_rotation_deg": half.get("rotation_deg"),
        "half_rate_relative_position_cm": half.get("relative_position_cm"),
        "identity_margin": result["identity"]["margin"],
        "static_camera_distance_pct": result["static_camera"]["distance_pct"],
        "clips": len(clips),
        "head_model": model.model_id,
        "detail": result,
    }))  # fmt: skip
    return 0
