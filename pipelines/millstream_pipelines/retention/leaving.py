"""The steps of a partition on its way out. Each can be repeated, and each is noted before the next begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention import manifest as manifests
from millstream_pipelines.retention import records
from millstream_pipelines.retention.archive import ToArchive, archive
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.definitions import definition
from millstream_pipelines.retention.export import columns_of, content
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.retention.manifest import Manifest
from millstream_pipelines.retention.partitions import detach
from millstream_pipelines.retention.planning import Planned
from millstream_pipelines.retention.readback import untouched
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.sessions import Sessions
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.retention.timescale import take_out
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig
from millstream_pipelines.warehouses.names import quote_table

DIFFERS = frozenset({"ArchiveMismatch", "ArchiveMissing", "ArchiveUnreadable"})
"""Reasons of errors that say why an archive proves nothing."""


@dataclass
class Leaving:
    """Carries out steps on one warehouse. `policy` is `namespace/name`; `store` is None where nothing is archived."""

    ddl: Ddl
    config: PostgresConfig
    policy: str
    store: ArchiveStore | None
    now: datetime
    sessions: Sessions | None = None
    chunked: bool = False
    """Whether the table is a hypertable, whose chunks stay in it until they are dropped."""

    def detach(self, step: Planned, facts: TableFacts, time_zone: str) -> Retired:
        """Take a partition out of its table. What a killed run began is ended, not begun anew."""
        ddl = self.ddl
        if isinstance(step.subject, Partition):
            oid = ddl.rows("SELECT to_regclass(%s)::oid::bigint", (quote_table(step.partition),))[0][0]
            record = Retired(step.table, step.partition, oid, facts.column, facts.kind, step.low, step.high, time_zone,
                             0, "retiring", step.why, step.rows, step.bytes)  # fmt: skip
            record = records.begin(ddl, self.policy, record)
            reached("retiring")
        else:
            assert isinstance(step.subject, Retired)  # noqa: S101 - a detach has one of the two
            record = step.subject
        attached = next((part for part in facts.partitions if part.name == record.partition), None)
        if attached is not None and not self.chunked:
            detach(ddl, step.table, attached)
            reached("detached")
        records.advance(ddl, record, "detached", self.now)
        return replace(record, state="detached")

    def archive(self, record: Retired) -> Retired:
        """Archive a detached partition and prove it."""
        store = self._store()
        wanted = ToArchive(*record.terms, definition(self.ddl, record.partition))
        manifest = archive(
            self.config, self.ddl.owner, store, wanted,
            lambda folder: records.attempting(self.ddl, record, folder, store.shown), self.sessions,
        )  # fmt: skip
        records.advance(
            self.ddl, record, "archived", self.now, manifest=manifest.key, archive_url=store.shown,
            archive_bytes=manifest.size_bytes, content_hash=manifest.content.hash, rows=manifest.content.rows,
            verified_at=manifest.verified_at,
        )  # fmt: skip
        reached("archived")
        return replace(record, state="archived", manifest=manifest.key)

    def tidy(self, table: str) -> None:
        """Delete what killed attempts left in the store, and archives that newer ones stand for."""
        if self.store is None:
            return
        for left in records.leftovers(self.ddl, table):
            is_here = self.store.is_at(left.url)
            if not is_here and left.noted != left.folder:
                continue
            if not self.store.is_of_another(left.folder):
                self._delete(self.store, left.folder)
            if is_here:
                records.forget(self.ddl, left.record, left.noted)
            else:  # which may be a copy; what lies at the url of before is deleted when the policy names that again
                self.ddl.rows(*records.leaving_behind(left.record, left.folder, left.url))

    def _delete(self, store: ArchiveStore, folder: str) -> None:
        """Delete an archive: its manifest first, so that half an archive is never trusted. DataError for another's."""
        self._refuse_anothers(store, folder)
        store.delete([f"{folder}/{manifests.NAME}"])
        reached("deleting")
        store.delete(store.keys(folder))

    def _refuse_anothers(self, store: ArchiveStore, folder: str) -> None:
        if store.is_of_another(folder):
            raise DataError(
                f"{self.ddl.owner}: '{folder}' in '{store.shown}' is an archive of another warehouse: it stays",
                reason="ArchiveMismatch",
            )

    def drop(self, record: Retired) -> None:
        """Drop a partition whose archive is still what was verified, and that is still what was archived."""
        manifest = None
        if record.manifest is not None:
            store = self._store()
            manifest = _own(manifests.read(store, record.manifest, record.archive_url), record)
            untouched(store, manifest)
        name = quote_table(record.partition)
        self.ddl.transaction(f"dropping {record.partition}", lambda: self._drop(record, manifest, name), (name,))
        reached("dropped")

    def _drop(self, record: Retired, manifest: Manifest | None, name: str) -> None:
        ddl = self.ddl
        if ddl.rows("SELECT to_regclass(%s)", (name,))[0][0] is not None:
            # Readers of a hypertable go on while its chunk is compared; those of a detached partition are none.
            ddl.execute(f"LOCK TABLE {name} IN {'SHARE ROW EXCLUSIVE' if self.chunked else 'ACCESS EXCLUSIVE'} MODE")
            if not self.chunked and ddl.rows("SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass(%s)", (name,)):
                raise DataError(f"{record.partition} is attached again; it is not dropped", reason="AttachedAgain")
            differences = [] if manifest is None else changed(ddl, manifest, record.partition)
            if differences:
                raise DataError(
                    f"{record.partition} has changed since it was archived: {'; '.join(differences)} (then / now); it "
                    "is not dropped. It is archived anew at the next run",
                    reason="ChangedSinceArchive",
                )
            if self.chunked:
                low, high = record.low or "", record.high or ""
                take_out(ddl, record.table, record.kind, record.partition, low, high, alone=True)
            else:
                ddl.execute(f"DROP TABLE {name}")
        statement, values = records.advancing(record, "dropped", self.now)
        ddl.execute(statement, values)
        reached("dropping")

    def dropped(self, record: Retired) -> bool:
        """Drop, and say whether it is gone: a chunk that took rows meanwhile stays, which is no failure.

        After any difference the archive is not relied on again, and the error is raised.
        """
        try:
            self.drop(record)
        except DataError as error:
            if error.reason in DIFFERS:
                raise self._unproven(record, error) from error
            if error.reason == "ChangedSinceArchive":
                self.again(record)
                if self.chunked:
                    return False
            raise
        return True

    def _unproven(self, record: Retired, error: DataError) -> DataError:
        """Let an archive that proves nothing be made anew, and return the error that says so.

        Where the table is gone, by whatever hand, nothing could be made anew: the archive stays the range's.
        """
        if self.ddl.rows("SELECT to_regclass(%s)", (quote_table(record.partition),))[0][0] is not None:
            self.again(record)
            return DataError(f"{error}. The next run archives it anew", reason=error.reason)
        return DataError(
            f"{error}. Its table was dropped by another hand, so this archive, put into '{record.archive_url}', is all "
            "that is left of the range: it stays the range's, and nothing is deleted",
            reason=error.reason,
        )

    def again(self, record: Retired) -> None:
        """Note that an archive is not to be relied on, so that the next run makes a new one."""
        self.ddl.rows(
            "UPDATE _millstream.retired SET state = 'detached', manifest = NULL, archived_at = NULL WHERE id = %s",
            (record.id,),
        )

    def expire(self, record: Retired) -> None:
        """Delete an archive. It counts no more before its first object goes: a killed run leaves none by half."""
        assert record.manifest is not None  # noqa: S101 - what has none does not expire
        store = self._store()
        if store.is_elsewhere(record.manifest, record.archive_url):
            raise manifests.missing(store, record.manifest, record.archive_url)
        folder = record.manifest.rpartition("/")[0]
        self._refuse_anothers(store, folder)
        records.advance(self.ddl, record, "expired", self.now)
        self._delete(store, folder)

    def _store(self) -> ArchiveStore:
        if self.store is None:
            raise ConfigurationError(
                f"{self.ddl.owner}: the policy names no `archive` any more, and a range that is due has one: "
                "name it again"
            )
        return self.store


