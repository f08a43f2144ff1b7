"""Data sets of the learning benchmark: exact conversations, the same with mouths as they are measured, dubbed ones."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from duologue.fitting.load_head import load_head_model
from duologue.fitting.reduce import reduce
from duologue.model.dyad_metrics import lip_modes
from duologue.pipeline.dub import dub_dataset
from duologue.schemas.audio import encode_audio
from duologue.schemas.dataset import Dataset
from duologue.schemas.files import LocalFiles
from duologue.schemas.finish import finish_dataset, write_pairs, write_rejects
from duologue.schemas.heads import HeadTrack
from duologue.schemas.row import Pair
from duologue.schemas.selection import SelectionOptions
from duologue.synthesis.exchange import mix
from duologue.synthesis.parameters import CLIP_S, CLIPS, OUTLINE, conversation_pairs, make_conversation
from duologue.synthesis.voices import SAMPLE_RATE
from scipy.ndimage import gaussian_filter1d

MODEL = load_head_model("canonical")
LIPS = lip_modes(MODEL.expression_names)
BLINK = MODEL.expression_names.index("eyeBlinkLeft")
MEASURED_LAG, MEASURED_NOISE = 2.5, 0.5  # frames of smoothing; sd of slow noise, shares of each number's own deviation
SINGLES_SEED = 4


def conversations(folder: Path, count: int) -> Path:
    """``count`` exact pairs of ``synthesize --parameters``; made once."""
    out = folder / "set"
    if not (out / "manifest.json").exists():
        command = ["duologue", "synthesize", "--parameters", str(count), "--seed", "3", "--out", str(out)]
        subprocess.run(command, check=True)
    return out


def measured(source: Path, out: Path) -> Path:
    """The pairs of ``source`` with mouths as hard footage gives them: smoothed in time and with noise, so that they
    correlate with the truth as the accuracy suite's blurred clips do (0.8). Everything else stays exact."""
    if not (out / "manifest.json").exists():
        pairs = Dataset(source).pairs(selected=False)
        options = SelectionOptions(yaw_deg=180.0, val_share=0.1, test_share=0.1)
        _write(out, (replace(pair, fitted=_blurred(pair)) for pair in pairs), options)
    return out


def _blurred(pair: Pair) -> Any:
    rng = np.random.default_rng(int(pair.pair_id[:8], 16))

    def head(track: HeadTrack) -> HeadTrack:
        def blur(values: np.ndarray) -> np.ndarray:
            slow = gaussian_filter1d(values, MEASURED_LAG, axis=0)
            noise = gaussian_filter1d(rng.normal(size=values.shape), 2.0, axis=0)
            noise *= MEASURED_NOISE * values.std(0) / np.maximum(noise.std(0), 1e-9)
            return np.asarray(slow + noise, np.float32)

        expression = track.expression.copy()
        expression[:, LIPS] = blur(expression[:, LIPS])
        return replace(track, expression=expression, jaw=blur(track.jaw))

    return replace(pair.fitted, a=head(pair.fitted.a), b=head(pair.fitted.b))


def dubbed(folder: Path, rows: int) -> Path:
    """About ``rows`` dialogues that ``duologue dub`` makes of people who are in no other set; exact mouths."""
    out = folder / "dubbed"
    if not (out / "manifest.json").exists():
        singles = folder / "singles"
        if not (singles / "manifest.json").exists():
            talks = -(-rows // (2 * CLIPS))
            _write(
                singles, _singles(talks), SelectionOptions(yaw_deg=180.0, bound_share=0.0, val_share=0, test_share=0)
            )
        dub_dataset(str(singles), str(out), per_clip=1)
    return out


def _singles(talks: int) -> Iterator[Pair]:
    """Each person of ``talks`` conversations alone, with only their own voice: rows as ``curate --people 1`` makes."""
    outline = reduce(MODEL, OUTLINE)
    for index in range(talks):
        talk = make_conversation(MODEL, outline, SINGLES_SEED, index)
        rng = np.random.default_rng([SINGLES_SEED, index])
        alone = [
            mix(tuple(line for line in talk.lines if line.speaker == who), (0.8, 0.8), CLIPS * CLIP_S, 40.0, rng)
            for who in (0, 1)
        ]
        for pair in conversation_pairs(talk, MODEL, SINGLES_SEED, "singles"):
            first, last = round(pair.source.start_s * SAMPLE_RATE), round(pair.source.end_s * SAMPLE_RATE)
            for who in "ab":
                number = int(getattr(pair.voices, f"voice_{who}")[1:])
                yield _only(pair, who, encode_audio(alone[number][first:last]))


def _only(pair: Pair, who: str, sound: bytes) -> Pair:
    head: HeadTrack = getattr(pair.fitted, who)
    person = getattr(pair, f"person_{who}")
    frames = len(head.valid)
    unknown = np.full(frames, np.nan, np.float32)

    def without(values: Any) -> Any:
        numbers = isinstance(values, np.ndarray) and values.dtype == np.float32
        return np.full_like(values, np.nan) if numbers else values

    empty = {field.name: without(getattr(head, field.name)) for field in fields(head)}
    empty |= {"track_id": "", "shape": np.zeros_like(head.shape), "valid": np.zeros(frames, bool)}
    empty |= {"confidence": np.zeros(frames, np.float32)}
    turns = tuple(replace(turn, face="a") for turn in pair.voices.turns if turn.face == who)
    speaking = getattr(pair.voices, f"speaking_{who}")
    relation = replace(
        pair.relation, camera_to_dyad=np.eye(4), distance_m=unknown, relative_position_sd=unknown, looking_a=unknown,
        looking_b=unknown, mutual_gaze=unknown, layout={}, codes=(), captions=(),
    )  # fmt: skip
    video = hashlib.sha256(f"{pair.source.video_id}{person}".encode()).hexdigest()
    scores = {name: value for name, value in pair.scores.items() if not name.endswith(("_a", "_b"))}
    scores |= {f"{name[:-2]}_a": value for name, value in pair.scores.items() if name.endswith(f"_{who}")}
    scores |= {"speech_share": float(np.mean(speaking > 0.5)), "bound_share": 1.0, "overlap_share": 0.0}
    return replace(
        pair,
        pair_id=hashlib.sha256(f"{pair.pair_id}{who}".encode()).hexdigest()[: len(pair.pair_id)],
        source=replace(pair.source, video_id=video, source_id="", n_people=1),
        fitted=replace(pair.fitted, a=head, b=HeadTrack(**empty)),
        relation=relation,
        voices=replace(pair.voices, turns=turns, speaking_a=speaking, speaking_b=0 * speaking, voice_b="", audio=sound),
        scores=scores,
        person_a=person,
        person_b="",
    )  # fmt: skip


def _write(out: Path, pairs: Iterable[Pair], options: SelectionOptions) -> None:
    files = LocalFiles(out)
    finish_dataset(
        files, write_pairs(files, pairs), write_rejects(files, []), config_hash="bench", code_version="0",
        config_yaml="", funnel={}, options=options,
    )  # fmt: skip
