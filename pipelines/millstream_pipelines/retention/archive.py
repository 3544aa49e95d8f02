"""An archive of one partition: exported, put, read back from the store by another engine, compared; then the manifest.

Layout: `<url>/<schema>.<table>/from=<first value>/<attempt>/part-00000.parquet` and `_manifest.json` beside it. An
attempt has a folder of its own, so what a killed one left is never mistaken for a part of another.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millstream_pipelines.errors import DataError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention.columns import ArchivedColumn, Content, content_of, duckdb_part, duckdb_total
from millstream_pipelines.retention.export import Sink, export
from millstream_pipelines.retention.manifest import Manifest
from millstream_pipelines.retention.sessions import Sessions
from millstream_pipelines.retention.spans import Kind
from millstream_pipelines.retention.store import ArchiveStore, NoSuchObjectError, StoredObject
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig
from millstream_pipelines.warehouses.names import quote


@dataclass(frozen=True)
class Range:
    """Which rows are archived: those of a detached partition."""

    table: str
    partition: str
    oid: int
    column: str
    kind: Kind
    low: str | None
    high: str | None
    time_zone: str
    ddl: tuple[str, ...] = ()
    source: str = ""
    """The table whose rows are archived in place of the partition's: what an erasure has left of an archive."""
    supersedes: str = ""
    erased: tuple[dict[str, Any], ...] = ()
    generated: frozenset[str] = frozenset()
    """Columns that the server makes, where `source` has them as plain ones."""

    @property
    def folder(self) -> str:
        """Where its attempts lie; `from=` in Hive's way, without signs that paths or percent codes trip over."""
        first = (self.low or "begin").replace(" ", "T").replace(":", "-").replace("+00", "Z")
        return f"{self.table}/from={first}"


@dataclass(frozen=True)
class Archived:
    """A verified archive. `fingerprint` is PostgreSQL's own, of the rows that were exported."""

    manifest: Manifest
    fingerprint: str


def archive(
    config: PostgresConfig,
    owner: str,
    store: ArchiveStore,
    wanted: Range,
    announce: Callable[[str], None] = lambda folder: None,
    sessions: Sessions | None = None,
) -> Archived:
    """Archive a detached partition and prove it. DataError, reason ArchiveMismatch, says what differs.

    `announce` is told the attempt's folder before anything lies in it. `sessions`: those of a run, else its own.
    """
    if sessions is None:
        with Sessions(config, owner) as sessions:
            return archive(config, owner, store, wanted, announce, sessions)
    folder = f"{wanted.folder}/{uuid.uuid4().hex}"
    announce(folder)
    put: list[StoredObject] = []

    def begin() -> Sink:
        store.delete([item.key for item in put])
        put.clear()
        return lambda path, _rows: put.append(store.put(f"{folder}/{path.name}", path))

    with tempfile.TemporaryDirectory(prefix="millstream-archive-") as scratch:
        found = export(sessions, wanted.source or wanted.partition, wanted.column, Path(scratch), begin)
    reached("exported")
    verify(store, put, found.columns, found.content, wanted.partition, sessions.engine())
    reached("read-back")
    columns = tuple(replace(item, generated=item.generated or item.name in wanted.generated) for item in found.columns)
    manifest = Manifest(
        wanted.table, wanted.partition, wanted.oid, wanted.column, wanted.kind, wanted.low, wanted.high,
        wanted.time_zone, columns, wanted.ddl, found.content, tuple(put), folder, _now(), wanted.supersedes,
        wanted.erased,
    )  # fmt: skip
    store.put_new(manifest.key, manifest.document())
    reached("manifest-written")
    return Archived(manifest, found.fingerprint)


def verify(
    store: ArchiveStore,
    objects: Sequence[StoredObject],
    columns: Sequence[ArchivedColumn],
    expected: Content,
    what: str,
    engine: Any,
) -> None:
    """Read every object back, compare its bytes with what was put, and its rows with what PostgreSQL holds.

    `engine`: DuckDB, as `Sessions.engine` opens it.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="millstream-verify-") as scratch:
        engine.execute(
            f"CREATE OR REPLACE TEMPORARY TABLE parts AS {duckdb_part(columns, _nothing(columns))} HAVING false"
        )
        for number, item in enumerate(objects):
            path = Path(scratch) / f"{number}.parquet"
            fetched(store, item, path, what)
            try:
                engine.execute(f"INSERT INTO parts {duckdb_part(columns, f'read_parquet({str(path)!r})')}")
            except duckdb.Error as error:
                raise _mismatch(what, store, [f"object '{item.key}' cannot be read: {error}"]) from error
            path.unlink()
        found = content_of(columns, engine.execute(duckdb_total(columns, "parts")).fetchone() or ())
    differences = expected.differences(found)
    if differences:
        raise _mismatch(what, store, [f"{item} (PostgreSQL / archive)" for item in differences])


def untouched(store: ArchiveStore, manifest: Manifest) -> None:
    """Read every object of a verified archive again and compare its bytes. DataError names the first that differs."""
    with tempfile.TemporaryDirectory(prefix="millstream-verify-") as scratch:
        path = Path(scratch) / "object"
        for item in manifest.objects:
            fetched(store, item, path, manifest.partition)


def fetched(store: ArchiveStore, item: StoredObject, path: Path, what: str) -> None:
    try:
        found = store.fetch(item.key, path)
    except NoSuchObjectError:
        raise _mismatch(what, store, [f"object '{item.key}' is gone"]) from None
    if (found.size, found.sha256) != (item.size, item.sha256):
        seen = f"{found.size} bytes with SHA-256 {found.sha256[:12]}…"
        raise _mismatch(
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


def _mismatch(what: str, store: ArchiveStore, differences: list[str]) -> DataError:
    return DataError(
        f"{what}: its archive in '{store.shown}' is not what it must be: {'; '.join(differences)}. Nothing is dropped; "
        "the next run archives it anew",
        reason="ArchiveMismatch",
    )


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


__all__ = ["Archived", "Range", "archive", "fetched", "untouched", "verify"]
