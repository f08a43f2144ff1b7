"""The command line of ``duologue curate``. Light: its worker processes import while it does."""

from __future__ import annotations

import argparse

from .local_workers import start_importing
from .runners import RUNNERS


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="files, folders, globs or manifests (.csv, .jsonl, .parquet); any URI",
    )
    add("--out", required=True, metavar="DIR", help="the data-set folder to write, local or a URI")
    add("--workers", type=int, default=1, help="processes on this machine (default 1)")
    add("--runner", default="DirectRunner", help=f"Beam runner: {', '.join(RUNNERS)} (default DirectRunner)")
    add("--config", metavar="FILE", help="YAML with options of the stages; --dry-run prints all of them")
    add("--set", action="append", default=[], metavar="A.B=C", dest="settings", help="one option; may be repeated")
    add("--head-model", metavar="PATH", help="FLAME, GNM, ICT-FaceKit or MediaPipe head (default: the canonical head)")
    add("--geometry-only", action="store_true", help="keep videos without audio; nothing is listened to")
    add("--people", type=int, choices=(1, 2), default=2, help="1: single-speaker rows, whose person b is nobody")
    add("--dry-run", action="store_true", help="print the resolved configuration and what would run, and stop")
    add("--quiet", action="store_true", help="no progress, no funnel")
    add("--json", action="store_true", help="print the result as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Curate, and say what came out."""
    if args.workers > 1 and args.runner == "DirectRunner" and not args.dry_run:
        start_importing(args.workers)
    from .curate import run as curate  # seconds of imports

    return curate(args)
