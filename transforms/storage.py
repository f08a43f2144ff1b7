"""Bytes by URI: local paths directly, anything else (``gs://``, ``s3://``, ...) through Beam's filesystems."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apache_beam.io.filesystems import FileSystems

from ..schemas.errors import BadInput

COPY_CHUNK = 8 << 20
CACHE_BYTES = 20 << 30  # local copies of remote videos, per worker process


def is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def join(root: str, *parts: str) -> str:
    return "/".join([root.rstrip("/"), *parts])


class BeamFiles:
    """Whole small files below one root folder. A file appears complete or not at all.

    Args:
        root: folder URI; names given to the methods are relative to it and use ``/``.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def uri(self, name: str) -> str:
        return join(self.root, name)

    def read_bytes(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is no such file."""
        uri = self.uri(name)
        if is_local(uri):
            return local_path(uri).read_bytes()
        if not FileSystems.exists(uri):
            raise FileNotFoundError(uri)
        with FileSystems.open(uri, mime_type="application/octet-stream", compression_type="uncompressed") as stream:
            return bytes(stream.read())

    def write_bytes_atomic(self, name: str, data: bytes) -> None:
        uri = self.uri(name)
        if is_local(uri):
            write_local(local_path(uri), data)
            return
        # Object stores publish an object when it is closed; an aborted upload leaves nothing.
        with FileSystems.create(uri, mime_type="application/octet-stream", compression_type="uncompressed") as stream:
            stream.write(data)

    def exists(self, name: str) -> bool:
        uri = self.uri(name)
        return local_path(uri).is_file() if is_local(uri) else bool(FileSystems.exists(uri))

    def list(self, folder: str = "") -> list[str]:
        """Names (relative to the root, sorted) of all files below ``folder``."""
        base = self.uri(folder) if folder else self.root
        if is_local(base):
            start = local_path(base)
            root = local_path(self.root)
            return sorted(str(path.relative_to(root)) for path in start.rglob("*") if path.is_file())
        found = FileSystems.match([join(base, "**")])[0].metadata_list
        return sorted(entry.path.removeprefix(self.root + "/") for entry in found)

    def delete(self, name: str) -> None:
        uri = self.uri(name)
        if is_local(uri):
            local_path(uri).unlink(missing_ok=True)
        elif FileSystems.exists(uri):
            FileSystems.delete([uri])


def write_local(path: Path, data: bytes) -> None:
    """Write through a temporary file, fsync and rename, so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class LocalCopies:
    """Local copies of remote files, least recently used out first; local files are handed over as they are.

    Decoders need a seekable local file. Copies live in a temporary folder of this process.
    """

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit = limit_bytes
        self._folder: Path | None = None
        self._sizes: OrderedDict[str, int] = OrderedDict()

    @contextmanager
    def open(self, uri: str) -> Iterator[str]:
        """Yield a local path of ``uri``. Raises BadInput("unreadable") where the file cannot be had."""
        if is_local(uri):
            path = local_path(uri)
            if not path.is_file():
                raise BadInput("unreadable", f"{uri} is gone")
            yield str(path)
            return
        yield str(self._fetch(uri))

    def _fetch(self, uri: str) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="duologue-videos-"))
        name = hashlib.sha256(uri.encode()).hexdigest()[:24] + Path(uri).suffix[:8]
        target = self._folder / name
        if uri in self._sizes:
            self._sizes.move_to_end(uri)
            return target
        try:
            with FileSystems.open(uri, compression_type="uncompressed") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, COPY_CHUNK)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise BadInput("unreadable", f"cannot fetch {uri}: {error}") from error
        self._sizes[uri] = target.stat().st_size
        while sum(self._sizes.values()) > self._limit and len(self._sizes) > 1:
            old, _ = self._sizes.popitem(last=False)
            stale = self._folder / (hashlib.sha256(old.encode()).hexdigest()[:24] + Path(old).suffix[:8])
            stale.unlink(missing_ok=True)
        return target

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None
        self._sizes.clear()
