"""The pair row, schema version 1: one row per two-person clip, every column with its unit, frame and shape.

Column names are flat (``a.rotation`` is a name, not a path into a struct), so that every reader can project and filter
one column without touching another. Arrays are nested lists in their natural shape: ``[T][3]``, ``[T][2][3]``.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

SCHEMA_VERSION = 1
SAMPLE_RATE = 16_000
PAIR_ID = re.compile(r"[0-9a-f]{32}")

CAMERA = "camera: OpenCV (x right, y down, z forward), metres; pinhole, principal point (W - 1, H - 1) / 2"
MODEL = "model: +x the subject's left, +y up, +z out of the face, metres (FLAME's)"
IMAGE = "image: pixels of the original upright image, x right, y down, pixel centres at integers"
CLOCK = "video clock: zero is the container's earliest presentation time over all streams"

CONVENTIONS = f"""One row is one clip of two people, on a clock of fps frames a second: frame k is at start_s + k / fps.
Time. {CLOCK}; every time in every table uses it.
Units. Metres, seconds, radians, pixels. Rotations are axis-angle. Left and right are the subject's own.
Frames. {CAMERA}. {MODEL}. {IMAGE}.
Placement. X_camera = R(rotation) F (x - J_root(shape)) + translation with F = diag(1, -1, -1): rotation is zero for an
upright head that faces the camera.
People. a is further left in the image at the first frame where both are visible, b further right.
Validity. Per-frame measurements are NaN where valid is false, gaze also while the eyes are shut; gaps are never bridged
as valid. A score is null where it was not measured. Face scale is the projected size of a face with its rotation
removed, in pixels per 63 mm.
Precision. Arrays are float32 rounded to the step named in the field metadata."""


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        type: Arrow type as stored.
        meaning: one sentence for a reader who knows the field.
        unit, frame: of the values; "" where there is none.
        shape: of the stored array in T frames, S identity and E expression coefficients; () for a scalar.
        step: stored values are multiples of this (0: as computed).
        masked: NaN where the person's ``valid`` is false.
        gaps: may be NaN in a valid frame too (gaze while the eyes are shut).
    """

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    frame: str = ""
    shape: tuple[str, ...] = ()
    step: float = 0.0
    masked: bool = False
    nullable: bool = False
    gaps: bool = False

    def field(self) -> pa.Field:
        """The Arrow field with this column's metadata."""
        meta = {"description": self.meaning, "unit": self.unit, "frame": self.frame}
        if self.shape:
            meta["shape"] = json.dumps(list(self.shape))
            meta["dtype"] = str(leaf_type(self.type))
        if self.step:
            meta["step"] = repr(self.step)
        if self.masked:
            meta["validity"] = "NaN where the person's valid is false" + (
                ", and while the eyes are shut" if self.gaps else ""
            )
        elif self.nullable:
            meta["validity"] = "null where not measured"
        return pa.field(self.name, self.type, metadata={key: value for key, value in meta.items() if value})


def leaf_type(kind: pa.DataType) -> pa.DataType:
    """The type of the numbers inside nested lists."""
    while pa.types.is_list(kind):
        kind = kind.value_type
    return kind


def _array(leaf: pa.DataType, rank: int) -> pa.DataType:
    for _ in range(rank):
        leaf = pa.list_(leaf)
    return leaf


TEXT, INT, REAL, SINGLE = pa.string(), pa.int32(), pa.float64(), pa.float32()
TURNS = pa.list_(pa.struct([("start_s", REAL), ("end_s", REAL), ("speaker", TEXT), ("face", TEXT)]))
BACKENDS = pa.list_(pa.struct([("stage", TEXT), ("name", TEXT), ("weights_sha256", TEXT), ("license", TEXT)]))
AUDIO = pa.struct([("bytes", pa.binary()), ("path", TEXT)])

IDENTITY = (
    Column("pair_id", TEXT, "hash of video id, clip bounds and the measuring configuration; unique in the data set"),
    Column("video_id", TEXT, "sha256 of the video file's content"),
    Column("source_uri", TEXT, "where the video was read; the smallest where one content has several"),
    Column("source_id", TEXT, "the input manifest's id of the source (a channel, a show); may be empty"),
    Column("license", TEXT, "licence of the source as the input manifest states it"),
    Column("attribution", TEXT, "attribution of the source as the input manifest states it"),
    Column("origin", TEXT, "curated (from a video), synthetic (rendered or generated with known truth) or dubbed"),
    Column("n_people", INT, "2; 1 in a single-speaker row, whose b is valid nowhere"),
    Column("start_s", REAL, "time of the first frame", "s", CLOCK),
    Column("end_s", REAL, "end of the clip; n_frames / fps after start_s to within one frame", "s", CLOCK),
    Column("fps", REAL, "frames a second of the clip clock", "1/s"),
    Column("n_frames", INT, "T, the length of every per-frame array"),
    Column("width", INT, "width of the upright image", "px", IMAGE),
    Column("height", INT, "height of the upright image", "px", IMAGE),
    Column("shot_index", INT, "which shot of the video, from 0"),
)

