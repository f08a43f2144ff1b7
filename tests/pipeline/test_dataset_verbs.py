"""The verbs select, verify, repair, diff and remove: what they print, what they return."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import pytest
from duologue.pipeline import diff, remove, repair, select, verify
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import UsageError
from duologue.schemas.files import LocalFiles
from duologue.schemas.manifest import put, read_manifest, write_manifest
from duologue.schemas.row import Pair
from duologue.schemas.shard import table_bytes
from duologue.tests.dataset_factory import make_pairs, write_dataset
from duologue.viewer.report import read_facts


def run(verb: ModuleType, *words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    verb.configure(parser)
    return int(verb.run(parser.parse_args([str(word) for word in words])))


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[Pair]]:
    return tmp_path / "ds", write_dataset(tmp_path / "ds", make_pairs(10), shards=2)


Written = tuple[Path, list[Pair]]
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("verb", [select, verify, repair, diff, remove])
def test_every_verb_explains_itself(verb: ModuleType) -> None:
    parser = argparse.ArgumentParser()
    verb.configure(parser)
    assert len(verb.HELP) > 10
    assert len(parser.description or "") > 40


@pytest.mark.parametrize("verb", [select, verify, repair, remove])
def test_a_missing_folder_is_a_usage_error(verb: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        run(verb, tmp_path / "nowhere")


@pytest.mark.parametrize("harm", ["missing", "truncated", "damaged"])
def test_select_names_the_shard_that_cannot_be_read(written: Written, harm: str) -> None:
    root, _ = written
    path = sorted((root / "pairs").glob("*.parquet"))[0]
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if harm == "truncated" else data[:4] + bytes(3000) + data[3004:])
    with pytest.raises(UsageError, match=rf"{path.name} cannot be read .*duologue verify"):
        run(select, root, "--set", "speech_share=0.05")


def test_select(written: Written, capsys: Capture) -> None:
    root, _ = written
    assert run(select, root, "--set", "speech_share=0.05") == 0
    assert "10 of 10 pairs selected (was 8)" in capsys.readouterr().out
    assert len(Dataset(root).ids()) == 10
    assert run(select, root, "--set", "face_scale_px=37", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["selected"] == 0
    assert printed["reasons"] == {"face_scale_px": 10}
    assert printed["options"]["speech_share"] == 0.05  # thresholds in use stay
    assert run(select, root, "--defaults", "--dry-run") == 0
    assert "8 of 10 pairs selected (was 0), nothing written" in capsys.readouterr().out
    assert len(Dataset(root).ids()) == 0
    with pytest.raises(UsageError, match="expected NAME=VALUE"):
        run(select, root, "--set", "nonsense")
    with pytest.raises(UsageError, match=r"--set speech_shore=0\.2: did you mean speech_share\?"):
        run(select, root, "--set", "speech_shore=0.2")
    with pytest.raises(UsageError, match=r"--set speech_share: give it a value, as speech_share=0\.05"):
        run(select, root, "--set", "speech_share")
    with pytest.raises(UsageError, match="speech_share must be a number"):
        run(select, root, "--set", "speech_share=much")
    with pytest.raises(UsageError, match="sound must be true or false"):
        run(select, root, "--set", "sound=maybe")


def test_select_makes_a_lost_selection_again(written: Written, capsys: Capture) -> None:
    root, _ = written
    (root / "selection.parquet").write_bytes(b"broken")
    with pytest.raises(UsageError, match=rf"'duologue select {root} --defaults' makes it again"):
        run(select, root)
    assert run(select, root, "--defaults") == 0  # what the message says does it
    assert "8 of 10" in capsys.readouterr().out
    assert run(verify, root) == 0


SELECTED, REJECTED = "selection.parquet", "rejects/rejects-00000-of-00001.parquet"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        (SELECTED, b"hello", "cannot be read"),
        (SELECTED, REJECTED, "is not a selection"),
        (REJECTED, b"hello", "cannot be read"),
        (REJECTED, SELECTED, "is not a reject table"),
        ("funnel.json", b"[1, 2]", "is not a funnel"),
        ("funnel.json", b'{"scan": {"kept": {"items": 3}}}', "is not a funnel"),
        ("funnel.json", b"{", "is not a funnel"),
    ],
)
def test_a_named_file_of_something_else_is_one_line_and_mended(
    written: Written, tmp_path: Path, name: str, data: bytes | str, words: str
) -> None:
    """Hashes agree: whoever made the folder named the wrong file."""
    root, _ = written
    files = LocalFiles(root)
    content = (root / data).read_bytes() if isinstance(data, str) else data
    manifest = read_manifest(files)
    old = manifest.entry(name)
    assert old is not None
    write_manifest(files, manifest.with_files([put(files, name, content, old.kind, old.rows)]))
    with pytest.raises(UsageError, match=words):
        read_facts(Dataset(root), tmp_path)
    assert run(verify, root) == 1
    assert run(repair, root) == 0
    assert run(verify, root) == 0
    read_facts(Dataset(root), tmp_path)


def test_a_report_refuses_a_selection_of_other_pairs(written: Written, tmp_path: Path) -> None:
    root, _ = written
    files = LocalFiles(root)
    fewer = table_bytes(Dataset(root).selection().slice(0, 3))
    write_manifest(files, read_manifest(files).with_files([put(files, SELECTED, fewer, "selection", 3)]))
    with pytest.raises(UsageError, match=r"not of its pairs: 'duologue select [^']*' makes it again"):
        read_facts(Dataset(root), tmp_path)
    assert run(select, root) == 0
    assert read_facts(Dataset(root), tmp_path).selected.sum() == 8


@pytest.mark.parametrize("folder", ["pairs", "rejects"])
def test_remove_names_the_shard_that_is_gone(written: Written, folder: str) -> None:
    root, pairs = written
    shard = sorted((root / folder).glob("*.parquet"))[0]
    shard.unlink()
    with pytest.raises(UsageError, match=rf"{shard.name} cannot be read"):
        run(remove, root, "--video", pairs[0].source.video_id)


def test_repair_leaves_a_page_beside_the_shards(written: Written) -> None:
    root, _ = written
    (root / "pairs" / "0123.js").write_text("App.pair({})")
    assert run(repair, root) == 0
    assert (root / "pairs" / "0123.js").exists()


def test_verify(written: Written, capsys: Capture) -> None:
    root, _ = written
    assert run(verify, root) == 0
    assert "10 pairs: sound" in capsys.readouterr().out
    next((root / "pairs").iterdir()).unlink()
    (root / "stray.txt").write_text("x")
    assert run(verify, root) == 1
    out = capsys.readouterr().out
    assert "the file is gone" in out
    assert "stray.txt" in out
    assert run(verify, root, "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert not printed["sound"]
    assert printed["problems"][0]["text"] == "the file is gone"


def test_repair_then_verify(written: Written, capsys: Capture) -> None:
    root, _ = written
    shard = sorted((root / "pairs").iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:500])
    assert run(repair, root) == 0
    out = capsys.readouterr().out
    assert "set aside" in out
    assert "lost" in out
    assert run(verify, root) == 0
    capsys.readouterr()
    assert run(repair, root, "--json") == 0
    assert json.loads(capsys.readouterr().out)["lines"] == []


def test_diff(written: Written, tmp_path: Path, capsys: Capture) -> None:
    root, pairs = written
    write_dataset(tmp_path / "b", pairs[1:])
    assert run(diff, root, root, "--exact") == 0
    assert run(diff, root, tmp_path / "b") == 1
    assert f"1 pair(s) only in the first: {pairs[0].pair_id}" in capsys.readouterr().out
    assert run(diff, root, tmp_path / "b", "--json") == 1
    assert json.loads(capsys.readouterr().out)["only_first"] == [pairs[0].pair_id]
    with pytest.raises(UsageError, match="--scale"):
        run(diff, root, root, "--scale", "-1")


def test_remove(written: Written, capsys: Capture) -> None:
    root, pairs = written
    assert run(remove, root, "--video", pairs[0].source.video_id) == 0
    assert "2 pair(s) and 0 reject(s) removed" in capsys.readouterr().out
    assert run(remove, root, "--person", "nobody", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == []
    with pytest.raises(UsageError, match="too short"):
        run(remove, root, "--video", "abc")
    assert run(verify, root) == 0
