"""``duologue remove``: take videos, sources or people out of a data set for good."""

from __future__ import annotations

import argparse
import json

from ..schemas.remove import remove
from ..schemas.takedown import KINDS, Takedown
from .verb_files import files_of

HELP = "take videos, sources or people out for good"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Rewrite shards and manifest without what is named, delete intermediate work, and remember it in "
        "takedowns.jsonl, so that a later run does not bring it back. Without names: finish earlier takedowns."
    )
    parser.add_argument("dataset", metavar="DIR", help="a data-set folder")
    parser.add_argument("--video", action="append", default=[], metavar="ID", help="video id, or its first 16 digits")
    parser.add_argument("--source", action="append", default=[], metavar="ID", help="source id, or the URI of a video")
    parser.add_argument("--person", action="append", default=[], metavar="ID", help="person id")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Remove and say what went."""
    takedowns = [Takedown(kind, text) for kind in KINDS for text in getattr(args, kind)]
    result = remove(files_of(args.dataset), takedowns)
    if args.json:
        print(json.dumps({**vars(result), "pairs": list(result.pairs)}))
        return 0
    print(
        f"{len(result.pairs)} pair(s) and {result.rejects} reject(s) removed, {result.shards} shard(s) rewritten, "
        f"{result.work_files} work file(s) deleted"
    )
    if not result.pairs and takedowns:
        print("no row matched (was the id right?); the takedown is remembered for later runs")
    return 0
