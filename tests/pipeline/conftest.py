"""Finished runs of the whole pipeline, shared by the tests that look at them."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SMALL_FOCAL_PX
from media_factory import Movie, truncate, write_movie


@dataclass(frozen=True)
class Run:
    """A finished call of ``duologue curate``.

    Attributes:
        options: what it was called with, besides ``--out``.
    """

    out: Path
    options: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


def curate(out: Path | str, *options: str) -> Run:
    """Call the program's main function in this process, where models stay loaded."""
    from duologue.cli import main

    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = main(["curate", *options, "--out", str(out)])
    return Run(Path(out), options, code, stdout.getvalue(), stderr.getvalue())


def start(*words: str, log: Path) -> subprocess.Popen[bytes]:
    """Start the program in a process group of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "duologue.cli", *words],
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            env={**os.environ, "PATH": path},
        )


def published(out: Path) -> dict[str, bytes]:
    """Every file that the manifest names, and the manifest."""
    from duologue.schemas.dataset import Dataset

    names = [entry.path for entry in Dataset(out).manifest.files]
    return {name: (out / name).read_bytes() for name in ["manifest.json", *names]}


def progress(out: Path) -> list[tuple[str, bool]]:
    """(stage, freshly computed) of every item that the last run of a folder worked on."""
    lines = [line for path in sorted((out / "_work/progress").glob("*.tsv")) for line in path.read_text().splitlines()]
    return [(line.split("\t")[0], line.split("\t")[4] == "1") for line in lines]


@pytest.fixture(scope="session")
def messy_folder(small_conversation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good conversation under two names, and a file for every way in which input is bad."""
    folder = tmp_path_factory.mktemp("messy")
    for name in ("b_conversation.mp4", "a_conversation.mp4"):
        shutil.copyfile(small_conversation / "conversation.mp4", folder / name)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is a shopping list, not a film\n")
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"")
    truncate(folder / "a_conversation.mp4", 0.4, folder / "truncated.mp4")
    write_movie(folder / "silent_nobody.mp4", Movie(seconds=4.0, audio=False, flashes=()))
    write_movie(folder / "no_video.mp4", Movie(video=False))
    write_movie(folder / "short.mp4", Movie(seconds=2.0))
    write_movie(folder / "nobody.mp4", Movie(seconds=4.0, flashes=()))
    return folder


@pytest.fixture(scope="session")
def curated(messy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The messy folder curated in memory."""
    out = tmp_path_factory.mktemp("curated") / "out"
    return curate(out, str(messy_folder), "--set", f"fit.focal_px={SMALL_FOCAL_PX:g}")


@pytest.fixture(scope="session")
def silent_run(two_portraits: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The silent film of two portraits, curated in memory; needs no voice."""
    return curate(tmp_path_factory.mktemp("silent") / "out", str(two_portraits), "--geometry-only")
