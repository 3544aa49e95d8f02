"""Object storage (S3 and what speaks it, GCS) through obstore."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import obstore
from obstore import exceptions as refused

from millstream_pipelines.errors import RetriableError
from millstream_pipelines.object_storage import Bucket, MissingError
from millstream_pipelines.warehouses._parquet.config import ParquetConfig

_PART_BYTES = 8 * 1024 * 1024
_AHEAD = 2  # parts on their way at once
_RANGE_BYTES = 1024 * 1024


class ObjectStorage:
    """See `Store`. Creating is a PUT with `If-None-Match: *` (GCS: generation 0), which lets one of several in."""

    def __init__(self, config: ParquetConfig, owner: str) -> None:
        self._bucket, self._owner = Bucket(config, owner, "read, write, list and delete"), owner
        self._store, self.shown = self._bucket.store, self._bucket.shown

    def create(self, key: str, content: bytes) -> bool:
        """PUT, unless there is one."""
        try:
            with self._explained(key, "written"):
                obstore.put(self._store, self._path(key), content, mode="create", use_multipart=False)
        except (refused.AlreadyExistsError, refused.PreconditionError):
            return False
        return True

    def overwrite(self, key: str, content: bytes) -> None:
        """PUT."""
        with self._explained(key, "written"):
            obstore.put(self._store, self._path(key), content, use_multipart=False)

    def get(self, key: str) -> bytes | None:
        """GET."""
        try:
            with self._bucket.explained(key):
                return bytes(obstore.get(self._store, self._path(key)).bytes())
        except MissingError:
            return None

    def keys(self, prefix: str, after: str = "") -> list[str]:
        """LIST, from a key on."""
        found: list[str] = []
        offset = self._path(after) if after else None
        with self._explained(prefix, "listed"):
            for chunk in obstore.list(self._store, prefix=self._path(prefix), offset=offset, chunk_size=1000):
                found += [self._key(str(meta["path"])) for meta in chunk]
        return sorted(found)

    def folders(self, prefix: str) -> list[str]:
        """LIST with a delimiter."""
        path = self._path(prefix)
        with self._explained(prefix, "listed"):
            found = obstore.list_with_delimiter(self._store, prefix=path or None)["common_prefixes"]
        return sorted(str(item).rstrip("/").rpartition("/")[2] for item in found)

    def outgoing(self, key: str) -> _OutgoingObject:
        """Begin an upload, in parts where it is large."""
        with self._explained(key, "written"):
            made = obstore.open_writer(self._store, self._path(key), buffer_size=_PART_BYTES, max_concurrency=_AHEAD)
        return _OutgoingObject(made, lambda: self._explained(key, "written"))

    def incoming(self, key: str) -> IO[bytes]:
        """Open for ranged reads."""
        with self._explained(key, "read"):
            found = obstore.open_reader(self._store, self._path(key), buffer_size=_RANGE_BYTES)
        return cast("IO[bytes]", _IncomingObject(found, lambda: self._explained(key, "read")))

    def address(self, key: str) -> str:
        """Return the url."""
        return f"{self._bucket.scheme}://{self._bucket.name}/{self._path(key)}"

    def remove(self, keys: list[str]) -> None:
        """DELETE."""
        for key in keys:
            try:
                with self._bucket.explained(key, "removed"):
                    obstore.delete(self._store, self._path(key))
            except MissingError:
                continue

    def _path(self, key: str) -> str:
        return "/".join(part for part in (self._bucket.prefix, key) if part)

    def _key(self, path: str) -> str:
        return path.removeprefix(f"{self._bucket.prefix}/") if self._bucket.prefix else path

    @contextmanager
    def _explained(self, key: str, doing: str) -> Iterator[None]:
        try:
            with self._bucket.explained(key, doing):
                yield
        except MissingError as error:
            raise RetriableError(
                f"{self._owner}: '{key}' under '{self.shown}' cannot be {doing}: it is not there"
            ) from error


class _OutgoingObject:
    def __init__(self, made: Any, explained: Any) -> None:
        self._made, self._explained = made, explained

    def write(self, data: bytes | memoryview) -> int:
        with self._explained():
            self._made.write(data)
        return len(data)

    def close(self) -> None:
        if not self._made.closed():
            with self._explained():
                self._made.close()


class _IncomingObject(io.RawIOBase):
    def __init__(self, found: Any, explained: Any) -> None:
        super().__init__()
        self._found, self._explained = found, explained

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._found.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._found.seek(offset, whence))

    def read(self, size: int | None = -1) -> bytes:
        with self._explained():
            return bytes(self._found.read(None if size is None or size < 0 else size))
