"""The small values that pass between stages and cross shuffles: ids, times, reasons; never arrays.

Every time is in seconds on the *video clock*, whose zero is the container's earliest presentation
time over all streams. Every pixel is one of the original upright image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Why a video, shot or clip was stopped by a hard gate. The texts are shown to people.
REASONS: dict[str, str] = {
    "unreadable": "the file is empty, truncated, corrupt or not a media file",
    "fetch_failed": "the file is gone or could not be fetched; the next run tries again",
    "no_video": "the file has no video stream",
    "no_audio": "the file has no audio stream (--geometry-only keeps it)",
    "too_short": "shorter than the shortest clip",
    "too_large": "longer, larger or of higher resolution than the limits allow",
    "decode_timeout": "decoding made no progress in the time allowed and was killed; the next run tries again",
    "decode_failed": "decoding failed or its process died",
    "no_face": "no face in the shot",
    "one_face": "only one prominent face",
    "many_faces": "more than two prominent faces",
    "not_two_people": "never exactly two people for as long as the shortest clip",
    "faces_too_small": "two people, but a face smaller than the measurable size",
    "split_screen": "two rooms in one frame: colour and seam evidence agree",
    "landmarks_lost": "too few frames with landmarks on both faces",
    "fit_failed": "the heads could not be fitted",
    "stage_failed": "a stage failed on this item; the detail holds the error; the next run tries again",
}


METADATA_LOG_SD = 0.1  # 35-mm equivalents are rounded, and of stills: video is cropped for its shape and to hold still
USER_LOG_SD = 0.01


@dataclass(frozen=True)
class Focal:
    """A focal length that is known for one video.

    Attributes:
        px: pixels of the upright image.
        source: "user" (a line of the input manifest) or "metadata" (the file's own tags).
        log_sd: standard deviation of its logarithm.
    """

    px: float
    source: str
    log_sd: float


@dataclass(frozen=True)
class InputItem:
    """One line of the input manifest: a file and, if wanted, a part of it and what is known of its camera."""

    uri: str
    source_id: str = ""
    start_s: float | None = None
    end_s: float | None = None
    license: str = ""
    attribution: str = ""
    focal_px: float | None = None
    focal_log_sd: float | None = None


@dataclass(frozen=True)
class Video:
    """A probed file. Two files with the same bytes are one video.

    Attributes:
        video_id: sha256 (hex) of the content.
        start_s, end_s: the part to curate.
        duration_s: end of the last presented frame or sample, measured from packets.
        width, height: of the upright image, after rotation metadata.
        rotation: clockwise degrees that make a decoded frame upright (0, 90, 180, 270).
        mean_fps: measured frames over measured time.
        variable_rate: frame intervals differ by more than 10 % of their median in over 1 % of frames.
        video_offset_s: time of the first video frame.
        audio_offset_s: time of the first audio sample; None without an audio stream.
        focal: focal length that the manifest or the file's metadata tells, None where unknown.
        clock_zero_s: container time of the video clock's zero; decoders need it to seek.
    """

    video_id: str
    uri: str
    start_s: float
    end_s: float
    duration_s: float
    width: int
    height: int
    rotation: int
    mean_fps: float
    variable_rate: bool
    video_offset_s: float
    audio_offset_s: float | None
    container: str
    video_codec: str
    audio_codec: str
    size_bytes: int
    source_id: str = ""
    license: str = ""
    attribution: str = ""
    focal: Focal | None = None
    clock_zero_s: float = 0.0

    @property
    def has_audio(self) -> bool:
        return self.audio_offset_s is not None


@dataclass(frozen=True)
class Shot:
    """A run of frames between two cuts: frames with start_s <= time < end_s belong to it."""

    video_id: str
    index: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Reject:
    """One row of ``rejects/``: what was stopped, where, why, and what decided."""

    video_id: str
    uri: str
    stage: str
    reason: str
    detail: str = ""
    start_s: float = 0.0
    end_s: float = 0.0
    shot_index: int = -1
    source_id: str = ""


@dataclass(frozen=True)
class Turn:
    """One speaker's continuous speech.

    Attributes:
        speaker: voice id, stable over the whole video ("v0", "v1", ...).
        face: "a", "b", or "" while unbound or off-screen.
    """

    start_s: float
    end_s: float
    speaker: str
    face: str = ""


@dataclass(frozen=True)
class Backend:
    """A model that did work on a row: its name, the sha256 of its weights, its licence."""

    stage: str
    name: str
    weights_sha256: str = ""
    license: str = ""

    @property
    def content(self) -> str:
        """What decides its results, wherever it lies: the hash of its weights, else its name."""
        return f"{self.stage}:{self.weights_sha256 or self.name}"


@dataclass(frozen=True)
class Clip:
    """The bounds of a clip and the tracks in it; what crosses a shuffle on behalf of a pair.

    Attributes:
        a, b: track ids within the shot; ``a`` is further left at the first frame where both are visible.
        pieces: work files (URIs) that hold the tracks' arrays, in time order.
        a_tracklets, b_tracklets: the parts of each track, "position in pieces:tracklet id", in time order.
    """

    video: Video
    shot_index: int
    start_s: float
    end_s: float
    a: str
    b: str
    pieces: tuple[str, ...] = field(default=())
    a_tracklets: tuple[str, ...] = field(default=())
    b_tracklets: tuple[str, ...] = field(default=())
