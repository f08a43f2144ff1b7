"""The command line of ``duologue refit``. Light: help and a wrong option are told before seconds of imports."""

from __future__ import annotations

import argparse

from .runners import RUNNERS


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Fit every pair of a data set again with another head model, from the landmarks stored beside it. Heads, gaze, "
        "relation, layout and the scores that follow from them are new; sound, turns and tracks stay. Writes a whole "
        "new data set; DIR is only read. Run the same command again to go on after an interruption."
    )
    add = parser.add_argument
    add("dataset", metavar="DIR", help="a data-set folder with landmarks/")
    add("--head-model", required=True, metavar="PATH", help="FLAME, GNM, ICT-FaceKit or MediaPipe head, or 'canonical'")
    add("--out", metavar="DIR2", help="the folder to write (default: DIR-<head model>)")
    add("--workers", type=int, default=1, help="processes on this machine (default 1)")
    add("--runner", default="DirectRunner", help=f"Beam runner: {', '.join(RUNNERS)} (default DirectRunner)")
    add("--quiet", action="store_true", help="no progress, no summary")
    add("--json", action="store_true", help="print the result as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Refit, and say what came out."""
    from .refit import run as refit  # seconds of imports

    return refit(args)
