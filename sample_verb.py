"""``duologue sample``: a sound file and a sentence in, two moving heads out.

Stands beside the command line because it joins ``model`` (the network) and ``viewer`` (scenes, films, pages).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .schemas.errors import UsageError
from .schemas.heads import HeadTrack
from .schemas.tracks import Float32

if TYPE_CHECKING:
    from .model.sample import Placement
    from .schemas.row import Pair


MOST_STEPS = 1000  # more change nothing, and at many more the sampler's times coincide


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Animate both people of a conversation from its mixed sound, or one of them as the answer to the other's "
        "measured motion. DIR becomes a data set of one row, with scene.glb, film.mp4 and view/index.html. --text "
        "says where the two are; without it they sit face to face."
    )
    add = parser.add_argument
    add("audio", nargs="?", metavar="AUDIO", help="WAV, FLAC, Ogg or MP3; other rates than 16 kHz are resampled")
    add(
        "--answer", nargs=3, metavar=("SET", "PAIR_ID", "PERSON"),
        help="instead of AUDIO: take a row's sound, places, turns and the motion of PERSON (a or b); animate the other",
    )  # fmt: skip
    add("--checkpoint", required=True, metavar="CKPT", help="a checkpoint of duologue train, or its run's folder")
    add("--text", metavar="SENTENCE", help='where they are, as "they sit side by side, half a metre apart"')
    add("--llm", metavar="URL", help="let this OpenAI-compatible endpoint read the text, as http://localhost:8000/v1")
    add("--llm-model", metavar="NAME", help="the endpoint's model; its key is read from DUOLOGUE_LLM_KEY")
    add("--out", required=True, metavar="DIR", help="a new folder")
    add("--seed", type=int, default=0, help="the same seed gives the same motion")
    add("--guidance", type=float, help="how strongly the sound is followed (default: the checkpoint's)")
    add("--steps", type=int, help="sampler steps (default: the checkpoint's)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
    add("--head-model", metavar="PATH", help="the head model that the checkpoint was trained with")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Generate, write everything, and say where it is."""
    from .fitting.load_head import load_head_model
    from .model.checkpoint import LAST, load_trained
    from .model.sample import generate
    from .schemas.records import Backend
    from .viewer.generated import GeneratedMotion, check_place, generated_pair, write_generated

    check_place(args.out)
    if args.guidance is not None and not 0 <= args.guidance <= 100:
        raise UsageError(f"--guidance {args.guidance:g}: it must lie between 0 and 100")
    if args.steps is not None and not 1 <= args.steps <= MOST_STEPS:
        raise UsageError(f"--steps {args.steps}: it must lie between 1 and {MOST_STEPS}")
    if bool(args.audio) == bool(args.answer):
        raise UsageError("give AUDIO, or --answer SET PAIR_ID PERSON")
    if args.answer and (args.text or args.llm):
        raise UsageError("--answer takes both people's places from the row: leave --text and --llm out")
    if bool(args.llm) != bool(args.llm_model) or (args.llm and not args.text):
        raise UsageError("--llm URL, --llm-model NAME and --text go together")
    asked = _answer(*args.answer) if args.answer else _from_sound(args)
    trained = load_trained(args.checkpoint, args.device)
    model = load_head_model(args.head_model)
    for of, known in ((args.checkpoint, trained.statistics.head_model_id), (asked.source, asked.head_model_id)):
        if known not in ("", model.model_id):
            raise UsageError(
                f"{of} was made with head model {known}, this is {model.model_id}: give the right one with --head-model"
            )
    if asked.fps not in (0.0, trained.config.load.fps):
        raise UsageError(f"{asked.source} has {asked.fps:g} frames a second, the network {trained.config.load.fps:g}")
    if asked.manner and not trained.config.diffusion.manner_told:
        told = f"{', '.join(asked.manner)} are left to the network: it was trained with diffusion.manner_told 0"
        asked = replace(asked, notes=(*asked.notes, told), manner={})
    for note in asked.notes:
        print(f"note: {note}", file=sys.stderr)
    began = time.perf_counter()
    made = generate(
        trained, asked.sound, asked.places, speaking=asked.speaking, partner=asked.partner, manner=asked.manner,
        seed=args.seed, guidance=args.guidance, steps=args.steps,
    )  # fmt: skip
    took = time.perf_counter() - began
    heads = (made.a, made.b)
    names = ("shape", "expression", "jaw", "neck", "rotation", "translation", "eyes")
    motion = GeneratedMotion(
        **{name: np.stack([getattr(head, name) for head in heads]) for name in names},
        speaking=np.asarray(made.speaking, dtype=np.float32),
        fps=made.fps,
        scale=(made.a.scale, made.b.scale),
    )
    file = Path(args.checkpoint) / LAST if Path(args.checkpoint).is_dir() else Path(args.checkpoint)
    backend = Backend("sample", f"dual-stream, step {trained.step}", hashlib.sha256(file.read_bytes()).hexdigest())
    pair = generated_pair(motion, asked.sound, model, source_uri=asked.source, backend=backend, answered=asked.pair)
    facts = {
        "audio": str(args.audio or ""), "answer": args.answer or [], "text": args.text or "",
        "codes": list(asked.codes), "seed": args.seed, "checkpoint_sha256": backend.weights_sha256,
        "guidance": args.guidance, "steps": args.steps,
    }  # fmt: skip
    written = write_generated(pair, model, args.out, json.dumps({"sample": facts}, indent=1) + "\n")
    frames = motion.expression.shape[1]
    wanted, got = set(asked.codes), set(pair.relation.codes)
    if args.json:
        facts |= {
            "pair_id": written.pair_id, "scene": str(written.scene), "film": str(written.film), "frames": frames,
            "page": str(written.page), "codes_found": sorted(wanted & got), "person_frames_per_s": 2 * frames / took,
        }  # fmt: skip
        print(json.dumps(facts))
        return 0
    held = f"; {len(wanted & got)} of {len(wanted)} layout codes hold" if wanted else ""
    print(f"{frames / made.fps:.1f} s of two heads in {took:.1f} s{held}")
    for path in (written.page, written.film, written.scene):
        print(f"     {path}")
    return 0


