"""What ``report``, ``view`` and ``convert --to gltf`` write goes where its name leads."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from dataset_factory import make_pair, write_dataset
from duologue.cli import main
from duologue.fitting.load_head import load_head_model
from duologue.schemas.errors import UsageError
from duologue.viewer.write import write_file


def through_a_pipe(path: Path, write: threading.Thread) -> bytes:
    """What a thread writes into a pipe; nothing where it wrote elsewhere."""
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write.start()
    write.join()
    try:
        return os.read(reader, 60_000)  # less than a pipe holds
    finally:
        os.close(reader)


def test_a_file_is_written_where_links_lead(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far/old").write_text("old")
    (tmp_path / "near").symlink_to("hop")
    (tmp_path / "hop").symlink_to("far/old")
    (tmp_path / "dangling").symlink_to("far/new")
    for name in ("near", "dangling", "made/plain"):
        write_file(tmp_path / name, b"text")
    assert [(tmp_path / name).read_text() for name in ("far/old", "far/new", "made/plain")] == ["text"] * 3
    assert [(tmp_path / name).is_symlink() for name in ("near", "hop", "dangling")] == [True] * 3
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["new", "old"]


def test_a_pipe_stays_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got = through_a_pipe(tmp_path / "pipe", threading.Thread(target=write_file, args=(tmp_path / "pipe", b"text")))
    assert got == b"text"
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*: Is a directory"):
        write_file(tmp_path, b"text")


@pytest.mark.parametrize("verb", ["report", "view", "gltf"])
def test_verbs_write_where_a_link_leads(tmp_path: Path, verb: str) -> None:
    pair, model = make_pair(1), load_head_model("canonical")
    fitted = replace(pair.fitted, head_model_id=model.model_id, head_model_sha256=model.sha256)
    pair = replace(pair, fitted=fitted)
    write_dataset(tmp_path / "set", [pair])
    out = tmp_path / "out"
    name = {"report": "page", "view": "index.html", "gltf": f"{pair.pair_id}.glb"}[verb]
    out.mkdir()
    (out / name).symlink_to(tmp_path / "target")
    data = str(tmp_path / "set")
    words = {
        "report": ["report", data, "--out", str(out / name)],
        "view": ["view", data, "--out", str(out)],
        "gltf": ["convert", data, "--to", "gltf", "--pair", pair.pair_id, "--out", str(out)],
    }
    assert main(words[verb]) == 0
    assert (out / name).is_symlink()
    assert (tmp_path / "target").stat().st_size > 1000
