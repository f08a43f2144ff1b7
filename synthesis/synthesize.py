"""``duologue synthesize``: make a two-person conversation with exact truth."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from ..schemas.errors import UsageError
from .scenario import Scenario, check, lasting, load_scenario


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--out", required=True, metavar="DIR", help="where the video and its truth, or the rows, go")
    parser.add_argument("--parameters", type=int, metavar="N", help="no video: a data set of N 10 s pairs with sound")
    parser.add_argument("--scenario", metavar="FILE", help="YAML; what it leaves out keeps its default")
    parser.add_argument("--seconds", type=float, metavar="N", help="length of the video")
    parser.add_argument("--seed", type=int, metavar="N", help="of everything random; equal seeds make equal truth")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Render, and say what was made."""
    if args.parameters is not None:
        return _parameters(args)
    from .render import VIDEO_NAME, render_conversation  # MediaPipe and numba load only when the verb is used

    scenario = load_scenario(args.scenario) if args.scenario else Scenario()
    if args.seconds is not None:
        scenario = lasting(scenario, args.seconds)
    if args.seed is not None:
        if args.seed < 0:
            raise UsageError(f"--seed {args.seed}: it must not be negative")
        scenario = replace(scenario, seed=args.seed)
    check(scenario)
    began = time.monotonic()
    shown = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if shown and (done % 25 == 0 or done == total):
            print(f"\rfilming {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    truth = render_conversation(scenario, args.out, progress)
    took = time.monotonic() - began
    if args.json:
        made = {"video": str(Path(args.out) / VIDEO_NAME), "seconds": scenario.seconds, "truth": f"{args.out}/truth"}
        print(json.dumps(made | {"shots": len(truth.shots), "turns": len(truth.turns)}))
        return 0
    print(
        f"{Path(args.out) / VIDEO_NAME}: {scenario.seconds:g} s, {truth.width}x{truth.height}, "
        f"{len(truth.shots)} shots, {len(truth.turns)} turns, made in {took:.0f} s; truth beside it, as rows in truth/"
    )
    return 0


def _parameters(args: argparse.Namespace) -> int:
    from .parameters import ParameterOptions, write_parameters

    if args.scenario or args.seconds is not None:
        raise UsageError("--parameters makes rows of its own: it goes with --seed only, not --scenario or --seconds")
    began = time.monotonic()
    shown = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if shown:
            print(f"\rrows {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    options = ParameterOptions(args.parameters) if args.seed is None else ParameterOptions(args.parameters, args.seed)
    rows = write_parameters(args.out, options, progress)
    if args.json:
        print(json.dumps({"out": args.out, "pairs": rows}))
        return 0
    print(f"{args.out}: {rows} pairs of 10 s with sound and exact labels, made in {time.monotonic() - began:.0f} s")
    return 0
