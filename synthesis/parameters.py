"""Conversations without pixels: a data set in the pair schema whose every label is known exactly, with its sound.

Each conversation has two people of its own (nobody appears in two), a minute together, and is cut into 10 s rows.
Conversation k depends on the seed and k alone, so a larger set begins with the rows of a smaller one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.spatial.transform import Rotation

from .. import __version__
from ..fitting.head_model import HeadModel
from ..fitting.layout import place
from ..fitting.load_head import load_head_model
from ..fitting.reduce import reduce, reduced_landmarks
from ..fitting.reduced import ReducedModel
from ..schemas.errors import UsageError
from ..schemas.files import as_files
from ..schemas.finish import check_names_free, write_shard
from ..schemas.heads import FittedPair, HeadTrack
from ..schemas.manifest import MANIFEST, FileEntry
from ..schemas.pair import pair_id, pair_schema
from ..schemas.records import Turn
from ..schemas.row import Pair, Row, Source, pair_row, rows_to_table, table_to_rows
from ..schemas.shard import shard_count, shard_index
from ..schemas.tracks import Float32
from .behaviour import Manner, Seat, behave
from .exact_rows import exact_head, exact_pair, finish_exact, hash_of, turns_within
from .exchange import Talker, exchange, mix
from .motion import HeadMotion
from .script import Line, speech_segments
from .voices import SAMPLE_RATE, Voice

Array = npt.NDArray[np.float64]

FPS, CLIP_S, CLIPS = 25.0, 10.0, 6
WIDTH, HEIGHT = 1920, 1080
OUTLINE = (10, 152, 234, 454, 1, 54, 284, 132, 361, 172, 397, 176, 400, 103, 332)  # FaceMesh points that bound a face
_ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029")
_VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")


@dataclass(frozen=True)
class ParameterOptions:
    """Attributes:
    rows: 10 s pairs to make. seed: of everything random.
    rows_per_shard: pairs in one Parquet file.
    """

    rows: int
    seed: int = 1
    rows_per_shard: int = 512


@dataclass(frozen=True)
class _Person:
    talker: Talker
    manner: Manner
    shape: Array


def _person(model: HeadModel, rng: np.random.Generator) -> _Person:
    variant = str(rng.choice(_VARIANTS))
    pitch = int(rng.integers(50, 80)) if variant.startswith("f") else int(rng.integers(20, 55))
    voice = Voice(f"{rng.choice(_ACCENTS)}+{variant}", int(rng.integers(145, 190)), pitch)
    talker = Talker(
        voice, float(rng.uniform(0.6, 0.9)), float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.25, 0.65))
    )  # fmt: skip
    manner = Manner(
        look_listening=float(rng.uniform(0.62, 0.9)),
        look_speaking=float(rng.uniform(0.32, 0.58)),
        beat=float(rng.uniform(0.04, 0.10)),
        sway=float(rng.uniform(0.015, 0.045)),
        nods=float(rng.uniform(0.25, 0.7)),
        smile=float(rng.uniform(0.0, 0.25)),
        brows=float(rng.uniform(0.3, 0.8)),
        articulation=float(rng.uniform(0.8, 1.1)),
        head_share=float(rng.uniform(0.4, 0.65)),
    )
    shape = np.clip(rng.normal(0.0, 0.8, len(model.shape_names)), -2.0, 2.0)
    return _Person(talker, manner, shape)


def draw_layout(rng: np.random.Generator) -> dict[str, float]:
    """Scalars of one arrangement (names of ``schemas.pair.LAYOUT``), of every kind that the layout codes name."""
    kind = str(rng.choice(("opposite", "angled", "corner", "side", "back"), p=(0.38, 0.27, 0.2, 0.11, 0.04)))
    distance = float(np.clip(np.exp(rng.normal(np.log(0.95), 0.42)), 0.38, 3.0))
    if kind == "opposite":
        facing = rng.normal(12.0, 12.0, 2)
    elif kind == "angled":
        facing = rng.normal(40.0, 12.0, 2)
    elif kind == "corner":
        first = rng.uniform(25.0, 65.0)
        facing = np.array([first, 90.0 - first + rng.normal(0.0, 8.0)])
    elif kind == "side":
        facing = rng.normal(86.0, 9.0, 2)
        distance = float(np.clip(distance, 0.45, 1.3))
    else:
        facing = rng.uniform(128.0, 170.0, 2)
    height = rng.normal(0.0, 0.05) if rng.random() < 0.72 else rng.choice((-1, 1)) * rng.uniform(0.11, 0.3)
    depth = rng.normal(0.0, 0.08) if rng.random() < 0.72 else rng.choice((-1, 1)) * rng.uniform(0.3, 0.6)
    most = 0.6 * distance
    return {
        "distance_m": distance,
        "facing_a_deg": float(facing[0]),
        "facing_b_deg": float(facing[1]),
        "height_difference_m": float(np.clip(height, -most, most)),
        "depth_difference_m": float(np.clip(depth, -most, most)),
    }


def _seats(layout: dict[str, float], seconds: float, rng: np.random.Generator) -> tuple[Seat, Seat]:
    placed = place(layout, float(rng.uniform(0.9, 1.5)) + 0.6 * layout["distance_m"])
    azimuths = [-float(placed[f"rotation_{who}"][1]) for who in "ab"]
    centres = [placed["centre_a"], placed["centre_b"]]
    steps = [np.zeros(3), np.zeros(3)]
    if rng.random() < 0.3:  # one of the two moves closer or further off once
        who = int(rng.integers(2))
        line = centres[1 - who] - centres[who]
        amount = float(rng.uniform(0.18, 0.4)) * (1.0 if layout["distance_m"] > 0.9 and rng.random() < 0.6 else -1.0)
        steps[who] = amount * line / np.linalg.norm(line)
    at = float(rng.uniform(4.0, max(seconds - 4.0, 5.0)))
    return Seat(centres[0], azimuths[0], steps[0], at), Seat(centres[1], azimuths[1], steps[1], at)


@dataclass(frozen=True)
class Conversation:
    """One conversation with all that is known of it; heads in the camera frame over T frames.

    Attributes:
        lines: what was said. sound: [N] 16 kHz. heads: whole-length tracks. focal_px: of the camera.
        people: and how they are. seats: where. camera: [3, 3] turn of the camera's frame.
    """

    index: int
    lines: tuple[Line, ...]
    sound: Float32
    heads: tuple[HeadTrack, HeadTrack]
    focal_px: float
    people: tuple[_Person, _Person]
    seats: tuple[Seat, Seat]
    camera: Array


def make_conversation(model: HeadModel, outline: ReducedModel, seed: int, index: int) -> Conversation:
    """Conversation ``index`` of ``seed``: CLIPS * CLIP_S seconds.

    Args:
        outline: ``model`` reduced to the landmarks that bound a face, for the boxes.

    Raises:
        UsageError: espeak-ng is absent.
    """
    rng = np.random.default_rng([seed, 53, index])
    seconds = CLIPS * CLIP_S
    people = (_person(model, rng), _person(model, rng))
    layout = draw_layout(rng)
    seats = _seats(layout, seconds, rng)
    lines = exchange(seconds, (people[0].talker, people[1].talker), rng)
    gains = (people[0].talker.gain, people[1].talker.gain)
    sound = mix(lines, gains, seconds, float(rng.uniform(14.0, 40.0)), rng)
    times = np.arange(round(seconds * FPS)) / FPS
    motions = behave(
        model, (people[0].shape, people[1].shape), seats, (people[0].manner, people[1].manner), lines, times, rng
    )
    camera = Rotation.from_euler("yxz", rng.normal(0.0, (3.0, 4.0, 2.0)), degrees=True).as_matrix()
    share = float(rng.uniform(0.65, 0.95))
    heads, focal = _filmed(model, outline, index, people, motions, camera, share)
    return Conversation(index, lines, sound, heads, focal, people, seats, camera)


def behave_again(model: HeadModel, outline: ReducedModel, talk: Conversation, seed: int, draw: int) -> Conversation:
    """The same words in the same places by heads that behave anew, with manners of other people: what could as well
    have happened, as far as sound and places tell. Another ``draw``, another behaviour."""
    rng = np.random.default_rng([seed, 59, talk.index, draw])
    manners = (_person(model, rng).manner, _person(model, rng).manner)
    times = np.arange(len(talk.heads[0].valid)) / FPS
    shapes = (talk.people[0].shape, talk.people[1].shape)
    motions = behave(model, shapes, talk.seats, manners, talk.lines, times, rng)
    heads, focal = _filmed(model, outline, talk.index, talk.people, motions, talk.camera, 0.8)
    return replace(talk, heads=heads, focal_px=focal)


def _filmed(
    model: HeadModel, outline: ReducedModel, index: int, people: tuple[_Person, _Person],
    motions: tuple[HeadMotion, HeadMotion], camera: Array, share: float,
) -> tuple[tuple[HeadTrack, HeadTrack], float]:  # fmt: skip
    """Both heads in the camera's frame, and the focal length at which they fill ``share`` of the picture."""
    placed = [_placed(model, p.shape, m, camera) for p, m in zip(people, motions, strict=True)]
    spread = max(
        max(
            (np.abs(centre[:, 0]).max() + 0.13) / (WIDTH / 2) / centre[:, 2].min(),
            (np.abs(centre[:, 1]).max() + 0.17) / (HEIGHT / 2) / centre[:, 2].min(),
        )
        for _, _, centre in placed
    )
    focal = share / spread
    one, two = (
        _head(model, outline, f"c{index}p{who}", people[who].shape, motions[who], placed[who], focal) for who in (0, 1)
    )
    return (one, two), focal


