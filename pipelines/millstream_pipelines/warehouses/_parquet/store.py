"""Storage as the warehouse needs it: create if absent, get, list after, stream out, read in. Here local folders."""

from __future__ import annotations

import io
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import unquote, urlsplit

from millstream_pipelines.errors import ConfigurationError, MillstreamError, RetriableError, unknown_value
from millstream_pipelines.warehouses._parquet.config import ParquetConfig


class Outgoing(Protocol):
    """An object being written. It exists under its name once it is closed."""

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes."""
        ...

    def close(self) -> None:
        """Finish it; durable when this returns."""
        ...


class Store(Protocol):
    """A place for objects. Keys are relative to the warehouse's url; `shown` is the url without any secret.

    Raises RetriableError when the place does not answer, ConfigurationError when it refuses.
    """

    shown: str

    def create(self, key: str, content: bytes) -> bool:
        """Make an object unless there is one of that name; False when there is."""
        ...

    def overwrite(self, key: str, content: bytes) -> None:
        """Make or replace an object."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return an object, None when there is none."""
        ...

    def keys(self, prefix: str, after: str = "") -> list[str]:
        """Return the keys below a prefix (a folder), sorted; only those behind `after` (a key) where it is given."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders right below a prefix ("" is the top)."""
        ...

    def outgoing(self, key: str) -> Outgoing:
        """Begin an object."""
        ...

    def incoming(self, key: str) -> IO[bytes]:
        """Open an object for reading, seekable."""
        ...

    def address(self, key: str) -> str:
        """Return where an object is, as other tools open it."""
        ...

    def remove(self, keys: list[str]) -> None:
        """Remove objects; those that are not there are removed already."""
        ...


def open_store(config: ParquetConfig, owner: str) -> Store:
    """Return the store of the configuration's url. Reaches nothing yet; heavy clients are imported here only."""
    scheme = urlsplit(config.url).scheme.lower()
    if scheme in ("", "file"):
        return LocalFolder(config.url, owner)
    if scheme in ("s3", "gs"):
        from millstream_pipelines.warehouses._parquet.objects import ObjectStorage

        return ObjectStorage(config, owner)
    raise unknown_value(f"{owner}: url", "scheme", scheme, ["file", "gs", "s3"])


class LocalFolder:
    """A folder on a file system. An object is durable before a commit speaks of it: written, synced, then linked."""

    def __init__(self, url: str, owner: str) -> None:
        self.shown = url
        self._owner = owner
        self._root = Path(unquote(urlsplit(url).path) if url.startswith("file:") else url).absolute()

    def create(self, key: str, content: bytes) -> bool:
        """Link a finished file to its name: the file system lets one of several do that."""
        try:
            path, made = self._path(key), self._temporary(key, content)
            try:
                os.link(made, path)
            except FileExistsError:
                return False
            finally:
                os.unlink(made)
            _sync_folder(path.parent)
        except OSError as error:
            raise self._explained(error, "written") from error
        return True

    def overwrite(self, key: str, content: bytes) -> None:
        """Rename a finished file to its name."""
        try:
            os.replace(self._temporary(key, content), self._path(key))
        except OSError as error:
            raise self._explained(error, "written") from error

    def get(self, key: str) -> bytes | None:
        """Read a file."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._explained(error, "read") from error

    def keys(self, prefix: str, after: str = "") -> list[str]:
        """Walk the folder."""
        found: list[str] = []
        try:
            for folder, _, names in os.walk(self._path(prefix), onerror=_unless_missing):
                below = Path(folder).relative_to(self._root).as_posix()
                found += [f"{below}/{name}" for name in names if not name.startswith(_TEMPORARY)]
        except OSError as error:
            raise self._explained(error, "listed") from error
        return sorted(key for key in found if key > after)

    def folders(self, prefix: str) -> list[str]:
        """List the folder."""
        try:
            with os.scandir(self._path(prefix)) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._explained(error, "listed") from error

    def outgoing(self, key: str) -> Outgoing:
        """Write under the name itself: nobody reads an object that no commit speaks of."""
        try:
            return _OutgoingFile(self._made(key))
        except OSError as error:
            raise self._explained(error, "written") from error

    def incoming(self, key: str) -> IO[bytes]:
        """Open a file."""
        try:
            return open(self._path(key), "rb")
        except OSError as error:
            raise self._explained(error, "read") from error

    def address(self, key: str) -> str:
        """Return the path."""
        return str(self._path(key))

    def remove(self, keys: list[str]) -> None:
        """Unlink files, and folders that have become empty."""
        for key in keys:
            try:
                path = self._path(key)
                path.unlink(missing_ok=True)
                with suppress(OSError):
                    path.parent.rmdir()
            except OSError as error:
                raise self._explained(error, "removed") from error

    def _path(self, key: str) -> Path:
        return self._root / key if key else self._root

    def _made(self, key: str) -> Path:
        """Return the path of a key whose folders exist, and will after a power failure."""
        path = self._path(key)
        missing = [folder for folder in path.parents if not folder.is_dir()]
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            _sync_folder(folder.parent)
        return path

    def _temporary(self, key: str, content: bytes) -> Path:
        made = self._made(key).parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
        with open(made, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return made

    def _explained(self, error: OSError, doing: str) -> MillstreamError:
        text = f"{self._owner}: '{error.filename or self.shown}' cannot be {doing}: {error.strerror or error}"
        if isinstance(error, PermissionError | NotADirectoryError):
            return ConfigurationError(f"{text}; let the runner's user have the folder of `url`, or change it")
        if isinstance(error, FileNotFoundError) and doing == "read":
            return RetriableError(f"{text}; a file of the table has gone, somebody else may have removed it")
        return RetriableError(f"{text}; see to the disk", reason="WarehouseFull" if error.errno == 28 else None)


_TEMPORARY = ".millstream-"


class _OutgoingFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = io.FileIO(path, "wb")

    def write(self, data: bytes | memoryview) -> int:
        left = memoryview(data).cast("B")
        while left:
            left = left[self._file.write(left) :]
        return len(data)

    def close(self) -> None:
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()
            _sync_folder(self._path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
