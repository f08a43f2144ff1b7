"""``duologue verify``: check every file and every row of a data set."""

from __future__ import annotations

import argparse
import json

from ..schemas.verify import verify
from .verb_files import files_of

HELP = "check every file and row of a data set"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Check hashes, schema, ids, array shapes, validity, units, times, turns, sound, selection and splits. "
        "Exits with 1 where anything is wrong."
    )
    parser.add_argument("dataset", metavar="DIR", help="a data-set folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Verify, print each problem on a line, return 1 where there is one."""
    report = verify(files_of(args.dataset))
    if args.json:
        problems = [vars(problem) for problem in report.problems]
        print(json.dumps({"sound": report.sound, "files": report.files, "pairs": report.pairs, "problems": problems,
                          "notes": report.notes}))  # fmt: skip
        return 0 if report.sound else 1
    for problem in report.problems:
        print(problem)
    for note in report.notes:
        print(f"note: {note}")
    state = "sound" if report.sound else f"{len(report.problems)} problem(s); see 'duologue repair'"
    print(f"{args.dataset}: {report.files} files, {report.pairs} pairs: {state}")
    return 0 if report.sound else 1
