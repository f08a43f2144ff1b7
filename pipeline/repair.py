"""``duologue repair``: a readable data set again from whatever is intact."""

from __future__ import annotations

import argparse
import json

from ..schemas.repair import repair
from .verb_files import files_of

HELP = "rebuild the manifest from intact shards, set broken ones aside"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = "Rebuild manifest, selection and card from intact shards. Broken ones go to DIR/_quarantine."
    parser.add_argument("dataset", metavar="DIR", help="a data-set folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Repair and say everything that was lost or assumed."""
    result = repair(files_of(args.dataset))
    if args.json:
        print(json.dumps(vars(result)))
        return 0
    for line in result.lines:
        print(line)
    print(f"{args.dataset}: {result.pairs} pairs, {len(result.quarantined)} file(s) set aside")
    return 0
