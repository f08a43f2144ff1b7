"""An object store as a Beam filesystem, ``fake://``: no folders, rename or append; an object appears on close."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast
from urllib.parse import quote, unquote

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem

SCHEME = "fake://"


class _Upload(io.BytesIO):
    def __init__(self, target: Path) -> None:
        super().__init__()
        self._target = target

    def close(self) -> None:
        if not self.closed:
            self._target.write_bytes(self.getvalue())
        super().close()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.close()
        else:
            super().close()  # an aborted upload leaves nothing


class FakeStore(FileSystem):
    """Objects lie flat in ``folder``. ``opened`` and ``created`` count calls by URI."""

    folder: ClassVar[Path]
    opened: ClassVar[Counter[str]] = Counter()
    created: ClassVar[Counter[str]] = Counter()

    @classmethod
    def reset(cls, folder: Path) -> None:
        folder.mkdir(parents=True)
        cls.folder = folder
        cls.opened.clear()
        cls.created.clear()

    @classmethod
    def scheme(cls) -> str:
        return "fake"

    @classmethod
    def place(cls, uri: str) -> Path:
        if not uri.startswith(SCHEME):
            raise ValueError(f"not of this store: {uri}")
        return cls.folder / quote(uri.removeprefix(SCHEME), safe="")

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        raise AssertionError("an object store has no folders")

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path in sorted(self.folder.iterdir()):
            uri = SCHEME + unquote(path.name)
            if uri.startswith(dir_or_prefix):
                yield FileMetadata(uri, path.stat().st_size, path.stat().st_mtime)

    def create(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> BinaryIO:
        assert compression_type == CompressionTypes.UNCOMPRESSED, "bytes must arrive as they are"
        self.created[path] += 1
        return cast(BinaryIO, _Upload(self.place(path)))

    def open(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> BinaryIO:
        assert compression_type == CompressionTypes.UNCOMPRESSED, "bytes must arrive as they are"
        self.opened[path] += 1
        return self.place(path).open("rb")

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise AssertionError("nothing here needs copies")

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise AssertionError("an object store has no rename")

    def exists(self, path: str) -> bool:
        return self.place(path).is_file()

    def size(self, path: str) -> int:
        return self.metadata(path).size_in_bytes

    def last_updated(self, path: str) -> float:
        return self.metadata(path).last_updated_in_seconds

    def checksum(self, path: str) -> str:
        return hashlib.sha256(self.place(path).read_bytes()).hexdigest()

    def metadata(self, path: str) -> FileMetadata:
        place = self.place(path)
        if not place.is_file():
            raise BeamIOError(f"no object {path}")
        return FileMetadata(path, place.stat().st_size, place.stat().st_mtime)

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            self.place(path).unlink()
