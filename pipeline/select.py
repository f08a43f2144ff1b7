"""``duologue select``: apply other thresholds to a finished data set, without touching pixels."""

from __future__ import annotations

import argparse
import json

from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from ..schemas.finish import reselect
from ..schemas.selection import DEFAULTS, changed, selection_options, summary
from .verb_files import files_of

HELP = "re-apply thresholds to stored scores; no pixels"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    names = ", ".join(f"{name} ({value})" for name, value in vars(DEFAULTS).items())
    parser.description = f"Choose pairs by thresholds over their stored scores. Thresholds (defaults): {names}."
    parser.add_argument("dataset", metavar="DIR", help="a data-set folder")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a threshold; may be repeated")
    parser.add_argument("--defaults", action="store_true", help="start from the defaults, not the thresholds in use")
    parser.add_argument("--dry-run", action="store_true", help="say what would be selected, write nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Re-select and say what is kept."""
    from ..schemas.finish import read_light
    from ..schemas.selection import select

    dataset = Dataset(files_of(args.dataset))
    before = None
    options = DEFAULTS
    try:
        before = dataset.selection()
        options = DEFAULTS if args.defaults else selection_options(before)
    except UsageError:
        if not args.set and not args.defaults:
            raise
    options = changed(options, args.set)
    if args.dry_run:
        after = select(read_light(dataset.files, dataset.manifest), options)
    else:
        reselect(dataset.files, options)
        after = Dataset(dataset.files).selection()
    counts = summary(after)
    if args.json:
        print(json.dumps({**counts, "options": vars(options)}))
        return 0
    was = f" (was {summary(before)['selected']})" if before is not None else ""
    print(f"{counts['selected']} of {counts['pairs']} pairs selected{was}{', nothing written' if args.dry_run else ''}")
    for label in ("splits", "reasons"):
        values = counts[label]
        assert isinstance(values, dict)
        print(f"{label}: " + (", ".join(f"{name} {count}" for name, count in values.items()) or "none"))
    return 0
