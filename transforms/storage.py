"""Bytes by URI: local paths directly, anything else (``gs://``, ``s3://``, ...) through Beam's filesystems."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize
from pathlib import Path

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from ..schemas.errors import NO_ROOM, BadInput
from ..schemas.files import Files, LocalFiles

BINARY = "application/octet-stream"
COPY_CHUNK = 8 << 20
CACHE_BYTES = 20 << 30  # local copies of remote videos, per worker process


def is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def is_utf8(text: str) -> bool:
    """Names of local files may hold any byte; Python carries them as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def join(root: str, *parts: str) -> str:
    return "/".join([root.rstrip("/"), *parts])


class BeamFiles:
    """:class:`~duologue.schemas.files.Files` on any Beam filesystem.

    Object stores publish an object when it is closed; an aborted upload leaves nothing.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def read_bytes(self, name: str) -> bytes:
        uri = join(self.root, name)
        if not FileSystems.exists(uri):
            raise FileNotFoundError(uri)
        with FileSystems.open(uri, BINARY, CompressionTypes.UNCOMPRESSED) as stream:
            return bytes(stream.read())

    def write_bytes_atomic(self, name: str, data: bytes) -> None:
        with FileSystems.create(join(self.root, name), BINARY, CompressionTypes.UNCOMPRESSED) as stream:
            stream.write(data)

    def exists(self, name: str) -> bool:
        return bool(FileSystems.exists(join(self.root, name)))

    def list(self, folder: str = "") -> list[str]:
        base = join(self.root, folder) if folder else self.root
        found = FileSystems.match([join(base, "**")])[0].metadata_list
        return sorted(entry.path.removeprefix(self.root + "/") for entry in found)

    def delete(self, name: str) -> None:
        if self.exists(name):
            FileSystems.delete([join(self.root, name)])


def files_at(root: str) -> Files:
    """Whole-file operations below ``root``, a local folder or a URI of any Beam filesystem."""
    return LocalFiles(local_path(root)) if is_local(root) else BeamFiles(root)


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
        """Yield a local path of ``uri``. Raises BadInput("fetch_failed") where the file cannot be had."""
        if is_local(uri):
            path = local_path(uri)
            if not path.is_file():
                raise BadInput("fetch_failed", f"{uri} is gone")
            yield str(path)
            return
        yield str(self._fetch(uri))

    def _fetch(self, uri: str) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="duologue-videos-"))
            Finalize(None, self.close, exitpriority=0)  # forked workers end without atexit, not without this
        name = hashlib.sha256(uri.encode()).hexdigest()[:24] + Path(uri).suffix[:8]
        target = self._folder / name
        if uri in self._sizes:
            self._sizes.move_to_end(uri)
            return target
        try:
            with FileSystems.open(uri, BINARY, CompressionTypes.UNCOMPRESSED) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, COPY_CHUNK)
        except Exception as error:  # every store has exceptions of its own
            target.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            raise BadInput("fetch_failed", f"cannot fetch {uri}: {error}") from error
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
