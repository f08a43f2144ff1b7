"""``duologue convert``: data sets to and from other formats, and one pair as an animated glTF scene.

Stands beside the command line because it joins ``model`` (formats of faces) and ``viewer`` (meshes).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .model import convert
from .schemas.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    convert.configure(parser, more_targets=("gltf",))
    parser.add_argument(
        "--pair", action="append", default=[], metavar="ID", help="gltf: one .glb and its sound; may be repeated"
    )
    parser.add_argument("--head-model", metavar="PATH", help="gltf: the head model that the rows refer to")


def run(args: argparse.Namespace) -> int:
    """Convert and say what was written."""
    if args.target != "gltf":
        if args.pair or args.head_model:
            raise UsageError("--pair and --head-model go with --to gltf")
        return convert.run(args)
    if not args.pair:
        raise UsageError("--to gltf writes single pairs: name them with --pair ID")
    from .fitting.load_head import load_head_model
    from .schemas.dataset import Dataset
    from .viewer.gltf import write_glb

    dataset, model, out = Dataset(args.input), load_head_model(args.head_model), Path(args.out)
    pairs = [dataset.pair(text) for text in args.pair]
    written = [str(write_glb(pair, model, out / f"{pair.pair_id}.glb")) for pair in pairs]
    for pair in pairs:
        if pair.voices.audio is not None:
            suffix = "wav" if pair.voices.audio[:4] == b"RIFF" else "flac"
            (out / f"{pair.pair_id}.{suffix}").write_bytes(pair.voices.audio)
    if args.json:
        print(json.dumps({"written": len(written), "files": written, "out": str(out)}))
    else:
        for pair, path in zip(pairs, written, strict=True):
            print(path if pair.voices.audio is None else f"{path}, its sound beside it")
    return 0
