"""``make demo``: curate what the user gives, or a two-person conversation made on the spot."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from ..cli import leave
from ..cli import main as cli
from ..schemas.errors import UsageError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description="Curate INPUT, or a conversation made on the spot.")
    parser.add_argument(
        "--input", nargs="*", default=[], help="files, folders or globs; none: a synthetic conversation"
    )
    parser.add_argument("--out", default="out/demo")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    inputs = args.input
    if not inputs:
        made = Path(args.out) / "_input"
        print(f"making a two-person conversation in {made} (portraits: public domain; voices: espeak-ng)")
        code = cli(["synthesize", "--out", str(made)])
        if code:
            return code
        inputs = [str(path) for path in sorted(made.glob("*.mp4"))]
        if not inputs:
            raise UsageError(f"no conversation was made in {made}")
    return cli(["curate", *inputs, "--out", args.out, "--workers", str(args.workers)])


def program() -> NoReturn:
    """``main``, then the process ends as the installed program does."""
    try:
        code = main()
    except UsageError as error:
        print(f"make demo: {error}", file=sys.stderr)
        code = 2
    leave(code)


if __name__ == "__main__":
    program()
