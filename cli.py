"""The command line: one program, one module per verb, loaded only when its verb is called."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib.util
import os
import sys
from typing import NoReturn

from . import __version__
from .schemas.errors import UsageError, storage_fault

# verb -> (module that has configure(parser) and run(args) -> exit code, one line of help)
VERBS: dict[str, tuple[str, str]] = {
    "curate": ("pipeline.curate_verb", "videos in, Parquet pairs out: the whole pipeline"),
    "select": ("pipeline.select", "re-apply selection thresholds to a data set; no pixels"),
    "view": ("viewer.view", "a static page where pairs play: two heads, gaze, turns, audio"),
    "report": ("viewer.report", "the data-set report: funnel, score distributions, examples"),
    "verify": ("pipeline.verify", "check every file, row and array of a data set"),
    "repair": ("pipeline.repair", "mend a data set after damage; says what was lost"),
    "diff": ("pipeline.diff", "compare two data sets row by row, with tolerances"),
    "remove": ("pipeline.remove", "take down videos, sources or people, for good"),
    "refit": ("pipeline.refit_verb", "re-label a data set with another head model, from stored landmarks"),
    "dub": ("pipeline.dub", "synthetic dialogues from single-person rows, with exact masks"),
    "synthesize": ("synthesis.synthesize", "two-person conversations with exact truth"),
    "accuracy": ("pipeline.accuracy.verb", "label accuracy per stage against truth; checks on real videos"),
    "convert": ("convert_verb", "data sets to and from the formats of DualTalk and UniLS; pairs to animated glTF"),
    "sample": ("sample_verb", "animate both people of a sound file, placed by a sentence"),
    "train": ("model.train", "train the dual-stream network on data sets"),
    "evaluate": ("model.evaluate", "score predictions on the boards of the field"),
    "doctor": ("pipeline.doctor", "what is installed, which backends can run, their licences"),
}

# Verbs whose bytes must not depend on the machine's cores; N worker processes give the parallelism.
ONE_THREAD = ("curate", "refit", "accuracy")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Parser(argparse.ArgumentParser):
    """Errors are one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def split_beam_args(argv: list[str]) -> tuple[list[str], list[str]]:
    """What stands before and after ``--``: ours, and Beam's."""
    if "--" in argv:
        at = argv.index("--")
        return argv[:at], argv[at + 1 :]
    return argv, []


def leave(code: int) -> NoReturn:
    """End the process after its exit handlers, without finalizing the interpreter.

    Finalizing kills Beam's daemon threads wherever they are; inside a C++ frame that aborts a finished run.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)


def program() -> NoReturn:
    """The installed program: one verb, then the process ends."""
    # Imports leave half a million objects for good; looking through them again and again takes a tenth of the start.
    gc.set_threshold(20_000, 20, 20)
    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    leave(code)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns its exit code: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted."""
    own, beam_args = split_beam_args(list(sys.argv[1:] if argv is None else argv))
    verb = next((word for word in own if word in VERBS), "")
    try:
        return _run(own, beam_args, verb)
    except UsageError as error:
        print(f"duologue {verb}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print(f"duologue {verb}: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "duologue"):
            raise
        if importlib.util.find_spec(missing) is None:
            needs = f"{missing}, which is not installed here"
        else:
            needs = f"{error.name}, which the {missing} installed here does not have"
        print(f"duologue {verb}: needs {needs} (see duologue doctor)", file=sys.stderr)
        return 2
    except Exception as error:
        fault = storage_fault(error)
        if fault is None:
            raise
        print(f"duologue {verb}: {fault}", file=sys.stderr)
        return 1


def _run(own: list[str], beam_args: list[str], chosen: str) -> int:
    parser = Parser(
        prog="duologue",
        description="In-the-wild two-person video to training data. Anything after -- goes to Apache Beam.",
    )
    parser.add_argument("--version", action="version", version=f"duologue {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    if chosen in ONE_THREAD:  # before numerical libraries load, here and in worker processes
        os.environ.update(dict.fromkeys(THREADS, "1"))
    for verb, (module, text) in VERBS.items():
        sub = subparsers.add_parser(verb, help=text, description=text)
        if verb == chosen:
            importlib.import_module(f".{module}", __package__).configure(sub)
    args, unknown = parser.parse_known_args(own)
    if unknown:  # said by the verb, so that its own help is named
        subparsers.choices[args.verb].error(f"unrecognized arguments: {' '.join(unknown)}")
    args.beam_args = beam_args
    if beam_args and args.verb not in ("curate", "refit"):
        parser.error("only `curate` and `refit` take options for Beam after --")
    return int(importlib.import_module(f".{VERBS[args.verb][0]}", __package__).run(args))


if __name__ == "__main__":
    program()
