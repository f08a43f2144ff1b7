"""The stages that see pixels, in the frame that every stage runs in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystems import FileSystems
from duologue.pipeline.stages_pixels import ProbeStage
from duologue.schemas.records import InputItem, Reject
from duologue.transforms.probe import ProbeOptions
from duologue.transforms.stage import FailureLimit, StageFn
from duologue.transforms.storage import files_at
from duologue.transforms.work import WorkStore
from fake_store import FakeStore


def probe_once(work: Path, uri: str) -> Any:
    fn = StageFn(ProbeStage(ProbeOptions(), 3.0, ()), WorkStore(str(work)), "1", FailureLimit())
    first = next(fn.process(InputItem(uri)))
    return getattr(first, "value", first)


def test_a_network_that_fails_for_a_moment_loses_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeStore.reset(tmp_path / "store")
    files_at("fake://bucket").write_bytes_atomic("talk.mp4", b"a shopping list")

    def refuse(*_: object) -> None:
        raise OSError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(FileSystems, "open", refuse)
        failed = probe_once(tmp_path, "fake://bucket/talk.mp4")
    assert (failed.reason, failed.detail) == ("fetch_failed", "cannot fetch fake://bucket/talk.mp4: connection reset")
    assert probe_once(tmp_path, "fake://bucket/talk.mp4").reason == "unreadable"  # it was opened: no film, for good
    FakeStore.opened.clear()
    assert probe_once(tmp_path, "fake://bucket/talk.mp4").reason == "unreadable"
    assert not FakeStore.opened


def test_a_name_that_is_not_utf8_costs_its_file(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(b"x")
    row = probe_once(tmp_path, str(path))
    assert row == Reject("", f"{tmp_path}/caf\\udce9.mp4", "probe", "unreadable", "its name is not UTF-8: rename it")
