"""A disk that takes no more: one readable line and an exit code; nothing half made passes for whole.

The limit on the size of files stands for the full disk: the operating system refuses both in the same calls.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from duologue import cli
from duologue.model import checkpoint
from duologue.pipeline.failure import job_failure
from duologue.schemas.dataset import Dataset
from duologue.schemas.errors import storage_fault, told_storage_fault
from duologue.tests.dataset_factory import make_pairs, write_dataset
from duologue.transforms.work import WorkStore

Capture = pytest.CaptureFixture[str]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("full") / "set"
    write_dataset(root, make_pairs(4, frames=100), shards=2)
    return root


CASES = {
    "select": ["select", "SET", "--set", "snr_db=3"],
    "report": ["report", "SET"],
    "view": ["view", "SET"],
    "remove": ["remove", "SET", "--video", "VIDEO"],
    "repair": ["repair", "BROKEN"],
    "curate": ["curate", "SET/README.md", "--out", "OUT", "--quiet"],
    "convert to DualTalk": ["convert", "SET", "--to", "dualtalk", "--out", "OUT", "--any-head-model"],
    "convert to UniLS": ["convert", "SET", "--to", "unils", "--out", "OUT", "--any-head-model"],
    "synthesize": ["synthesize", "--parameters", "2", "--out", "OUT"],
}


@pytest.mark.parametrize("case", CASES)
def test_eight_verbs_say_it_in_one_line(case: str, dataset: Path, tmp_path: Path, capsys: Capture) -> None:
    if "synthesize" in case and shutil.which("espeak-ng") is None:
        pytest.skip("needs espeak-ng")
    pair = next(iter(Dataset(dataset).pairs(selected=False)))
    for name in ("set", "broken"):
        shutil.copytree(dataset, tmp_path / name)
    (tmp_path / "broken/manifest.json").unlink()
    places = {"SET": f"{tmp_path}/set", "BROKEN": f"{tmp_path}/broken", "OUT": f"{tmp_path}/out"}
    places |= {"VIDEO": pair.source.video_id}
    words = ["/".join(places.get(part, part) for part in word.split("/")) for word in CASES[case]]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with files_of_at_most(64):
        assert cli.main(words) in (1, 2)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    line = said.splitlines()[-1]
    assert line.startswith(f"duologue {words[0]}: ")
    assert os.strerror(errno.EFBIG) in line or os.strerror(errno.ENOSPC) in line  # LMDB's word for a short write
    assert {path: path.read_bytes() for path in before} == before  # neither lost nor cut short


def test_a_checkpoint_is_the_earlier_one_or_whole(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1, "statistics": {}})
    with files_of_at_most(1 << 15), pytest.raises(OSError, match="File too large"):
        checkpoint.save(path, {"step": 2, "statistics": {}, "ema": {"weight": torch.zeros(100_000)}})
    assert torch.load(path, weights_only=True)["step"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "x"), "No space left on device"),
        (PermissionError(errno.EACCES, "x", "a/b"), "a/b: Permission denied"),
        (PermissionError(errno.EPERM, "x"), None),  # of no file: a scheduler, a socket
        (OSError(errno.EIO, "x"), None),
        (OSError(errno.EIO, "x", "a"), "a: Input/output error"),
        (FileNotFoundError(errno.ENOENT, "x", "a"), None),  # a mistake in the code, or told where it can happen
        (ValueError("[Errno 28] No space left on device"), None),
    ],
)
def test_what_is_a_fault_of_storage(error: Exception, line: str | None) -> None:
    assert storage_fault(error) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("OSError: [Errno 28] No space left on device [while running 'x']", "No space left on device"),
        ("OSError: [Errno 30] Read-only file system: '/a/b c'\nmore", "/a/b c: Read-only file system"),
        ("""PermissionError: [Errno 13] Permission denied: "it's" """, "it's: Permission denied"),
        ("PermissionError: [Errno 1] Operation not permitted\n", None),  # of no file: a scheduler, a socket
        ("[Errno 2] No such file or directory: 'a'\n[Errno 28] x: 'b'\n[Errno 30] x: 'c'\n[Errno 2] x: 'd'",
         "c: Read-only file system"),
        ("[Errno 2] No such file or directory: 'a'", None),
    ],
)  # fmt: skip
def test_a_fault_of_storage_told_as_text(text: str, line: str | None) -> None:
    assert told_storage_fault(text) == line


@pytest.mark.parametrize(("how", "line"), [("from fault", 1), ("", 1), ("from None", 0)])
def test_a_fault_of_storage_behind_another_error_counts_unless_that_one_hides_it(how: str, line: int) -> None:
    script = f"try: raise fault\nexcept OSError: raise RuntimeError('cannot go on') {how}"
    with pytest.raises(RuntimeError) as caught:
        exec(script, {"fault": OSError(errno.EROFS, "x", "out")})
    assert storage_fault(caught.value) == ("out: Read-only file system" if line else None)


def test_a_job_that_storage_ended_leaves_its_traceback(tmp_path: Path) -> None:
    line = job_failure(RuntimeError("in between\nOSError: [Errno 28] x: 'a'"), WorkStore(f"{tmp_path}/work"))
    assert line.startswith("gave up: a: No space left on device; mend that")
    assert line.endswith(f"(all of it: {tmp_path}/work/error.log)")
    assert "in between" in (tmp_path / "work/error.log").read_text()


def test_a_scheduler_that_refuses_is_no_fault_of_storage(tmp_path: Path) -> None:
    line = job_failure(PermissionError(errno.EPERM, "Operation not permitted"), WorkStore(f"{tmp_path}/work"))
    assert line.startswith("the job failed: PermissionError: [Errno 1] Operation not permitted")


def test_a_job_whose_log_cannot_be_written_still_says_its_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "work").write_text("a file, where the folder should be")
    assert job_failure(ValueError("odd"), WorkStore(f"{tmp_path}/work")) == "the job failed: ValueError: odd"
    assert "ValueError: odd" in capsys.readouterr().err  # with its traceback, which has no other place
