"""A whole run whose input and output lie in an object store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from duologue.schemas.dataset import Dataset
from duologue.schemas.verify import verify
from duologue.tests.pipeline.conftest import Run, curate
from duologue.transforms.storage import files_at
from fake_store import FakeStore

OUT = "fake://bucket/sets/one"
FILM = "fake://bucket/films/portraits.mp4"


@pytest.fixture(scope="module")
def remote(two_portraits: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    FakeStore.reset(tmp_path_factory.mktemp("bucket") / "store")
    shutil.copyfile(two_portraits, FakeStore.place(FILM))
    run = curate(OUT, "fake://bucket/films/*.mp4", "--geometry-only")
    assert run.code == 0
    return run


def test_the_data_set_is_read_from_the_store(remote: Run) -> None:
    data = Dataset(files_at(OUT))
    report = verify(data.files)
    assert report.sound, report.problems
    (row,) = data.rows()
    assert row["source_uri"] == FILM
    assert data.rejects() == []


def test_the_input_was_fetched_once(remote: Run) -> None:
    assert FakeStore.opened[FILM] == 1


def test_the_manifest_was_written_last_and_only_once(remote: Run) -> None:
    assert list(FakeStore.created)[-1] == f"{OUT}/manifest.json"
    assert FakeStore.created[f"{OUT}/manifest.json"] == 1


def test_what_was_measured_is_what_a_local_run_measures(remote: Run, silent_run: Run) -> None:
    (there,), (here,) = Dataset(files_at(OUT)).rows(), Dataset(silent_run.out).rows()
    differ = {name for name in there if repr(there[name]) != repr(here[name])}
    assert differ == {"source_uri"}


def test_a_second_run_resumes_from_the_store(remote: Run) -> None:
    names = [entry.path for entry in Dataset(files_at(OUT)).manifest.files]
    before = {name: files_at(OUT).read_bytes(name) for name in [*names, "manifest.json"]}
    FakeStore.opened.clear()
    FakeStore.created.clear()
    assert curate(OUT, *remote.options).code == 0
    assert FakeStore.opened[FILM] == 0
    assert not [uri for uri in FakeStore.created if "/ledger/" in uri]
    assert {name: files_at(OUT).read_bytes(name) for name in before} == before