# name -> (unit, meaning). Stored for every row; thresholds live in selection.parquet only.
SCORES: dict[str, tuple[str, str]] = {
    "valid_a": ("share", "frames where person a was measured"),
    "valid_b": ("share", "frames where person b was measured"),
    "face_scale_a": ("px/63mm", "median face scale of a"),
    "face_scale_b": ("px/63mm", "median face scale of b"),
    "yaw95_a": ("deg", "95th percentile of |yaw| of a, 0 facing the camera"),
    "yaw95_b": ("deg", "95th percentile of |yaw| of b, 0 facing the camera"),
    "yaw_bound_a": ("deg", "95th percentile of |yaw| of a plus its standard deviation, focal length included"),
    "yaw_bound_b": ("deg", "95th percentile of |yaw| of b plus its standard deviation, focal length included"),
    "rotation_range_a": ("deg", "largest rotation of a between two valid frames' heads (95th percentile)"),
    "rotation_range_b": ("deg", "largest rotation of b between two valid frames' heads (95th percentile)"),
    "residual_a": ("face scale", "median fit residual of a, fraction of face scale"),
    "residual_b": ("face scale", "median fit residual of b, fraction of face scale"),
    "confidence_a": ("", "median landmark confidence of a, 0..1"),
    "confidence_b": ("", "median landmark confidence of b, 0..1"),
    "sharpness_a": ("", "median variance of the Laplacian on a's face crop"),
    "sharpness_b": ("", "median variance of the Laplacian on b's face crop"),
    "gaze_sd_a": ("deg", "median standard deviation of a's gaze"),
    "gaze_sd_b": ("deg", "median standard deviation of b's gaze"),
    "expressiveness_a": ("", "mean standard deviation over time of a's expression coefficients"),
    "expressiveness_b": ("", "mean standard deviation over time of b's expression coefficients"),
    "speech_share": ("share", "of the clip's time with speech"),
    "speaking_a": ("share", "of the clip's time in which a speaks"),
    "speaking_b": ("share", "of the clip's time in which b speaks"),
    "bound_share": ("share", "of the speech bound to one of the two faces"),
    "off_screen_share": ("share", "of the speech by a voice bound to neither face"),
    "overlap_share": ("share", "of the speech with two voices or more at once"),
    "turn_changes": ("", "times the floor passes from one face to the other"),
    "binding_margin": (
        "",
        "log-likelihood ratio, from the clip's lips, of the voices' faces against the swapped ones",
    ),
    "snr_db": ("dB", "speech level over the level between speech"),
    "loudness_db": ("dBFS", "RMS level of the clip's audio"),
    "clipping_share": ("share", "of audio samples at full scale"),
    "music_share": ("share", "of the clip's time with music"),
    "laughter_share": ("share", "of the clip's time with the laughter of several people"),
    "av_offset_s": ("s", "audio minus video offset left after correction; positive: audio late"),
    "av_offset_confidence": ("", "how clearly one offset beats the others; 0 none"),
    "split_colour": ("", "Bhattacharyya distance between the halves' colours; high for two rooms"),
    "split_seam": ("", "strength of a straight static seam between the two faces; high for two rooms"),
    "distance_sd": ("m", "median standard deviation of the distance between the heads"),
    "mutual_gaze_share": ("share", "mean probability of mutual gaze over frames where both are valid"),
    "duplicate_similarity": ("", "likeness to the row named by duplicate_of, 0..1"),
}

# name -> (unit, meaning): scalars that the layout codes are read from.
LAYOUT: dict[str, tuple[str, str]] = {
    "distance_m": ("m", "median distance between the head centres"),
    "facing_a_deg": (
        "deg",
        "median horizontal angle from b's direction to where a faces; positive: camera's side",
    ),
    "facing_b_deg": (
        "deg",
        "median horizontal angle from a's direction to where b faces; positive: camera's side",
    ),
    "height_difference_m": ("m", "median height of b's head centre over a's"),
    "depth_difference_m": ("m", "median z of b minus z of a in the camera frame"),
    "distance_change_m": ("m", "change of the distance from the clip's start to its end"),
    "tilt_a_deg": ("deg", "median sideways tilt of a's head, positive toward a's own left"),
    "tilt_b_deg": ("deg", "median sideways tilt of b's head, positive toward b's own left"),
    "look_a_share": ("share", "mean probability that a looks at b's face"),
    "look_b_share": ("share", "mean probability that b looks at a's face"),
    "mutual_share": ("share", "mean probability of mutual gaze"),
}

