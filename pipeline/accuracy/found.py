"""What a curation found in each video: shots, face tracks, offsets from the work files, pairs from the data set."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...schemas import landmarks
from ...schemas.dataset import Dataset
from ...schemas.records import Reject
from ...schemas.row import Row, table_to_rows
from ...schemas.shard import open_shard
from ...schemas.tracks import ClipTracks
from ...transforms import scan, stitch
from ...transforms.elements import BoundClip, PieceDone, TrackDone
from ...transforms.shots import find_cuts, join_traces
from ...transforms.speaking import sync_shift
from ...transforms.tracklet import PieceTracks
from ...transforms.work import WorkStore
from ..config import CurateConfig

Array = npt.NDArray[np.float64]


@dataclass
class FoundVideo:
    """One video's findings.

    Attributes:
        cuts: times of the first frames of all shots but the first, seconds.
        tracks: (times [T], shot index, boxes of each person {track id: [T, 4]}) of every tracked piece.
        offset_s, offset_confidence: how late the sound is; ``shift_s``: what was corrected.
        rows: pairs with their arrays; ``selected`` of them passed. clips: their landmarks, by pair id.
    """

    cuts: tuple[float, ...] = ()
    tracks: list[tuple[Array, int, dict[str, Array]]] = field(default_factory=list)
    offset_s: float = float("nan")
    offset_confidence: float = 0.0
    shift_s: float = 0.0
    rows: list[Row] = field(default_factory=list)
    selected: set[str] = field(default_factory=set)
    clips: dict[str, ClipTracks] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)


def read_found(out: Path, config: CurateConfig) -> dict[str, FoundVideo]:
    """Everything found in a finished folder of ``curate``, by the name of the folder that holds each video."""
    work, found = WorkStore(str(out / "_work")), defaultdict[str, FoundVideo](FoundVideo)
    pieces: dict[str, list[PieceDone]] = defaultdict(list)
    for piece in finished(work, "scan", PieceDone):
        pieces[name_of(piece.video.uri)].append(piece)
    for name, parts in pieces.items():
        parts.sort(key=lambda part: part.start_s)
        scans = [scan.ScanPiece.from_arrays(work.get_arrays(part.file)) for part in parts]
        cuts = find_cuts(join_traces([one.trace for one in scans]), config.scan.shots)
        found[name].cuts = tuple(cut.time_s for cut in cuts)
    spans: dict[tuple[str, int], list[TrackDone]] = defaultdict(list)
    for done in finished(work, "track", TrackDone):
        spans[name_of(done.span.video.uri), done.span.shot_index].append(done)
    for (name, shot_index), parts_ in spans.items():
        found[name].tracks += _tracks(work, sorted(parts_, key=lambda part: part.start_s), shot_index, config)
    for bound in finished(work, "bind", BoundClip):
        one = found[name_of(bound.task.clip.video.uri)]
        one.offset_s, one.offset_confidence = bound.offset_s, bound.offset_confidence
        one.shift_s = sync_shift((bound.offset_s, bound.offset_confidence), config.bind)
    data = Dataset(out)
    chosen, place = set(data.ids()), {}
    for row in data.rows():
        name = place[row["pair_id"]] = name_of(row["source_uri"])
        found[name].rows.append(row)
        if row["pair_id"] in chosen:
            found[name].selected.add(row["pair_id"])
    for entry in data.manifest.of_kind("landmarks"):
        for row in table_to_rows(open_shard(data.files, entry.path).read(), landmarks.BY_NAME):
            found[place[row["pair_id"]]].clips[row["pair_id"]] = landmarks.tracks_from_row(row)
    for reject in data.rejects():
        found[name_of(reject.uri)].rejects.append(reject)
    return dict(found)


def name_of(uri: str) -> str:
    """The folder of a video is its name in the suite."""
    return Path(uri).parent.name


def finished(work: WorkStore, stage: str, kind: type) -> list[Any]:
    """All results of one kind that a stage recorded."""
    out = []
    for name in work.files.list(f"ledger/{stage}"):
        entries = work.finished(stage, Path(name).stem, {kind.__name__: kind, "Reject": Reject}) or []
        out += [entry for entry in entries if isinstance(entry, kind)]
    return out


def _tracks(
    work: WorkStore, parts: list[TrackDone], shot_index: int, config: CurateConfig
) -> list[tuple[Array, int, dict[str, Array]]]:
    summaries = [stitch.TrackletSummary.from_json(text) for part in parts for text in part.summaries]
    owner = {
        (one.piece_uri, one.tracklet_id): person.track_id
        for person in stitch.stitch(summaries, config.stitch)
        for one in person.parts
    }
    out = []
    for part in parts:
        piece = PieceTracks.from_arrays(work.get_arrays(part.file))
        boxes: dict[str, Array] = {}
        for tracklet in piece.tracklets:
            person = owner.get((part.file, tracklet.tracklet_id))
            if person is None:
                continue  # too short a sighting to be anybody
            at = np.searchsorted(piece.times, tracklet.times - 1e-9)
            box = boxes.setdefault(person, np.full((len(piece.times), 4), np.nan))
            seen = np.isfinite(tracklet.box[:, 0])
            box[at[seen]] = tracklet.box[seen]
        out.append((piece.times, shot_index, boxes))
    return out
