"""An archive of one partition: exported, put, read back from the store by another engine, compared; then the manifest.

Layout: `<url>/<schema>.<table>/from=<first value>/<warehouse>-<attempt>/part-00000.parquet`, `_manifest.json` beside
it. An attempt has a folder of its own, so what a killed one left is never mistaken for a part of another; its name says
whose it is, so warehouses may share a url.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention.columns import ArchivedColumn, Content
from millstream_pipelines.retention.export import Sink, export
from millstream_pipelines.retention.manifest import Manifest
from millstream_pipelines.retention.ranges import PartitionRange
from millstream_pipelines.retention.readback import ReadBack
from millstream_pipelines.retention.sessions import Sessions
from millstream_pipelines.retention.store import ArchiveStore, StoredObject
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig


@dataclass(frozen=True)
class ToArchive(PartitionRange):
    """Which rows are archived: those of a detached partition."""

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


def archive(
    config: PostgresConfig,
    owner: str,
    store: ArchiveStore,
    wanted: ToArchive,
    announce: Callable[[str], None] = lambda folder: None,
    sessions: Sessions | None = None,
) -> Manifest:
    """Archive a detached partition and prove it. DataError, reason ArchiveMismatch, says what differs.

    `announce` is told the attempt's folder before anything lies in it. `sessions`: those of a run, else its own.
    """
    if sessions is None:
        with Sessions(config, owner) as sessions:
            return archive(config, owner, store, wanted, announce, sessions)
    folder = f"{wanted.folder}/{store.new_attempt()}"
    announce(folder)
    attempt = _Attempt(store, folder, wanted.partition, sessions)
    try:
        with tempfile.TemporaryDirectory(prefix="millstream-archive-") as scratch:
            found = export(sessions, wanted.source or wanted.partition, wanted.column, Path(scratch), attempt.begin)
        attempt.prove(found.content)
    finally:
        attempt.close()
    reached("read-back")
    columns = tuple(replace(item, generated=item.generated or item.name in wanted.generated) for item in found.columns)
    manifest = Manifest(
        *wanted.terms, columns, wanted.ddl, found.content, tuple(attempt.put), folder, _now(), wanted.supersedes,
        wanted.erased, store.warehouse,
    )  # fmt: skip
    store.put_new(manifest.key, manifest.document())
    reached("manifest-written")
    return manifest


@dataclass
class _Attempt:
    """Files on their way into the store, and back from there."""

    store: ArchiveStore
    folder: str
    what: str
    sessions: Sessions
    put: list[StoredObject] = field(default_factory=list)
    _reading: ReadBack | None = None

    def begin(self, columns: Sequence[ArchivedColumn]) -> Sink:
        """Begin with the first file, once more where the columns turned out to be others."""
        self.close()
        self.store.delete([item.key for item in self.put])
        self.put.clear()
        reading = self._reading = ReadBack(self.store, columns, self.what, self.sessions.engine)

        def take(path: Path) -> None:
            self.put.append(self.store.put(f"{self.folder}/{path.name}", path))
            reached("exported")
            reading.add(self.put[-1])

        return take

    def prove(self, expected: Content) -> None:
        """Compare what was read back. DataError, reason ArchiveMismatch, says what differs."""
        assert self._reading is not None  # noqa: S101 - who exports begins
        self._reading.compare(expected)

    def close(self) -> None:
        """End the reading."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


__all__ = ["ToArchive", "archive"]
