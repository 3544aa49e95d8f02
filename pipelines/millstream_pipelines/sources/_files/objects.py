"""Object storage (S3 and what speaks it, GCS) through obstore: listing, and ranged reads bound to an ETag.

Ranges rather than one long download: a failed request is repeated by itself, seeking costs nothing, and `If-Match` on
each of them refuses a file that is overwritten while it is read.
"""

from __future__ import annotations

import io
from typing import Any, cast

import obstore
from obstore import exceptions as refused

from millstream_pipelines.errors import RetriableError
from millstream_pipelines.object_storage import Bucket, MissingError
from millstream_pipelines.sources._files.config import FilesConfig
from millstream_pipelines.sources._files.entries import FileEntry, changed

# One request's worth of a sequential read: a guess between latency (larger) and memory (smaller).
_RANGE_BYTES = 4 * 1024 * 1024

# Begins the tag of an object whose store gives no ETag: time and size stand in, and ranges cannot be bound to it.
_NO_ETAG = "modified:"


class ObjectFiles:
    """Objects below a prefix, or one object."""

    def __init__(self, config: FilesConfig, owner: str) -> None:
        self._bucket, self._owner = Bucket(config, owner, "read and list"), owner
        self._store, self._prefix, self.shown = self._bucket.store, self._bucket.prefix, self._bucket.shown
        self._is_object = False

    def entries(self) -> list[FileEntry]:
        """Return the objects below the prefix; the object itself when the url is one."""
        found: list[FileEntry] = []
        with self._bucket.explained():
            for chunk in obstore.list(self._store, prefix=self._prefix or None, chunk_size=1000):
                found.extend(self._entry(meta) for meta in chunk if not meta["path"].endswith("/"))
        if not found and self._prefix:
            try:
                with self._bucket.explained():
                    found.append(self._entry(obstore.head(self._store, self._prefix)))
                self._is_object = True
            except MissingError:
                return []
        return sorted(found, key=lambda entry: entry.name)

    def open(self, entry: FileEntry) -> io.RawIOBase:
        """Return a seekable reader; nothing is requested until the first read."""
        return _RangedReader(self, entry)

    def check_unchanged(self, entry: FileEntry) -> None:
        """Ask for the object's ETag once more."""
        try:
            with self._bucket.explained(entry.name):
                same = self._entry(obstore.head(self._store, self._path(entry.name))).etag == entry.etag
        except MissingError:
            same = False
        if not same:
            raise changed(self._owner, entry.name, self.shown)

    def close(self) -> None:
        """Connections are obstore's; they end with the store."""

    def read_range(self, entry: FileEntry, start: int, end: int) -> bytes:
        """Return bytes start…end of an object, provided that it is still the one that was listed."""
        options: dict[str, Any] = {"range": (start, end)}
        if not entry.etag.startswith(_NO_ETAG):
            options["if_match"] = entry.etag
        try:
            with self._bucket.explained(entry.name):
                found = bytes(obstore.get(self._store, self._path(entry.name), options=cast(Any, options)).bytes())
        except refused.PreconditionError as error:
            raise changed(self._owner, entry.name, self.shown) from error
        except MissingError as error:
            raise RetriableError(f"{self._owner}: file '{entry.name}' under '{self.shown}' has vanished") from error
        if len(found) != end - start:
            raise RetriableError(
                f"{self._owner}: file '{entry.name}' under '{self.shown}': {len(found)} of {end - start} bytes came"
            )
        return found

    def _path(self, name: str) -> str:
        return self._prefix if self._is_object or not self._prefix else f"{self._prefix}/{name}"

    def _entry(self, meta: Any) -> FileEntry:
        path = str(meta["path"])
        name = path.removeprefix(f"{self._prefix}/") if path != self._prefix else path.rsplit("/", 1)[-1]
        tag = meta["e_tag"] or f"{_NO_ETAG}{meta['last_modified'].isoformat()}-{meta['size']}"
        return FileEntry(name, _quoted(tag), meta["size"])


def _quoted(tag: str) -> str:
    """Return an ETag as `If-Match` wants it: some servers list it without the quotes that they give with an object."""
    return tag if '"' in tag or tag.startswith(_NO_ETAG) else f'"{tag}"'


class _RangedReader(io.RawIOBase):
    """An object as a seekable file. Sequential reads fetch `_RANGE_BYTES`; a larger read is one request."""

    def __init__(self, files: ObjectFiles, entry: FileEntry) -> None:
        super().__init__()
        self._files, self._entry = files, entry
        self._size = entry.size or 0
        self._at = self._held_at = 0
        self._held = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if self._at >= end:
            return b""
        inside = self._held_at <= self._at and end <= self._held_at + len(self._held)
        if not inside:
            until = min(self._size, max(end, self._at + _RANGE_BYTES))
            self._held, self._held_at = self._files.read_range(self._entry, self._at, until), self._at
        chunk = self._held[self._at - self._held_at : end - self._held_at]
        self._at = end
        return chunk