@dataclass(frozen=True)
class _Asked:
    """What to animate: sound, places, and what is known beside; "" and 0 where nothing is."""

    source: str
    sound: Float32
    places: tuple[Placement, Placement]
    codes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    speaking: Float32 | None = None
    partner: tuple[HeadTrack | None, HeadTrack | None] = (None, None)
    manner: Mapping[str, float] = field(default_factory=dict)
    head_model_id: str = ""
    fps: float = 0.0
    pair: Pair | None = None


def _from_sound(args: argparse.Namespace) -> _Asked:
    from .fitting.layout import parse
    from .fitting.layout_llm import KEY_VARIABLE, Endpoint
    from .fitting.scene_text import EXAMPLE, scene_from_text
    from .model.sample import Placement
    from .transforms.speech_file import read_speech

    sound, note = read_speech(args.audio)
    reader = Endpoint(args.llm, args.llm_model, os.environ.get(KEY_VARIABLE, "")) if args.llm else parse
    scene = scene_from_text(args.text or EXAMPLE, reader)
    notes = [f"{args.audio}: {note}"] if note else []
    notes += [f"not understood: {scene.unread}"] if scene.unread else []
    one, two = (
        Placement(scene.centre[k].astype(np.float32), scene.rotation[k].astype(np.float32), held=scene.turned[k])
        for k in (0, 1)
    )
    return _Asked(str(args.audio), sound, (one, two), tuple(scene.codes), tuple(notes), manner=scene.manner)


def _answer(folder: str, identifier: str, person: str) -> _Asked:
    from .model.answers import sound_of
    from .model.sample import place_like
    from .schemas.dataset import Dataset

    if person not in ("a", "b"):
        raise UsageError(f"--answer: PERSON is a or b, not {person!r}")
    pair = Dataset(folder).pair(identifier)
    fitted = pair.fitted
    sound = sound_of(pair)
    if not len(sound):
        raise UsageError(f"--answer: {identifier} has no sound")
    return _Asked(
        pair.source.source_uri,
        sound,
        place_like((fitted.a, fitted.b)),
        speaking=np.stack([pair.voices.speaking_a, pair.voices.speaking_b]),
        partner=(fitted.a, None) if person == "a" else (None, fitted.b),
        head_model_id=fitted.head_model_id,
        fps=fitted.fps,
        pair=pair,
    )
