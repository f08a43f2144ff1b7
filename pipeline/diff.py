"""``duologue diff``: do two data sets say the same?"""

from __future__ import annotations

import argparse
import json
import math

from ..schemas.diff import diff, difference_lines
from ..schemas.errors import UsageError
from .verb_files import files_of

HELP = "compare two data sets, value by value, with tolerances"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Compare the clips of two data sets. Exits with 1 where they differ beyond the tolerances; of what is told "
        "frame by frame, one frame of a clip in 250 begun may."
    )
    parser.add_argument("first", metavar="A", help="a data-set folder")
    parser.add_argument("second", metavar="B", help="another")
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="multiply every tolerance (default 1)")
    parser.add_argument("--exact", action="store_true", help="no tolerance, sound included")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Compare and print what differs; 0 where nothing does."""
    if not (math.isfinite(args.scale) and args.scale >= 0):
        raise UsageError("--scale must be a number of at least 0")
    found = diff(files_of(args.first), files_of(args.second), scale=0.0 if args.exact else args.scale)
    if args.json:
        columns = {
            name: {"rows": c.rows, "largest": None if math.isinf(c.largest) else c.largest, "example": c.example}
            for name, c in found.columns.items()
        }
        print(json.dumps({**vars(found), "equal": found.equal, "columns": columns}))
        return 0 if found.equal else 1
    for line in difference_lines(found):
        print(line)
    print(f"{found.pairs} pairs compared: {'equal' if found.equal else 'different'}")
    return 0 if found.equal else 1
