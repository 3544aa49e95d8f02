"""Where archives lie: a bucket or a folder. Objects are put, read back, listed and deleted; nothing is overwritten."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from millstream_api.retentionpolicy import Archive
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.registry import configured
from millstream_pipelines.warehouses._parquet.config import ParquetConfig
from millstream_pipelines.warehouses._parquet.store import open_store

_CHUNK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class StoredObject:
    """An object as it was put: where, how long, and the SHA-256 of its bytes."""

    key: str
    size: int
    sha256: str


class NoSuchObjectError(Exception):
    """There is no object of that name."""


class ArchiveStore:
    """The place of a policy's archives. Keys are relative to its url. Errors name the url, never a secret.

    `warehouse` names whose archives they are, among those of others at the same url; empty for one who only looks.
    """

    def __init__(self, archive: Archive, secret: Mapping[str, str], owner: str, warehouse: str = "") -> None:
        self.shown, self.warehouse = archive.url, warehouse
        wanted = {name: value for name, value in (("endpoint", archive.endpoint), ("region", archive.region)) if value}
        config = configured(ParquetConfig, {"url": archive.url, **wanted}, secret, f"{owner} archive")
        self._store = open_store(config, f"{owner} archive")

    def reach(self) -> None:
        """Ask the place for what it holds. MillstreamError, as of any use of it, when it refuses or does not answer."""
        self._store.folders("")

    def new_attempt(self) -> str:
        """Return the name of a new attempt's folder, which says whose it is."""
        return "-".join(part for part in (self.warehouse, uuid.uuid4().hex) if part)

    def is_ours(self, folder: str) -> bool:
        """Return whether an attempt's folder is by its name of this warehouse."""
        return bool(self.warehouse) and _owner(folder) == self.warehouse

    def is_of_another(self, folder: str) -> bool:
        """Return whether an attempt's folder is by its name of another warehouse; older ones have no such name."""
        return _owner(folder) not in ("", self.warehouse)

    def is_elsewhere(self, key: str, url: str | None) -> bool:
        """Return whether an object that was put into a place of that url is not in this one, which is another."""
        return not self.is_at(url) and key not in self.keys(key.rpartition("/")[0])

    def is_at(self, url: str | None) -> bool:
        """Return whether a url, as a record has it, is the one of this place."""
        return url is None or url.rstrip("/") == self.shown.rstrip("/")

    def put(self, key: str, path: Path) -> StoredObject:
        """Put a file, piece by piece, and return what was put."""
        digest, size = hashlib.sha256(), 0
        outgoing = self._store.outgoing(key)
        with path.open("rb") as file:
            while piece := file.read(_CHUNK_BYTES):
                digest.update(piece)
                size += outgoing.write(piece)
        outgoing.close()
        return StoredObject(key, size, digest.hexdigest())

    def put_new(self, key: str, content: bytes) -> bool:
        """Put a small object that must not exist; False when it does."""
        return self._store.create(key, content)

    def fetch(self, key: str, path: Path) -> StoredObject:
        """Read an object into a file and return what came. NoSuchObjectError when there is none."""
        digest, size = hashlib.sha256(), 0
        try:
            with self._store.incoming(key) as incoming, path.open("wb") as file:
                while piece := incoming.read(_CHUNK_BYTES):
                    digest.update(piece)
                    size += file.write(piece)
        except MillstreamError:
            if key not in self.keys(key.rpartition("/")[0]):
                raise NoSuchObjectError(key) from None
            raise
        return StoredObject(key, size, digest.hexdigest())

    def read(self, key: str) -> bytes:
        """Return a small object. NoSuchObjectError when there is none."""
        found = self._store.get(key)
        if found is None:
            raise NoSuchObjectError(key)
        return found

    def keys(self, folder: str) -> list[str]:
        """Return the keys below a folder, in order."""
        return self._store.keys(folder)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are gone are no error."""
        self._store.remove(list(keys))


def _owner(folder: str) -> str:
    return folder.rpartition("/")[2].rpartition("-")[0]


__all__ = ["ArchiveStore", "NoSuchObjectError", "StoredObject"]