# name, shape, unit, frame, step, masked, meaning
_PERSON: tuple[tuple[str, tuple[str, ...], str, str, float, bool, str], ...] = (
    ("shape", ("S",), "sd", MODEL, 2.0**-12, False, "identity coefficients of the head model, unit variance"),
    ("expression", ("T", "E"), "sd", MODEL, 2.0**-12, True, "expression coefficients of the head model"),
    ("jaw", ("T", "3"), "rad", MODEL, 2.0**-15, True, "jaw rotation, axis-angle; opening is +x"),
    ("neck", ("T", "3"), "rad", MODEL, 2.0**-15, True, "neck rotation, axis-angle; held at zero"),
    ("rotation", ("T", "3"), "rad", CAMERA, 2.0**-15, True, "head rotation, axis-angle; zero when facing the camera"),
    ("translation", ("T", "3"), "m", CAMERA, 2.0**-15, True, "position of the head model's root joint"),
    (
        "eyes",
        ("T", "2", "3"),
        "rad",
        MODEL,
        2.0**-15,
        True,
        "rotation of the left, right eyeball in the head, axis-angle",
    ),
    (
        "gaze",
        ("T", "3"),
        "",
        CAMERA,
        2.0**-15,
        True,
        "unit gaze direction, without the constant offset; drawn to the partner where unsure",
    ),
    ("gaze_raw", ("T", "3"), "", CAMERA, 2.0**-15, True, "unit mean of both eyes' optical axes"),
    ("head_centre", ("T", "3"), "m", CAMERA, 2.0**-15, True, "midpoint between the eyeballs"),
    (
        "rotation_sd",
        ("T", "3"),
        "rad",
        CAMERA,
        2.0**-15,
        True,
        "standard deviation of the head rotation about the camera's x, y and z axes",
    ),
    ("translation_sd", ("T",), "m", "", 2.0**-15, True, "standard deviation along the line of sight, scale included"),
    ("gaze_sd", ("T",), "rad", "", 2.0**-15, True, "standard deviation of the gaze direction"),
    (
        "looking",
        ("T",),
        "rad",
        "",
        2.0**-12,
        False,
        "angle between gaze and the partner's head centre; NaN where unknown",
    ),
    ("speaking", ("T",), "", "", 2.0**-10, False, "probability that this person speaks; NaN without audio"),
    ("box", ("T", "4"), "px", IMAGE, 2.0**-4, False, "face box x0, y0, x1, y1; NaN where nothing was seen"),
    ("confidence", ("T",), "", "", 2.0**-10, False, "landmark reliability 0..1; 0 where not valid"),
    ("residual", ("T",), "face scale", "", 2.0**-15, True, "robust mean reprojection error, fraction of face scale"),
)


GAZE = ("gaze", "gaze_raw", "gaze_sd")  # known together or not at all


def _person_columns(who: str) -> tuple[Column, ...]:
    text = {
        "track_id": f"face track of {who} within the shot",
        "voice_id": f"voice bound to {who}, stable over the video; empty where none was",
        "person_id": f"{who} across shots and videos; empty where unknown",
    }
    scalars = (
        *(Column(f"{who}.{name}", TEXT, meaning) for name, meaning in text.items()),
        Column(f"{who}.scale_log_sd", SINGLE, "standard deviation of the log of head size, which landmarks leave open"),
        Column(
            f"{who}.scale",
            SINGLE,
            "factor on the head model of this shape: size by the prior, or by irises",
        ),
        Column(f"{who}.child", pa.bool_(), "iris evidence says that the head is smaller than an adult's"),
        Column(f"{who}.valid", pa.list_(pa.bool_()), "the frame lies between close valid measurements", shape=("T",)),
    )
    arrays = (
        Column(
            f"{who}.{name}", _array(SINGLE, len(shape)), meaning, unit, frame, shape, step, masked, gaps=name in GAZE
        )
        for name, shape, unit, frame, step, masked, meaning in _PERSON
    )
    return (*scalars, *arrays)


