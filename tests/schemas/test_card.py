"""The card and the Croissant description say what is in the folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from duologue.schemas.pair import pair_schema
from duologue.tests.dataset_factory import make_pairs, write_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    pairs = make_pairs(10, frames=80)
    pairs[0] = replace(pairs[0], source=replace(pairs[0].source, attribution="A | B\nfilms", license="CC-BY-4.0"))
    write_dataset(folder, pairs, shards=2)
    return folder


def test_card_front_matter_names_the_files(root: Path) -> None:
    _, front, body = (root / "README.md").read_text().split("---\n", 2)
    configs = {entry["config_name"]: entry["data_files"][0]["path"] for entry in yaml.safe_load(front)["configs"]}
    assert sorted(configs) == ["pairs", "rejects", "selection"]
    assert all((root / path).is_file() for paths in configs.values() for path in paths)
    assert len(configs["pairs"]) == 2
    assert body.lstrip().startswith("# ")


def test_card_tells_numbers_licences_models_and_limits(root: Path) -> None:
    text = (root / "README.md").read_text()
    for line in (
        "10 clips (32.0 s) of two people talking, from 5 videos.",
        "| pairs | 10 |", "| selected | 8 |", "| rejects | 1 |", "| speech_share | 2 |", "| CC0-1.0 | 9 |",
        "| CC-BY-4.0 | 1 |", "- A \\| B films", "| faces | mediapipe | 111111111111 | Apache-2.0 |",
        "| face_scale_px | 24.0 |", "tier canonical", "OpenCV", "| scan | one_face | 1 | 0.006 |", "`duologue remove",
    ):  # fmt: skip
        assert line in text, line


def test_the_lines_that_open_it_run(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The code block of the card, as a reader would paste it."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    code = (root / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    for line in code.replace("load_dataset(", f"load_dataset(cache_dir={str(tmp_path)!r}, path=").splitlines():
        exec(line, names)
    assert names["table"].num_rows == 10  # type: ignore[attr-defined]
    assert len(names["frame"]) == 10  # type: ignore[arg-type]
    assert len(names["rows"]) == 10  # type: ignore[arg-type]
    assert list(names["pairs"])  # type: ignore[call-overload]


def test_croissant(root: Path) -> None:
    document = json.loads((root / "croissant.json").read_text())
    assert "http://mlcommons.org/croissant/1.1" in document["conformsTo"]
    assert document["license"] == ["CC-BY-4.0", "CC0-1.0"]
    files = {entry["@id"]: entry for entry in document["distribution"]}
    for path, entry in files.items():
        if entry["@type"] == "cr:FileObject":
            assert hashlib.sha256((root / path).read_bytes()).hexdigest() == entry["sha256"]
    sets = {entry["@id"]: entry for entry in document["recordSet"]}
    assert list(sets) == ["pairs", "rejects", "selection"]
    assert [field["@id"] for field in sets["pairs"]["field"]] == [f"pairs/{name}" for name in pair_schema().names]
    fields = [field for record in sets.values() for field in record["field"]]
    assert len({field["@id"] for field in fields}) == len(fields)
    for field in fields:
        for part in field.get("subField", [field]):
            source = part["source"].get("fileSet") or part["source"]["fileObject"]
            assert source["@id"] in files
            assert part["dataType"]
    by_id = {field["@id"]: field for field in fields}
    assert by_id["pairs/a.gaze"]["arrayShape"] == "-1,3"
    assert by_id["pairs/a.rotation"]["description"].endswith("[rad]")
    assert by_id["pairs/audio"] | {"samplingRate": 16_000, "dataType": "sc:AudioObject"} == by_id["pairs/audio"]
    used = {key for field in fields for part in (field, *field.get("subField", ())) for key in part}
    assert all(key.startswith("@") or key in document["@context"] or key in ("name", "description") for key in used)
