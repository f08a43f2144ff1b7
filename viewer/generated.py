"""What a network generated, written so that every other verb can use it: a row, a glTF scene, a page, a film."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from .. import __version__
from ..fitting.dyad import relate
from ..fitting.head_model import HeadModel
from ..schemas.audio import encode_audio
from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from ..schemas.files import LocalFiles
from ..schemas.finish import check_names_free, finish_dataset, write_pairs, write_rejects
from ..schemas.heads import FittedPair, HeadTrack
from ..schemas.manifest import MANIFEST
from ..schemas.pair import SAMPLE_RATE, pair_id
from ..schemas.records import Backend, Turn
from ..schemas.row import Pair, Provenance, Source, Voices
from ..schemas.selection import SelectionOptions
from ..schemas.tracks import Bool, Float32
from ..transforms.exact import exact_scores
from .gltf import write_glb
from .heads_video import write_heads_video
from .overlay import head_vertices, project
from .view import write_page

WIDTH, HEIGHT = 1280, 720
SCENE, FILM, VIEW = "scene.glb", "film.mp4", "view"  # beside the row
EYES_SHUT = 0.65  # lid closure from which the gaze counts as unknown
SHORTEST_TURN_S = 0.2


@dataclass(frozen=True)
class GeneratedMotion:
    """Motion of two people over T frames; index 0 is the one on the left. Units and frames of :class:`HeadTrack`.

    Attributes:
        shape [2, S], expression [2, T, E], jaw, neck, rotation, translation [2, T, 3], eyes [2, T, 2, 3], speaking
            [2, T] 0..1.
        scale: factors on the head model, as :class:`HeadTrack`'s.
    """

    shape: Float32
    expression: Float32
    jaw: Float32
    neck: Float32
    rotation: Float32
    translation: Float32
    eyes: Float32
    speaking: Float32
    fps: float = 25.0
    scale: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Written:
    """Where everything is."""

    pair_id: str
    dataset: Path
    scene: Path
    page: Path
    film: Path


def generated_pair(
    motion: GeneratedMotion,
    sound: Float32,
    model: HeadModel,
    *,
    source_uri: str,
    backend: Backend,
    answered: Pair | None = None,
) -> Pair:
    """The row of generated motion. The camera is one that sees both heads; nothing was measured, so that every
    uncertainty is zero.

    Args:
        sound: [N] 16 kHz mono; cut or padded with silence to the motion's length.
        source_uri: the sound file. backend: the network, with its checkpoint's sha256.
        answered: the row whose sound and one person's motion these are: its source, licence, people, clock and backends
            are kept, so that who takes it out of a data set finds this one too.

    Raises:
        UsageError: motion that is not finite, of another head model, or behind the camera.
    """
    frames = motion.expression.shape[1]
    for name, value in vars(motion).items():
        if isinstance(value, np.ndarray) and not np.isfinite(value).all():
            raise UsageError(f"the generated {name} holds NaN or infinity: the checkpoint is not usable")
    if motion.expression.shape[2] != len(model.expression_names) or motion.shape.shape[1] != len(model.shape_names):
        raise UsageError(
            f"generated for a head of {motion.shape.shape[1]} shapes and {motion.expression.shape[2]} expressions; "
            f"{model.model_id} has {len(model.shape_names)} and {len(model.expression_names)}"
        )
    heads = [_head(motion, who, model) for who in (0, 1)]
    depth = min(float(head.head_centre[:, 2].min()) for head in heads)
    if depth < 0.2:
        raise UsageError("the generated heads come closer to the camera than 0.2 m: nothing to show")
    spread = max(
        max(
            float(((np.abs(c[:, 0]) + 0.15) / c[:, 2]).max()) / (WIDTH / 2),
            float(((np.abs(c[:, 1]) + 0.20) / c[:, 2]).max()) / (HEIGHT / 2),
        )
        for c in (head.head_centre for head in heads)
    )
    focal = 0.95 / spread
    heads = [_boxed(head, model, focal) for head in heads]
    length = round(frames / motion.fps * SAMPLE_RATE)
    audio = np.zeros(length, np.float32)
    audio[: min(length, len(sound))] = sound[:length]
    content = hashlib.sha256(audio.tobytes() + motion.rotation.tobytes() + motion.expression.tobytes()).hexdigest()
    start = 0.0 if answered is None else answered.source.start_s
    end = start + frames / motion.fps
    config = hashlib.sha256(f"sample {__version__} {backend.name} {backend.weights_sha256}".encode()).hexdigest()[:24]
    identifier = pair_id(content, start, end, config)
    fitted = FittedPair(
        start + np.arange(frames) / motion.fps, motion.fps, WIDTH, HEIGHT, focal, "user", 0.0, model.model_id,
        model.sha256, model.tier, heads[0], heads[1],
    )  # fmt: skip
    relation = relate(fitted, seed=identifier)
    turns = _turns(motion.speaking > 0.5, motion.fps, start)
    speaking = (motion.speaking[0].astype(np.float32), motion.speaking[1].astype(np.float32))
    source = Source(content, source_uri, start, end, origin="synthetic")
    backends: tuple[Backend, ...] = (backend,)
    if answered is not None:
        source = replace(answered.source, start_s=start, end_s=end, origin="synthetic")
        backends = (*answered.provenance.backends, backend)
    return Pair(
        pair_id=identifier,
        source=source,
        person_a="" if answered is None else answered.person_a,
        person_b="" if answered is None else answered.person_b,
        fitted=fitted,
        relation=relation,
        voices=Voices(turns, *speaking, "v0", "v1", encode_audio(audio)),
        scores=exact_scores(fitted, relation, turns, speaking, audio),
        provenance=Provenance(config, __version__, backends),
    )


def _turns(on: Bool, fps: float, start_s: float) -> tuple[Turn, ...]:
    turns = []
    for who in (0, 1):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], on[who].astype(np.int8), [0]])))
        for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if (last - first) / fps >= SHORTEST_TURN_S:
                turns.append(Turn(start_s + first / fps, start_s + last / fps, f"v{who}", "ab"[who]))
    return tuple(sorted(turns, key=lambda turn: (turn.start_s, turn.face)))


def _head(motion: GeneratedMotion, who: int, model: HeadModel) -> HeadTrack:
    shape = motion.shape[who].astype(np.float64)
    joints = model.posed_joints(shape)
    rotation = Rotation.from_rotvec(motion.rotation[who].astype(np.float64)).as_matrix()
    turn = rotation @ np.diag([1.0, -1.0, -1.0])
    frames = len(turn)
    middle = motion.scale[who] * (0.5 * (joints[3] + joints[4]) - joints[0])
    axes = Rotation.from_rotvec(motion.eyes[who].reshape(-1, 3).astype(np.float64)).as_matrix()[..., 2]
    axis = axes.reshape(frames, 2, 3).mean(1)
    gaze = np.einsum("tij,tj->ti", turn, axis / np.linalg.norm(axis, axis=1, keepdims=True))
    shut = np.zeros(frames, dtype=bool)
    if "eyeBlinkLeft" in model.expression_names:
        shut = motion.expression[who][:, model.expression_names.index("eyeBlinkLeft")] > EYES_SHUT
    gaze[shut] = np.nan
    single = np.float32
    zeros = np.zeros(frames, single)
    return HeadTrack(
        track_id=f"g{who}",
        shape=motion.shape[who].astype(single),
        expression=motion.expression[who].astype(single),
        jaw=motion.jaw[who].astype(single),
        neck=motion.neck[who].astype(single),
        rotation=Rotation.from_matrix(rotation).as_rotvec().astype(single),  # of at most half a turn
        translation=motion.translation[who].astype(single),
        eyes=motion.eyes[who].astype(single),
        gaze_raw=gaze.astype(single),
        gaze=gaze.astype(single),
        head_centre=(motion.translation[who] + turn @ middle).astype(single),
        rotation_sd=np.zeros((frames, 3), single),
        translation_sd=zeros,
        gaze_sd=np.where(shut, np.nan, 0.0).astype(single),
        residual=zeros,
        box=np.full((frames, 4), np.nan, single),
        confidence=np.ones(frames, single),
        valid=np.ones(frames, dtype=bool),
        scale_log_sd=0.0,
        scale=motion.scale[who],
    )


def _boxed(head: HeadTrack, model: HeadModel, focal: float) -> HeadTrack:
    """The head with the boxes of its landmarks."""
    boxes = []
    for frame in range(len(head.valid)):
        pixels = project(model.landmarks(head_vertices(model, head, frame)), focal, WIDTH, HEIGHT)
        boxes.append(np.concatenate([pixels.min(0), pixels.max(0)]))
    return HeadTrack(**{**vars(head), "box": np.asarray(boxes, dtype=np.float32)})


def check_place(out: str | Path) -> None:
    """Before any work: may a generated pair be written to ``out``?

    Raises:
        UsageError: the folder holds a data set, or files that would be overwritten.
    """
    files = LocalFiles(out)
    if files.exists(MANIFEST):
        raise UsageError(f"{out} holds a data set already: choose another folder")
    check_names_free(files)
    taken = [name for name in (SCENE, FILM, VIEW) if (Path(out) / name).exists()]
    if taken:
        raise UsageError(f"{out} is not a data set and holds {taken[0]}; give what is generated a folder of its own")


def write_generated(pair: Pair, model: HeadModel, out: str | Path, config_yaml: str) -> Written:
    """Write ``out`` as a data set of one row, with ``scene.glb``, ``film.mp4`` and ``view/index.html`` beside it.

    Raises:
        UsageError: as :func:`check_place`, or the folder cannot be written.
    """
    check_place(out)
    root = Path(out)
    files = LocalFiles(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be made: {error.strerror}") from None
    scene = write_glb(pair, model, root / SCENE)
    film = write_heads_video(pair, root / FILM, model)
    length = pair.source.end_s / 3600
    finish_dataset(
        files, write_pairs(files, [pair]), write_rejects(files, []), config_hash=pair.provenance.config_hash,
        code_version=pair.provenance.code_version, config_yaml=config_yaml,
        funnel={"sample": {"kept": {"items": 1, "hours": length}}},
        options=SelectionOptions(yaw_deg=180.0, speech_share=0.0, snr_db=-100.0),
    )  # fmt: skip
    page = write_page(Dataset(files), [pair.pair_id], root / VIEW, model)
    return Written(pair.pair_id, root, scene, page, film)