SCENE = (
    Column("duplicate_of", TEXT, "pair_id of an earlier row that this one nearly repeats; empty where none"),
    Column("captions", pa.list_(TEXT), "sentences that say the layout codes"),
    Column("layout.codes", pa.list_(TEXT), 'layout codes such as "distance:personal"'),
    Column("focal_px", REAL, "focal length of the shot's camera", "px", IMAGE),
    Column("focal_source", TEXT, "user, metadata or prior"),
    Column("focal_log_sd", REAL, "standard deviation of the log of the focal length"),
)
SOUND = (
    Column("turns", TURNS, "who speaks when: voice id, and the face a, b or empty; may overlap", "s", CLOCK),
    Column("audio", AUDIO, "16 kHz mono FLAC (or PCM WAV) of the clip from start_s; null without audio", nullable=True),
)
JOINT = (
    Column("mutual_gaze", _array(SINGLE, 1), "probability that both look at each other", "", "", ("T",), 2.0**-10),
    Column("distance_m", _array(SINGLE, 1), "between the head centres", "m", "", ("T",), 2.0**-15),
    Column(
        "relative_position_sd", _array(SINGLE, 1), "standard deviation of b - a, scale and focal included", "m", "",
        ("T",), 2.0**-15,
    ),
    Column(
        "camera_to_dyad", _array(REAL, 2),
        "rigid transform X_dyad = M [X_camera, 1]; the dyad frame's origin is midway between the head centres at the "
        "first frame where both are valid, x from a to b, y the camera's up made orthogonal to x, right-handed",
        "m", CAMERA, ("4", "4"),
    ),
)  # fmt: skip
PROVENANCE = (
    Column("head_model_id", TEXT, "the head model that the coefficients refer to"),
    Column("head_model_sha256", TEXT, "sha256 of the head model's file"),
    Column("head_model_tier", TEXT, "flame, gnm, ict or canonical: what the coefficients can express"),
    Column("config_hash", TEXT, "hash of the measuring configuration"),
    Column("code_version", TEXT, "version of the software that measured"),
    Column("backends", BACKENDS, "models that did work on this row: weights hash and licence of each"),
)

COLUMNS: tuple[Column, ...] = (
    *IDENTITY,
    *(Column(f"scores.{k}", SINGLE, text, unit, nullable=True) for k, (unit, text) in SCORES.items()),
    *(Column(f"layout.{k}", SINGLE, text, unit, nullable=True) for k, (unit, text) in LAYOUT.items()),
    *SCENE,
    *PROVENANCE,
    *SOUND,
    *_person_columns("a"),
    *_person_columns("b"),
    *JOINT,
)
BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}
PERSON_ARRAYS: tuple[str, ...] = tuple(entry[0] for entry in _PERSON)
# Scores that came later: a shard without one was not measured for it, and reads as null.
MAY_LACK: tuple[str, ...] = ("scores.laughter_share", "scores.yaw_bound_a", "scores.yaw_bound_b")
# Scores that were named and never measured: a shard may still have them, all null; nothing reads them.
ONCE: tuple[str, ...] = ("scores.camera_motion", "scores.split_motion")
# Columns that had one number a frame for all three axes: a shard of that type is read as three equal ones.
ONE_FOR_ALL_AXES: dict[str, pa.DataType] = {f"{who}.rotation_sd": _array(SINGLE, 1) for who in "ab"}
ARRAYS: tuple[str, ...] = tuple(column.name for column in COLUMNS if column.shape)
LIGHT: tuple[str, ...] = tuple(c.name for c in COLUMNS if not c.shape and c.name != "audio")


@cache
def pair_schema() -> pa.Schema:
    """The Arrow schema of ``pairs/*.parquet``; HF ``datasets`` reads from it that ``audio`` is an Audio feature."""
    hugging_face = {"info": {"features": {"audio": {"sampling_rate": SAMPLE_RATE, "_type": "Audio"}}}}
    meta = {
        "duologue.table": "pairs",
        "duologue.schema_version": str(SCHEMA_VERSION),
        "duologue.conventions": CONVENTIONS,
        "huggingface": json.dumps(hugging_face),
    }
    return pa.schema([column.field() for column in COLUMNS], metadata=meta)


def pair_id(video_id: str, start_s: float, end_s: float, config_hash: str) -> str:
    """32 hex digits from what was measured: never from thresholds, paths or the number of workers.

    Args:
        start_s, end_s: clip bounds on the video clock, told apart to a microsecond.
        config_hash: of the measuring configuration.
    """
    text = f"{video_id}|{start_s:.6f}|{end_s:.6f}|{config_hash}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