def changed(ddl: Ddl, manifest: Manifest, table: str) -> list[str]:
    """Return how a table differs from its archive: columns, which a hash over the archive's own would not see, rows."""
    then = [f"{item.name} {item.type}" for item in manifest.columns]
    now = [f"{item.name} {item.type}" for item in columns_of(ddl.connection, table)]
    if then != now:
        return [f"columns: {', '.join(then)} / {', '.join(now)}"]
    return manifest.content.differences(content(ddl.connection, table, manifest.columns))


def _own(manifest: Manifest, record: Retired) -> Manifest:
    """Return the manifest if it is the one of this record; one that another was put in the place of proves nothing."""
    wanted = (record.table, record.low, record.high, record.content_hash)
    found = (manifest.table, manifest.low, manifest.high, manifest.content.hash)
    if found != wanted:
        differences = "; ".join(
            f"{name}: {want} / {have}"
            for name, want, have in zip(("table", "from", "to", "content hash"), wanted, found, strict=True)
            if want != have
        )
        raise DataError(
            f"{record.partition}: '{record.manifest}' is the manifest of something else: {differences} (archived / "
            "found). Nothing is dropped",
            reason="ArchiveMismatch",
        )
    return manifest


__all__ = ["DIFFERS", "Leaving", "changed"]
