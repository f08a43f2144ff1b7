"""The house: who may import whom, and what must stay light."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each package and those it may import, besides itself.
MAY = {
    "schemas": set(),
    "fitting": {"schemas"},
    "model": {"fitting", "schemas"},
    "transforms": {"fitting", "schemas"},
    "synthesis": {"transforms", "fitting", "schemas"},
    "viewer": {"transforms", "fitting", "schemas"},
    "pipeline": {"transforms", "fitting", "schemas", "synthesis", "viewer"},
}
HEAVY = {"apache_beam", "mediapipe", "cv2", "av", "decord", "ffmpeg", "pyannote", "insightface", "scenedetect"}
NO_HEAVY = ("schemas", "fitting", "model")


def modules() -> list[Path]:
    return [path for name in MAY for path in sorted((ROOT / name).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Top-level names: packages of ours as ``.name``, others as they are. Imports inside functions count too."""
    inside = path.relative_to(ROOT).parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                found.add((node.module or "").split(".")[0])
                continue
            base = inside[: len(inside) - node.level + 1]
            parts = (*base, *(node.module or "").split(".")) if node.module else base
            names = [parts[0]] if parts else [alias.name for alias in node.names]
            found |= {f".{name}" for name in names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name[1:] for name in imports(path) if name.startswith(".")} - {package, "__version__"}
    allowed = MAY[package] | ({"cli"} if path.name == "demo.py" else set())
    assert ours <= allowed, f"{path.name} imports {sorted(ours - allowed)}"


def files_imported(path: Path) -> set[Path]:
    """Files of ours that a file imports, inside functions too."""
    inside = path.relative_to(ROOT).parts[:-1]
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ROOT.joinpath(*inside[: len(inside) - node.level + 1], *(node.module or "").split("."))
            own = base.with_suffix(".py")
            found |= {own} if own.exists() else {base / f"{alias.name}.py" for alias in node.names}
    return {one for one in found if one.exists()}


def test_no_file_imports_itself_by_way_of_others() -> None:
    TopologicalSorter({path: files_imported(path) for path in modules()}).prepare()  # CycleError names the circle


@pytest.mark.parametrize("package", NO_HEAVY)
def test_no_beam_mediapipe_or_decoder_below(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        heavy = imports(path) & HEAVY
        assert not heavy, f"{path.relative_to(ROOT)} imports {sorted(heavy)}"


def test_relative_imports_only() -> None:
    for path in modules():
        assert "duologue" not in imports(path), f"{path} imports its own package by name"


def test_the_rule_catches_an_import_upwards(tmp_path: Path) -> None:
    source = "from ..pipeline import graph\nimport cv2\n"
    tree = ROOT / "schemas" / "errors.py"
    assert not imports(tree) & HEAVY
    names = {
        alias for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) for alias in [node.module]
    }
    assert names == {"pipeline"}
