"""``duologue accuracy``: films the suite, curates it, and holds every label against the truth."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ... import __version__
from ...schemas.errors import UsageError

REGRESSED = 1
# The conversations say the same sentences with the same synthetic voices, which to the ear are near-duplicates.
SUITE_SETTINGS = ("select.duplicates=true",)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = (
        "Film a fixed suite of conversations whose truth is known, curate it, and print how exact every label is. "
        "With --real, check a folder of your own videos for what must hold whatever the truth is."
    )
    add = parser.add_argument
    add("--suite", choices=("full", "quick"), default="full", help="quick: three short conversations, about a minute")
    add("--out", metavar="DIR", help="keep films, data set, figures and page here (films are made once)")
    add("--workers", type=int, default=1, help="processes on this machine (default 1)")
    add("--set", action="append", default=[], metavar="A.B=C", dest="settings", help="one option of curate; repeatable")
    add("--head-model", metavar="PATH", help="fit with FLAME, GNM or ICT-FaceKit instead of the canonical head")
    add("--tolerance", metavar="FILE", help="JSON of limits; exit code 1 where a figure is beyond its limit")
    add("--real", metavar="DIR", help="check the videos below DIR without truth, instead of the suite")
    add("--json", action="store_true", help="print only the JSON object (it is the last line either way)")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 where ``--tolerance`` is not kept."""
    if args.workers < 1:
        raise UsageError(f"--workers {args.workers}: at least 1")
    if args.real and args.tolerance:
        raise UsageError("--tolerance holds the suite to its limits; --real has no truth to hold anything to")
    settings = list(args.settings)
    if args.head_model:
        settings.append(f"backends.head_model={json.dumps(args.head_model)}")
    limits = read_limits(args.tolerance)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(args.out or temporary)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{out}: cannot be made ({error.strerror})") from None
        if args.real:
            from .real import run_real

            return run_real(Path(args.real), out, args.workers, settings, quiet=args.json)
        result = measure(args.suite, out, args.workers, settings, quiet=args.json)
    from .table import text

    broken = beyond(result, limits)
    result["beyond_tolerance"] = broken
    if args.out:
        from .page import page_html

        (out / "accuracy.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (out / "accuracy.html").write_text(page_html(result), encoding="utf-8")
    if not args.json:
        print(text(result))
        if args.out:
            print(f"\nopen {out / 'accuracy.html'}")
    for line in broken:
        print(f"duologue accuracy: {line}", file=sys.stderr)
    print(json.dumps(result))
    return REGRESSED if broken else 0


def measure(suite_name: str, out: Path, workers: int, settings: list[str], *, quiet: bool) -> dict[str, Any]:
    """Film what is not filmed yet into ``out/videos``, curate it anew into ``out/curated``, score it."""
    from ..config import load_config
    from .suite import VIDEO, film_all, load_suite
    from .table import document, score_suite

    suite = load_suite(suite_name)
    began = time.monotonic()

    def said(name: str) -> None:
        if not quiet:
            print(f"filmed {name}", file=sys.stderr)

    film_all(suite, out / "videos", workers, said)
    shutil.rmtree(out / "curated", ignore_errors=True)
    videos = [out / "videos" / one.name / VIDEO for one in suite]
    chosen = [*SUITE_SETTINGS, *settings]
    curate_videos(videos, out / "curated", workers, chosen)
    scores = score_suite(suite, out / "videos", out / "curated", load_config("", chosen))
    result = document(scores)
    flat = {f"{condition}.{key}": value for condition in ("clean", "hard") for key, value in result[condition].items()}
    return {
        **flat,
        **result,
        "suite": suite_name,
        "videos": len(suite),
        "video_seconds": sum(one.scenario.seconds for one in suite),
        "seconds": round(time.monotonic() - began, 1),
        "settings": chosen,
        "code_version": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def curate_videos(videos: list[Path], out: Path, workers: int, settings: list[str]) -> None:
    """One run of ``curate``.

    Raises:
        UsageError: it failed; the line says why.
    """
    from ..config import load_config
    from ..curate import curate, quiet_libraries
    from ..inputs import resolve_inputs
    from ..plan import make_plan
    from ..runners import beam_options

    plan = make_plan(load_config("", settings), str(out))
    with quiet_libraries():
        state = curate(
            plan, resolve_inputs([str(video) for video in videos]), beam_options("DirectRunner", workers, [])
        )
    if state != "DONE":
        raise UsageError(f"curating {len(videos)} videos ended as {state}")


def read_limits(path: str | None) -> dict[str, list[float]]:
    """Limits by dotted key: [least, most].

    Raises:
        UsageError: not such a file.
    """
    if not path:
        return {}
    try:
        limits = json.loads(Path(path).read_text(encoding="utf-8"))
        return {str(key): [float(low), float(high)] for key, (low, high) in limits.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"--tolerance {path}: not a JSON object of [least, most] ({error})") from None


def beyond(result: dict[str, Any], limits: dict[str, list[float]]) -> list[str]:
    """One line for each figure outside its limits; one that was not measured is outside."""
    out = []
    for key, (low, high) in limits.items():
        value = result.get(key)
        if value is None or not low <= value <= high:
            out.append(f"{key} is {value}, allowed is {low:g} to {high:g}")
    return out
