"""What stages hand to each other inside the graph: ids, bounds and names of work files."""

from __future__ import annotations

from dataclasses import dataclass

from ..schemas.records import Clip, Reject, Video


@dataclass(frozen=True)
class PieceTask:
    """A piece of a video on the fixed grid, to be scanned or listened to: start_s <= t < end_s."""

    video: Video
    index: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class PieceDone:
    """A finished piece and the work file that holds its arrays."""

    video: Video
    index: int
    start_s: float
    end_s: float
    file: str


@dataclass(frozen=True)
class Span:
    """The part of a shot in which two people were seen: what the track pass decodes."""

    video: Video
    shot_index: int
    shot_start_s: float
    shot_end_s: float
    start_s: float
    end_s: float
    split_colour: float
    split_seam: float


@dataclass(frozen=True)
class TrackTask:
    """One piece of a span on the fixed grid, to be tracked."""

    span: Span
    index: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class TrackDone:
    """A tracked piece: its arrays in ``file``, its tracklets' summaries (JSON) in ``summaries``."""

    span: Span
    index: int
    start_s: float
    end_s: float
    file: str
    summaries: tuple[str, ...]


@dataclass(frozen=True)
class TurnsDone:
    """The turns of a whole video, in ``file``; the audio pieces they were heard in."""

    video: Video
    start_s: float
    end_s: float
    file: str
    pieces: tuple[PieceDone, ...]


@dataclass(frozen=True)
class ClipTask:
    """A clip together with what was heard in its video (None with --geometry-only)."""

    clip: Clip
    span: Span
    turns: TurnsDone | None

    @property
    def start_s(self) -> float:
        return self.clip.start_s

    @property
    def end_s(self) -> float:
        return self.clip.end_s


@dataclass(frozen=True)
class Evidence:
    """How each voice goes with each face of one clip (JSON of ``bind.BindEvidence``)."""

    task: ClipTask
    start_s: float
    end_s: float
    evidence: str


@dataclass(frozen=True)
class BoundClip:
    """A clip whose voices were given to faces: ``faces`` are (voice id, "a" | "b" | "")."""

    task: ClipTask
    start_s: float
    end_s: float
    faces: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FittedClip:
    """A clip whose heads were fitted; the fitted pair's arrays in ``file``."""

    bound: BoundClip
    start_s: float
    end_s: float
    file: str


@dataclass(frozen=True)
class PairDone:
    """A finished row in ``file``; ``bands`` are the near-duplicate keys of its audio, ``fingerprint`` the evidence."""

    pair_id: str
    video_id: str
    start_s: float
    end_s: float
    file: str
    bands: tuple[str, ...]
    fingerprint: tuple[int, ...]


@dataclass(frozen=True)
class ShardDone:
    """A written file of the data set."""

    name: str
    rows: int
    bytes: int
    sha256: str
    kind: str


__all__ = [
    "BoundClip", "ClipTask", "Evidence", "FittedClip", "PairDone", "PieceDone", "PieceTask", "Reject", "ShardDone",
    "Span", "TrackDone", "TrackTask", "TurnsDone",
]  # fmt: skip
