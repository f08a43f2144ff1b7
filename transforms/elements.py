"""What stages hand to each other inside the graph: ids, bounds and names of work files."""

from __future__ import annotations

from dataclasses import dataclass

from ..schemas.records import Clip, Video


@dataclass(frozen=True)
class PieceTask:
    """A piece of a video on the fixed grid, to be scanned or listened to: start_s <= t < end_s.

    ``read_start_s`` to ``read_end_s`` is what is decoded: the piece and its warm-up or context.
    """

    video: Video
    index: int
    start_s: float
    end_s: float
    read_start_s: float
    read_end_s: float


@dataclass(frozen=True)
class PieceDone:
    """A scanned piece, and the work file that holds its arrays."""

    video: Video
    index: int
    start_s: float
    end_s: float
    file: str


@dataclass(frozen=True)
class SoundChunk:
    """A stretch of a video's sound: 16 kHz mono FLAC in ``file``."""

    start_s: float
    end_s: float
    file: str


@dataclass(frozen=True)
class HeardPiece:
    """A piece that was listened to: its arrays in ``file``, its sound in chunks."""

    video: Video
    index: int
    start_s: float
    end_s: float
    file: str
    sound: tuple[SoundChunk, ...]


@dataclass(frozen=True)
class Span:
    """The part of a shot in which two people were seen: what the track pass decodes."""

    video: Video
    shot_index: int
    shot_start_s: float
    shot_end_s: float
    start_s: float
    end_s: float
    split_colour: float | None
    split_seam: float | None


@dataclass(frozen=True)
class TrackTask:
    """One piece of a span on the fixed grid, to be tracked. ``read_start_s``: where decoding starts, to warm up."""

    span: Span
    index: int
    start_s: float
    end_s: float
    read_start_s: float


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
    """The turns of a whole video, in ``file``, and its sound."""

    video: Video
    start_s: float
    end_s: float
    file: str
    sound: tuple[SoundChunk, ...]


@dataclass(frozen=True)
class ClipTask:
    """A clip, its shot's split-screen evidence, and what was heard in its video (None where nothing was)."""

    clip: Clip
    split_colour: float | None
    split_seam: float | None
    turns: TurnsDone | None = None

    @property
    def start_s(self) -> float:
        return self.clip.start_s

    @property
    def end_s(self) -> float:
        return self.clip.end_s


@dataclass(frozen=True)
class Evidence:
    """How each voice goes with each face of one clip (JSON of ``bind.BindEvidence``; "" for an unheard clip).

    ``active``: the work file of an active-speaker network's scores, "" where lip speed serves.
    """

    task: ClipTask
    start_s: float
    end_s: float
    evidence: str
    active: str = ""


@dataclass(frozen=True)
class BoundClip:
    """A clip whose voices were given to faces: ``faces`` are (voice id, "a" | "b" | "ab" | "").

    Person ids hold for the video.

    ``offset_s``: how late the video's sound is against its picture, with its confidence; ``active``: as in Evidence;
    ``margin``: ``bind.binding_margin`` of the clip, None where no voice has a face.
    """

    task: ClipTask
    start_s: float
    end_s: float
    faces: tuple[tuple[str, str], ...]
    person_a: str
    person_b: str
    offset_s: float = 0.0
    offset_confidence: float = 0.0
    active: str = ""
    margin: float | None = None


@dataclass(frozen=True)
class FittedClip:
    """A clip whose heads were fitted; the fitted pair's arrays in ``file``."""

    bound: BoundClip
    start_s: float
    end_s: float
    file: str


@dataclass(frozen=True)
class PairDone:
    """A finished row in ``file``; ``bands`` are the near-duplicate keys of its audio, ``fingerprint`` the evidence.

    ``landmarks``, ``voices``: the work files of its measured tracks and of its separated voices, "" where they are not
    kept.
    """

    pair_id: str
    video_id: str
    start_s: float
    end_s: float
    file: str
    bands: tuple[str, ...]
    fingerprint: tuple[int, ...]
    landmarks: str = ""
    voices: str = ""
