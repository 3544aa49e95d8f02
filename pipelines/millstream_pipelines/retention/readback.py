"""An archive's objects read back from the store: bytes compared with what was put, rows hashed by DuckDB.

It is done in a thread of its own, an object at a time, while further ones are being made: neither the server nor the
writer waits for it, and DuckDB never sees what was written, only what the store gives back.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pyarrow as pa

from millstream_pipelines.errors import DataError
from millstream_pipelines.retention.columns import ArchivedColumn, Content, content_of, duckdb_part, duckdb_total
from millstream_pipelines.retention.manifest import Manifest
from millstream_pipelines.retention.store import ArchiveStore, NoSuchObjectError, StoredObject
from millstream_pipelines.warehouses.names import quote

_MOST_ROWS = 10_000  # of a batch: connections that share an archive end together


class ReadBack:
    """Takes objects as they are put, and compares them all in the end. Close it, whatever happens.

    `engine` opens DuckDB, as `Sessions.engine` does; nobody else may use it meanwhile.
    """

    def __init__(
        self, store: ArchiveStore, columns: Sequence[ArchivedColumn], what: str, engine: Callable[[], Any]
    ) -> None:
        self._store, self._columns, self._what, self._engine = store, columns, what, engine
        self._waiting: SimpleQueue[StoredObject | None] = SimpleQueue()
        self._failure: BaseException | None = None
        self._found: Content | None = None
        self._is_given_up = False
        self._thread = threading.Thread(target=self._work, name="millstream-read-back", daemon=True)
        self._thread.start()

    def add(self, item: StoredObject) -> None:
        """Hand over an object. Raises what an earlier one was refused for, so that no more are made."""
        if self._failure is not None:
            raise self._failure
        self._waiting.put(item)

    def compare(self, expected: Content) -> None:
        """Wait, and compare. DataError, reason ArchiveMismatch, says what differs."""
        self._end()
        if self._failure is not None:
            raise self._failure
        assert self._found is not None  # noqa: S101 - the thread has one or the other
        differences = expected.differences(self._found)
        if differences:
            raise mismatch(self._what, self._store, [f"{item} (PostgreSQL / archive)" for item in differences])

    def close(self) -> None:
        """End the thread; what is not read yet is not read."""
        self._is_given_up = True
        self._end()

    def _end(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            self._found = self._read(self._engine())
        except BaseException as error:
            self._failure = error

    def _read(self, engine: Any) -> Content:
        import duckdb

        columns = self._columns
        with tempfile.TemporaryDirectory(prefix="millstream-verify-") as scratch:
            path = Path(scratch) / "object.parquet"
            nothing = duckdb_part(columns, _nothing(columns))
            engine.execute(f"CREATE OR REPLACE TEMPORARY TABLE parts AS {nothing} HAVING false")
            while (item := self._waiting.get()) is not None and not self._is_given_up:
                fetched(self._store, item, path, self._what)
                try:
                    engine.execute(f"INSERT INTO parts {duckdb_part(columns, f'read_parquet({str(path)!r})')}")
                except duckdb.Error as error:
                    words = [f"object '{item.key}' cannot be read: {error}"]
                    raise mismatch(self._what, self._store, words) from error
                path.unlink()
            return content_of(columns, engine.execute(duckdb_total(columns, "parts")).fetchone() or ())


def untouched(store: ArchiveStore, manifest: Manifest) -> None:
    """Read every object of a verified archive again and compare its bytes. DataError names the first that differs."""
    with tempfile.TemporaryDirectory(prefix="millstream-verify-") as scratch:
        for item in manifest.objects:
            fetched(store, item, Path(scratch) / "object", manifest.partition)


def batches(store: ArchiveStore, manifest: Manifest) -> Iterator[pa.RecordBatch]:
    """Yield an archive's rows, read a row group at a time; the bytes of each object are compared before the first."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(prefix="millstream-archived-") as scratch:
        path = Path(scratch) / "object.parquet"
        for item in manifest.objects:
            fetched(store, item, path, manifest.partition)
            with pq.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    yield from file.read_row_group(number).to_batches(max_chunksize=_MOST_ROWS)


def fetched(store: ArchiveStore, item: StoredObject, path: Path, what: str) -> None:
    """Read an object into a file. DataError, reason ArchiveMismatch, where it is not what was put."""
    try:
        found = store.fetch(item.key, path)
    except NoSuchObjectError:
        raise mismatch(what, store, [f"object '{item.key}' is gone"]) from None
    if (found.size, found.sha256) != (item.size, item.sha256):
        seen = f"{found.size} bytes with SHA-256 {found.sha256[:12]}…"
        raise mismatch(
            what, store, [f"object '{item.key}' has {seen}, and {item.size} with {item.sha256[:12]}… were put"]
        )


def _nothing(columns: Sequence[ArchivedColumn]) -> str:
    """Return an empty relation of the archive's types, in DuckDB's words."""
    types = {
        "integer": "BIGINT", "float": "DOUBLE", "boolean": "BOOLEAN", "bytes": "BLOB", "date": "DATE",
        "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMPTZ", "uuid": "UUID", "text": "VARCHAR",
    }  # fmt: skip
    cast = []
    for item in columns:
        duck = types.get(item.form) or item.type.replace("numeric", "DECIMAL")
        cast.append(f"NULL::{duck} AS {quote(item.name)}")
    return f"(SELECT {', '.join(cast)})"


def mismatch(what: str, store: ArchiveStore, differences: list[str]) -> DataError:
    """Return the error for an archive that does not prove what it should."""
    return DataError(
        f"{what}: its archive in '{store.shown}' is not what it must be: {'; '.join(differences)}. Nothing is dropped",
        reason="ArchiveMismatch",
    )


__all__ = ["ReadBack", "batches", "fetched", "mismatch", "untouched"]
