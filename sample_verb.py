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
from pathlib import Path

import numpy as np

from .schemas.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Animate both people of a conversation from its mixed sound. DIR becomes a data set of one row, with "
        "scene.glb, film.mp4 and view/index.html. --text says where the two are; without it they sit face to face."
    )
    add = parser.add_argument
    add("audio", metavar="AUDIO", help="WAV, FLAC, Ogg or MP3; other rates than 16 kHz are resampled")
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
    from .fitting.layout import parse
    from .fitting.layout_llm import KEY_VARIABLE, Endpoint
    from .fitting.load_head import load_head_model
    from .fitting.scene_text import EXAMPLE, scene_from_text
    from .model.checkpoint import LAST, load_trained
    from .model.sample import Placement, generate
    from .schemas.manifest import MANIFEST
    from .schemas.records import Backend
    from .transforms.speech_file import read_speech
    from .viewer.generated import GeneratedMotion, generated_pair, write_generated

    if (Path(args.out) / MANIFEST).exists():
        raise UsageError(f"{args.out} holds a data set already: choose another folder")
    if bool(args.llm) != bool(args.llm_model) or (args.llm and not args.text):
        raise UsageError("--llm URL, --llm-model NAME and --text go together")
    sound, note = read_speech(args.audio)
    reader = Endpoint(args.llm, args.llm_model, os.environ.get(KEY_VARIABLE, "")) if args.llm else parse
    scene = scene_from_text(args.text or EXAMPLE, reader)
    trained = load_trained(args.checkpoint, args.device)
    model = load_head_model(args.head_model)
    if trained.statistics.head_model_id != model.model_id:
        raise UsageError(
            f"{args.checkpoint} was trained with head model {trained.statistics.head_model_id}, this is "
            f"{model.model_id}: give the right one with --head-model"
        )
    for text in ([f"{args.audio}: {note}"] if note else []) + (
        [f"not understood: {scene.unread}"] if scene.unread else []
    ):
        print(f"note: {text}", file=sys.stderr)
    one, two = (
        Placement(scene.centre[k].astype(np.float32), scene.rotation[k].astype(np.float32), held=scene.turned[k])
        for k in (0, 1)
    )
    began = time.perf_counter()
    made = generate(trained, sound, (one, two), seed=args.seed, guidance=args.guidance, steps=args.steps)
    took = time.perf_counter() - began
    heads = (made.a, made.b)
    names = ("shape", "expression", "jaw", "neck", "rotation", "translation", "eyes")
    motion = GeneratedMotion(
        **{name: np.stack([getattr(head, name) for head in heads]) for name in names},
        speaking=np.asarray(made.speaking, dtype=np.float32),
        fps=made.fps,
    )
    file = Path(args.checkpoint) / LAST if Path(args.checkpoint).is_dir() else Path(args.checkpoint)
    backend = Backend("sample", f"dual-stream, step {trained.step}", hashlib.sha256(file.read_bytes()).hexdigest())
    pair = generated_pair(motion, sound, model, source_uri=str(args.audio), backend=backend)
    facts = {
        "audio": str(args.audio), "text": args.text or "", "codes": list(scene.codes), "seed": args.seed,
        "checkpoint_sha256": backend.weights_sha256, "guidance": args.guidance, "steps": args.steps,
    }  # fmt: skip
    written = write_generated(pair, model, args.out, json.dumps({"sample": facts}, indent=1) + "\n")
    frames = motion.expression.shape[1]
    asked, got = set(scene.codes), set(pair.relation.codes)
    if args.json:
        facts |= {
            "pair_id": written.pair_id, "scene": str(written.scene), "film": str(written.film), "frames": frames,
            "page": str(written.page), "codes_found": sorted(asked & got), "person_frames_per_s": 2 * frames / took,
        }  # fmt: skip
        print(json.dumps(facts))
        return 0
    print(
        f"{frames / made.fps:.1f} s of two heads in {took:.1f} s; {len(asked & got)} of {len(asked)} layout codes hold"
    )
    for path in (written.page, written.film, written.scene):
        print(f"     {path}")
    return 0