def _placed(model: HeadModel, shape: Array, motion: HeadMotion, camera: Array) -> tuple[Array, Array, Array]:
    """Rotation [T, 3, 3], root [T, 3] and head centre [T, 3] in the turned camera's frame."""
    joints = model.posed_joints(shape)
    centre = (0.5 * (joints[3] + joints[4]) - joints[0]) * np.array([1.0, -1.0, -1.0])
    rotation, root = camera @ motion.rotation, motion.root @ camera.T
    return rotation, root, root + rotation @ centre


def _head(
    model: HeadModel, outline: ReducedModel, track: str, shape: Array, motion: HeadMotion,
    placed: tuple[Array, Array, Array], focal: float,
) -> HeadTrack:  # fmt: skip
    rotation, root, centre = placed
    frames = len(root)
    flip = np.diag([1.0, -1.0, -1.0])
    axes = Rotation.from_rotvec(motion.eyes.reshape(-1, 3)).as_matrix()[..., 2].reshape(frames, 2, 3).mean(1)
    gaze = np.einsum("tij,tj->ti", rotation @ flip, axes / np.linalg.norm(axes, axis=1, keepdims=True))
    points = reduced_landmarks(outline, np.broadcast_to(shape, (frames, len(shape))), motion.expression, motion.jaw)
    joints = model.posed_joints(shape)
    seen = np.einsum("tij,tlj->tli", rotation @ flip, points - joints[0]) + root[:, None]
    pixels = focal * seen[..., :2] / seen[..., 2:] + (np.array([WIDTH, HEIGHT]) - 1) / 2
    return exact_head(
        track, model.expression_names, shape=shape, expression=motion.expression, jaw=motion.jaw, eyes=motion.eyes,
        rotation=Rotation.from_matrix(rotation).as_rotvec(), translation=root, gaze=gaze, head_centre=centre,
        box=np.concatenate([pixels.min(1), pixels.max(1)], axis=1),
    )  # fmt: skip


