"""Stores: list files and open one. Here the protocol, local folders, and the choice by `url`."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from millstream_pipelines.errors import ConfigurationError, RetriableError, unknown_value
from millstream_pipelines.sources._files.config import FilesConfig
from millstream_pipelines.sources._files.entries import FileEntry, changed


class Store(Protocol):
    """A place with files. Errors as in `sources.base`; `shown` is the url without any password."""

    shown: str

    def entries(self) -> list[FileEntry]:
        """Return all files, ordered by name."""
        ...

    def open(self, entry: FileEntry) -> io.RawIOBase:
        """Open a file at its start; `seekable()` says whether it can be read out of order."""
        ...

    def check_unchanged(self, entry: FileEntry) -> None:
        """Raise RetriableError when the file is no longer what `entry` says."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


def open_store(config: FilesConfig, owner: str) -> Store:
    """Return the store for the configuration's url. Reaches nothing yet; heavy clients are imported here only."""
    scheme = urlsplit(config.url).scheme.lower()
    if scheme in ("", "file"):
        return LocalFiles(config.url, owner)
    if scheme in ("http", "https"):
        from millstream_pipelines.sources._files.http import HttpFile

        return HttpFile(config, owner)
    if scheme in ("s3", "gs"):
        from millstream_pipelines.sources._files.objects import ObjectFiles

        return ObjectFiles(config, owner)
    raise unknown_value(f"{owner}: url", "scheme", scheme, ["file", "gs", "http", "https", "s3"])


class LocalFiles:
    """A folder, or one file, on a mounted file system. The tag is size and modification time in nanoseconds."""

    def __init__(self, url: str, owner: str) -> None:
        self.shown = url
        self._owner = owner
        self._root = Path(unquote(urlsplit(url).path) if url.startswith("file:") else url)

    def entries(self) -> list[FileEntry]:
        """Return the files below the folder."""
        try:
            folder = stat.S_ISDIR(self._root.stat().st_mode)
            names = self._walk() if folder else iter([self._root.name])
            found = [entry for name in names if (entry := self._entry(name)) is not None]
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"{self._owner}: url '{self.shown}' does not exist; check the path and the volume's mount"
            ) from error
        except PermissionError as error:
            raise self._denied(error) from error
        return sorted(found, key=lambda entry: entry.name)

    def open(self, entry: FileEntry) -> io.RawIOBase:
        """Open without buffer: readers take megabytes at a time."""
        try:
            opened = io.FileIO(self._path(entry.name))
        except FileNotFoundError as error:
            raise RetriableError(f"{self._owner}: file '{entry.name}' under '{self.shown}' has vanished") from error
        except PermissionError as error:
            raise self._denied(error) from error
        if _tag(os.fstat(opened.fileno())) != entry.etag:
            opened.close()
            raise changed(self._owner, entry.name, self.shown)
        return opened

    def check_unchanged(self, entry: FileEntry) -> None:
        """Compare size and modification time once more."""
        try:
            same = _tag(self._path(entry.name).stat()) == entry.etag
        except FileNotFoundError:
            same = False
        if not same:
            raise changed(self._owner, entry.name, self.shown)

    def close(self) -> None:
        """Hold nothing, release nothing."""

    def _walk(self) -> Iterator[str]:
        def refuse(error: OSError) -> None:
            raise error

        for folder, _, files in os.walk(self._root, onerror=refuse):
            for name in files:
                yield (Path(folder) / name).relative_to(self._root).as_posix()

    def _path(self, name: str) -> Path:
        return self._root / name if self._root.is_dir() else self._root

    def _entry(self, name: str) -> FileEntry | None:
        """Return the file, or None for what is none: deleted since it was listed, a dangling link, a pipe."""
        try:
            found = self._path(name).stat()
        except FileNotFoundError:
            return None
        return FileEntry(name, _tag(found), found.st_size) if stat.S_ISREG(found.st_mode) else None

    def _denied(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"{self._owner}: no permission to read '{error.filename}' (url '{self.shown}'); "
            "let the runner's user read it (fsGroup of the pod, mode of the files)"
        )


def _tag(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"
