from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from duologue.schemas.errors import BadInput
from duologue.schemas.files import LocalFiles
from duologue.transforms import storage
from duologue.transforms.storage import BeamFiles, LocalCopies, files_at, is_local, join, local_path
from fake_store import FakeStore


@pytest.fixture(autouse=True)
def store(tmp_path: Path) -> Path:
    FakeStore.reset(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def copies() -> Iterator[LocalCopies]:
    made = LocalCopies()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("uri", "local"), [("a/b", True), ("file:///a/b", True), ("gs://a/b", False), ("fake://a", False)]
)
def test_what_is_local(uri: str, local: bool) -> None:
    assert is_local(uri) is local
    assert isinstance(files_at(uri), LocalFiles if local else BeamFiles)


def test_a_file_uri_is_its_path() -> None:
    assert local_path("file:///a/b.mp4") == Path("/a/b.mp4")
    assert join("fake://bucket/", "x", "y") == "fake://bucket/x/y"


@pytest.mark.parametrize("remote", [True, False])
def test_whole_files(remote: bool, tmp_path: Path) -> None:
    files = files_at("fake://bucket/set" if remote else str(tmp_path / "set"))
    assert not files.exists("deep/x.bin")
    with pytest.raises(FileNotFoundError):
        files.read_bytes("deep/x.bin")
    files.write_bytes_atomic("deep/x.bin", b"\x00\x01" * 1000)
    files.write_bytes_atomic("deep/er/y.gz", b"not gzip at all")  # nothing may be unpacked because of a name
    files.write_bytes_atomic("z", b"")
    assert files.read_bytes("deep/x.bin") == b"\x00\x01" * 1000
    assert files.read_bytes("deep/er/y.gz") == b"not gzip at all"
    assert files.read_bytes("z") == b""
    assert files.list() == ["deep/er/y.gz", "deep/x.bin", "z"]
    assert files.list("deep") == ["deep/er/y.gz", "deep/x.bin"]
    assert files.list("nothing") == []
    files.write_bytes_atomic("z", b"new")
    assert files.read_bytes("z") == b"new"
    files.delete("z")
    files.delete("z")
    assert not files.exists("z")


def test_a_name_that_begins_alike_is_not_below(store: Path) -> None:
    files_at("fake://bucket/set2").write_bytes_atomic("x", b"2")
    files_at("fake://bucket/set").write_bytes_atomic("x", b"1")
    assert files_at("fake://bucket/set").list() == ["x"]


def test_a_local_file_is_handed_over_as_it_is(copies: LocalCopies, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"film")
    for uri in (str(path), f"file://{path}"):
        with copies.open(uri) as found:
            assert found == str(path)


@pytest.mark.parametrize("uri", ["/nowhere/film.mp4", "fake://bucket/film.mp4"])
def test_a_file_that_is_gone_may_come_back(copies: LocalCopies, uri: str) -> None:
    with pytest.raises(BadInput) as caught, copies.open(uri):
        pass
    assert caught.value.reason == "fetch_failed"


def test_a_copy_that_breaks_off_is_no_verdict_on_the_file(copies: LocalCopies, monkeypatch: pytest.MonkeyPatch) -> None:
    files_at("fake://bucket").write_bytes_atomic("film.mp4", b"film")

    def drop(*_: object) -> None:
        raise ConnectionResetError("reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", drop)
        with pytest.raises(BadInput, match=r"fetch_failed: cannot fetch fake://bucket/film\.mp4: reset by peer"):
            copies.open("fake://bucket/film.mp4").__enter__()
    with copies.open("fake://bucket/film.mp4") as path:
        assert Path(path).read_bytes() == b"film"


def test_a_disk_without_room_for_a_copy_is_no_fault_of_the_file(
    copies: LocalCopies, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files_at("fake://bucket").write_bytes_atomic("film.mp4", b"film")
    monkeypatch.setattr(storage.tempfile, "mkdtemp", lambda prefix: str(tmp_path))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        copies.open("fake://bucket/film.mp4").__enter__()
    assert not list(tmp_path.glob("*.mp4"))


def test_a_remote_file_is_fetched_once(copies: LocalCopies) -> None:
    files_at("fake://bucket").write_bytes_atomic("film.mp4", b"film" * 100)
    paths = set()
    for _ in range(3):
        with copies.open("fake://bucket/film.mp4") as path:
            assert Path(path).read_bytes() == b"film" * 100
            assert Path(path).suffix == ".mp4"
            paths.add(path)
    assert len(paths) == 1
    assert FakeStore.opened["fake://bucket/film.mp4"] == 1
    copies.close()
    assert not Path(paths.pop()).exists()


def test_copies_go_when_their_process_ends(copies: LocalCopies, monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(storage, "Finalize", lambda _, leave, exitpriority: at_exit.append(leave))
    for name in ("a.mp4", "b.mp4"):
        files_at("fake://bucket").write_bytes_atomic(name, b"film")
        with copies.open(f"fake://bucket/{name}") as path:
            folder = Path(path).parent
    (leave,) = at_exit
    leave()
    assert not folder.exists()


def test_the_oldest_copies_make_room_for_new_ones() -> None:
    copies = LocalCopies(limit_bytes=250)
    for name in ("a", "b", "c"):
        files_at("fake://bucket").write_bytes_atomic(name, name.encode() * 100)

    def fetch(name: str) -> Path:
        with copies.open(f"fake://bucket/{name}") as path:
            assert Path(path).read_bytes() == name.encode() * 100
            return Path(path)

    a, b = fetch("a"), fetch("b")
    fetch("a")  # b is now the one unused for longest
    c = fetch("c")
    assert (a.exists(), b.exists(), c.exists()) == (True, False, True)
    fetch("b")
    assert FakeStore.opened == {f"fake://bucket/{name}": n for name, n in (("a", 1), ("b", 2), ("c", 1))}
    copies.close()