def _cut(head: HeadTrack, part: slice) -> HeadTrack:
    frames = len(head.valid)
    values: dict[str, Any] = {
        name: value[part] if isinstance(value, np.ndarray) and name != "shape" and len(value) == frames else value
        for name, value in vars(head).items()
    }
    return HeadTrack(**values)


def conversation_pairs(
    talk: Conversation, model: HeadModel, seed: int, config_hash: str, count: int = CLIPS
) -> Iterator[Pair]:
    """The first ``count`` rows of a conversation; ``a`` is whoever is further left at the row's first frame."""
    video = hashlib.sha256(f"duologue parameters {__version__} {seed} {talk.index}".encode()).hexdigest()
    length = round(CLIP_S * FPS)
    segments = [speech_segments(talk.lines, who) for who in (0, 1)]
    fine = [speech_segments(talk.lines, who, bridge_s=0.2) for who in (0, 1)]
    for clip in range(count):
        part = slice(clip * length, (clip + 1) * length)
        start, end = clip * CLIP_S, (clip + 1) * CLIP_S
        cut = [_cut(head, part) for head in talk.heads]
        order = sorted((0, 1), key=lambda who: float(cut[who].box[0, 0] + cut[who].box[0, 2]))
        face = {who: "ab"[order.index(who)] for who in (0, 1)}
        times = np.arange(part.start, part.stop) / FPS
        said = sorted((s, e, who) for who in (0, 1) for s, e in segments[who])
        turns = turns_within((Turn(s, e, f"v{who}", face[who]) for s, e, who in said), start, end)
        speaking = [
            np.any([(times >= s) & (times < e) for s, e in fine[who]] or [times < 0], axis=0).astype(np.float32)
            for who in order
        ]
        sound = talk.sound[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        fitted = FittedPair(
            times, FPS, WIDTH, HEIGHT, talk.focal_px, "user", 0.0, model.model_id, model.sha256, model.tier,
            cut[order[0]], cut[order[1]],
        )  # fmt: skip
        identifier = pair_id(video, start, end, config_hash)
        source = Source(
            video, f"synthetic:parameters/{seed}/{talk.index}", start, end, license="CC0-1.0",
            attribution="generated by duologue; voices by espeak-ng", origin="synthetic",
        )  # fmt: skip
        first, second = order
        people = (f"synthetic-{seed}-{talk.index}-{first}", f"synthetic-{seed}-{talk.index}-{second}")
        yield exact_pair(
            identifier, source, fitted, config_hash, people, turns, (speaking[0], speaking[1]),
            (f"v{first}", f"v{second}"), sound,
        )  # fmt: skip


def parameter_rows(options: ParameterOptions, config_hash: str) -> Iterator[Row]:
    """The rows of a data set, conversation by conversation."""
    model = load_head_model("canonical")
    outline = reduce(model, OUTLINE)
    left = options.rows
    for index in range(-(-options.rows // CLIPS)):
        talk = make_conversation(model, outline, options.seed, index)
        count = min(CLIPS, left)
        for pair in conversation_pairs(talk, model, options.seed, config_hash, count):
            yield pair_row(pair)
        left -= count


def write_parameters(
    where: str | Path, options: ParameterOptions, progress: Callable[[int, int], None] | None = None
) -> int:
    """Write a whole data set to the local folder ``where``; returns its rows.

    Memory is bounded by one shard: rows wait in ``_work`` files, one a shard, until all are made.

    Args:
        progress: called with (rows done, rows in all).

    Raises:
        UsageError: espeak-ng is absent, bad options, or the folder holds a data set, an unfinished run or files of
            something else, or cannot be written.
    """
    if options.rows < 1 or options.seed < 0:
        raise UsageError("the number of rows must be positive, and the seed not negative")
    files = as_files(where)
    if files.exists(MANIFEST):
        raise UsageError(f"{where} holds a data set already: choose another folder, or delete that one")
    check_names_free(files)
    facts = {"version": __version__, "seed": options.seed, "clip_s": CLIP_S, "fps": FPS, "kind": "parameters"}
    config_hash = hash_of(facts)
    work = Path(where) / "_work"
    if work.exists() and any(path.suffix != ".arrow" for path in work.iterdir()):
        raise UsageError(f"{where} holds the work of an unfinished run: finish it, or choose another folder")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{where}: cannot be made ({error.strerror})") from None
    count = shard_count(options.rows, options.rows_per_shard)
    try:
        entries = _write_shards(Path(where), work, options, config_hash, count, progress)
    except BaseException:  # also where it is interrupted: half a set would stand in the way of the next try
        for name in files.list("pairs"):
            files.delete(name)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    lines = "".join(f"{name}: {value}\n" for name, value in {**facts, **asdict(options)}.items())
    finish_exact(files, entries, config_hash, lines, options.rows, options.rows * CLIP_S)
    return options.rows


def _write_shards(
    root: Path, work: Path, options: ParameterOptions, config_hash: str, count: int,
    progress: Callable[[int, int], None] | None,
) -> list[FileEntry]:  # fmt: skip
    schema = pair_schema()
    for old in work.iterdir():
        old.unlink()
    for done, row in enumerate(parameter_rows(options, config_hash), 1):
        # A stream a row, one after the other in a file: there may be more shards than files may be open.
        path = work / f"{shard_index(row['pair_id'], count)}.arrow"
        with path.open("ab") as file, pa.ipc.new_stream(file, schema) as stream:
            stream.write_table(rows_to_table([row]))
        if progress is not None:
            progress(done, options.rows)
    files = as_files(root)
    entries = []
    for index in range(count):
        rows = sorted(_waiting(work / f"{index}.arrow"), key=lambda row: row["pair_id"])
        entries.append(write_shard(files, rows, index, count))
    return entries


def _waiting(path: Path) -> Iterator[Row]:
    """The rows of a file of streams; none where there is no file."""
    if not path.exists():
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            with pa.ipc.open_stream(file) as stream:
                yield from table_to_rows(stream.read_all())
