"""The command line: what is wrong with a request is one line and exit code 2, before any work."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from duologue import __version__, cli
from duologue.pipeline.config import config_yaml, load_config
from duologue.transforms.detect_faces import face_detector

Capture = pytest.CaptureFixture[str]


def call(*words: str | Path) -> int:
    """The exit code of the program, called in this process."""
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


@pytest.fixture(autouse=True, scope="module")
def _libraries_have_greeted() -> None:
    """MediaPipe prints when it first loads. The program silences that at its start; a test process is past it."""
    face_detector("mediapipe", "")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_text("not opened by any of these tests\n")
    return path


WRONG = {
    "missing path": (["curate", "nowhere.mp4", "--out", "OUT"], "no such file or folder: nowhere.mp4"),
    "empty glob": (["curate", "*.none", "--out", "OUT"], "nothing matches"),
    "empty folder": (["curate", "EMPTY", "--out", "OUT"], "holds no media files"),
    "missing manifest": (["curate", "list.csv", "--out", "OUT"], "no such file or folder: list.csv"),
    "out is a file": (["curate", "FILM", "--out", "FILM"], "cannot write to"),
    "no input": (["curate", "--out", "OUT"], "INPUT"),
    "no out": (["curate", "FILM"], "--out"),
    "unknown option": (["curate", "FILM", "--out", "OUT", "--fast"], "--fast"),
    "unknown option of a verb": (["curate", "FILM", "--out", "OUT", "--wrkers", "2"], "see duologue curate --help"),
    "impossible focal length": (
        ["curate", "FILM", "--out", "OUT", "--set", "fit.focal_px=-3"],
        "option fit: focal_px must be a positive number of pixels, not -3.0",
    ),
    "unknown verb": (["make-coffee"], "make-coffee"),
    "no verb": ([], "VERB"),
    "unknown setting": (["curate", "FILM", "--out", "OUT", "--set", "scan.speed=3"], "scan.speed"),
    "unknown group": (["curate", "FILM", "--out", "OUT", "--set", "oven.heat=3"], "oven"),
    "setting without value": (["curate", "FILM", "--out", "OUT", "--set", "scan.sample_s"], "stage.option=value"),
    "setting of a wrong type": (["curate", "FILM", "--out", "OUT", "--set", "scan.sample_s=often"], "scan.sample_s"),
    "missing configuration": (["curate", "FILM", "--out", "OUT", "--config", "none.yaml"], "none.yaml"),
    "unknown runner": (["curate", "FILM", "--out", "OUT", "--runner", "TurtleRunner"], "TurtleRunner"),
    "portable without endpoint": (["curate", "FILM", "--out", "OUT", "--runner", "PortableRunner"], "--job_endpoint"),
    "Dataflow without a place": (
        ["curate", "FILM", "--out", "OUT", "--runner", "DataflowRunner", "--dry-run"],
        "--temp_location",
    ),
    "Dataflow in no bucket": (
        ["curate", "FILM", "--out", "OUT", "--runner", "DataflowRunner", "--", "--temp_location=gs://b/tmp"],
        "gs://BUCKET/FOLDER",
    ),
    "no workers": (["curate", "FILM", "--out", "OUT", "--workers", "0"], "--workers"),
    "workers in words": (["curate", "FILM", "--out", "OUT", "--workers", "two"], "two"),
    "unknown faces": (["curate", "FILM", "--out", "OUT", "--set", "backends.faces=psychic"], "psychic"),
    "unknown identity": (["curate", "FILM", "--out", "OUT", "--set", "backends.identity=psychic"], "psychic"),
    "unknown turns": (["curate", "FILM", "--out", "OUT", "--set", "backends.turns=psychic"], "psychic"),
    "unknown decoder": (["curate", "FILM", "--out", "OUT", "--set", "decode.backend=psychic"], "psychic"),
    "missing head model": (["curate", "FILM", "--out", "OUT", "--head-model", "none.pkl"], "none.pkl"),
    "no weights": (["curate", "FILM", "--out", "OUT", "--set", "backends.faces=insightface"], "needs the path"),
    "Beam options elsewhere": (["doctor", "--", "--job_endpoint=x"], "after --"),
    "verify nothing": (["verify", "nowhere"], "nowhere"),
    "select nothing": (["select", "nowhere"], "nowhere"),
    "view nothing": (["view", "nowhere"], "nowhere"),
    "report nothing": (["report", "nowhere"], "nowhere"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_one_line_and_writes_nothing(
    case: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    words, names = WRONG[case]
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    places = {"OUT": "out", "FILM": "film.mp4", "EMPTY": "empty"}
    assert call(*(places.get(word, word) for word in words)) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1, said.err
    assert names in said.err
    assert said.err.startswith("duologue")
    assert said.out == ""
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"film.mp4"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere.mp4"], "no such file or folder: nowhere.mp4"),
        (["film.mp4", "--set", "backends.identity=psychic"], "unknown identity backend 'psychic'"),
    ],
)
def test_the_program_itself_says_one_line(film: Path, tmp_path: Path, words: list[str], line: str) -> None:
    command = [sys.executable, "-m", "duologue.cli", "curate", *words, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"duologue curate: {line}")
    assert done.stdout == ""


def test_a_package_that_is_not_there_is_one_line() -> None:
    """As on a machine that has only what training needs."""
    words = ["dub", "x", "--out", "y"]
    script = f"import sys; sys.modules['scipy'] = None\nfrom duologue import cli; sys.exit(cli.main({words!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "duologue dub: needs scipy, which is not installed here (see duologue doctor)\n"


def test_a_module_that_an_installed_package_lacks_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(cli, "_run", lambda *_: importlib.import_module("scipy.nowhere"))
    assert cli.main(["select", "x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("duologue select: needs scipy.nowhere, which the scipy installed here does not have (")


def test_a_fault_of_storage_in_the_words_of_another_error_is_no_fault_of_storage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> int:
        raise ValueError("cannot parse '[Errno 28] No space left on device'")

    monkeypatch.setattr(cli, "_run", broken)
    with pytest.raises(ValueError, match="cannot parse"):
        cli.main(["select", "x"])


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_teaches_its_use(verb: str, capsys: Capture) -> None:
    assert call(verb, "--help") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: duologue {verb}")
    assert len(said.splitlines()) > 4


def test_the_program_lists_its_verbs(capsys: Capture) -> None:
    assert call("--help") == 0
    said = capsys.readouterr().out
    for verb, (_, text) in cli.VERBS.items():
        assert verb in said
        assert text.split()[0] in said


def test_its_version(capsys: Capture) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"duologue {__version__}\n"


def test_a_dry_run_prints_the_whole_configuration_and_writes_nothing(
    film: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    words = ["--set", "scan.sample_s=0.25", "--geometry-only", "--dry-run"]
    assert call("curate", film, "--out", out, *words) == 0
    printed = capsys.readouterr().out
    config = load_config(printed)  # the lines after it are comments
    assert config.scan.sample_s == 0.25
    assert config.run.geometry_only
    assert config_yaml(config) == "".join(line for line in printed.splitlines(True) if not line.startswith("#"))
    assert "# stages: probe -> scan -> shots -> track" in printed
    assert not out.exists()


def test_a_printed_configuration_is_taken_back(film: Path, tmp_path: Path, capsys: Capture) -> None:
    assert call("curate", film, "--out", tmp_path / "out", "--set", "clips.shortest_s=2", "--dry-run") == 0
    first = capsys.readouterr().out
    saved = tmp_path / "saved.yaml"
    saved.write_text(first)
    assert call("curate", film, "--out", tmp_path / "out", "--config", saved, "--dry-run") == 0
    assert capsys.readouterr().out == first


def test_an_output_below_a_file_cannot_be_written(film: Path, tmp_path: Path) -> None:
    assert call("curate", film, "--out", film / "below") == 2


def test_runs_whose_bytes_count_have_one_thread_whatever_the_shell_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in cli.THREADS:
        monkeypatch.setenv(name, "8")
    assert call("train", tmp_path / "none", "--fast") == 2
    assert {os.environ[name] for name in cli.THREADS} == {"8"}
    assert call("curate", tmp_path / "none.mp4", "--out", tmp_path / "out") == 2
    assert {os.environ[name] for name in cli.THREADS} == {"1"}
    late = "import sys, duologue.cli; assert not {'numpy', 'torch', 'cv2'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", late], check=False).returncode == 0  # they read it when they load
