"""Erasure in archives: what was written is loaded, judged by PostgreSQL, and the rest is archived and proven anew.

The new archive is verified before `_millstream.retired` names it, and only then does the old one leave the store. A run
that is killed anywhere leaves one of the two in force, and what is left over goes with the next run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_pipelines.errors import DataError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention import manifest as manifests
from millstream_pipelines.retention import records
from millstream_pipelines.retention.archive import ToArchive, archive
from millstream_pipelines.retention.condition import Condition
from millstream_pipelines.retention.ddl import Ddl, session
from millstream_pipelines.retention.export import content
from millstream_pipelines.retention.manifest import Manifest
from millstream_pipelines.retention.readback import batches
from millstream_pipelines.retention.receipts import Judged, Receipt, entering, removed
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.restored_rows import copied_in
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig, one, run, translated
from millstream_pipelines.warehouses.names import quote, quote_table

# A manifest has types only, and what is equal is for a column's collation to say.
_COLLATED = """
SELECT format('ALTER TABLE %%s ALTER COLUMN %%I TYPE %%s COLLATE %%I.%%I', %(target)s, a.attname,
  format_type(a.atttypid, a.atttypmod), n.nspname, c.collname)
FROM pg_attribute a JOIN pg_attribute p ON p.attname = a.attname AND p.attrelid = to_regclass(%(parent)s)
JOIN pg_collation c ON c.oid = p.attcollation JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE a.attrelid = to_regclass(%(target)s) AND a.attcollation NOT IN (0, p.attcollation)
"""
Wanted = Sequence[tuple[Condition, Receipt]]


@dataclass
class Rewriting:
    """Judges and rewrites archives of one store."""

    ddl: Ddl
    config: PostgresConfig
    store: ArchiveStore
    now: datetime

    def judge(self, record: Retired, wanted: Wanted) -> None:
        """Hold conditions against a record's archive; where rows match, it is rewritten without them."""
        assert record.manifest is not None  # noqa: S101 - who calls has looked
        before = manifests.read(self.store, record.manifest, record.archive_url)
        have = {item.name for item in before.columns}
        wanted = [(condition.where_cut_by(before.column, before.kind, have), receipt) for condition, receipt in wanted]
        missing = {name for condition, _ in wanted for name in condition.needed} - have
        if missing:
            raise DataError(
                f"{before.key} has no column {', '.join(sorted(missing))}: it was written before the table had one, so "
                "the condition cannot be judged there. Say it so that it holds for both, for example with "
                f"to_jsonb({wanted[0][0].alias}) ->> 'the old name'",
                reason="ErasureIncomplete",
            )
        name = f"_millstream.erasing_{record.id}"
        pairs = partial(zip, wanted, strict=True)
        try:
            found = self._without(before, name, wanted)
            if not any(rows for rows, _ in found):
                self._enter(wanted, [self._judged(before.key, c, 0, held) for (c, _), (_, held) in pairs(found)])
                return
            made = self._archived(record, before, name, [(c, rows) for (c, _), (rows, _) in pairs(found)])
            judged = [
                replace(self._judged(made.key, c, rows, held), supersedes=before.key,
                        old_hash=before.content.hash, new_hash=made.content.hash, removed=False)
                for (c, _), (rows, held) in pairs(found)
            ]  # fmt: skip
            self._supersede(record, made, wanted, judged)
        finally:
            if not self.ddl.connection.closed:
                self.ddl.rows(f"DROP TABLE IF EXISTS {quote_table(name)}")
        for (_, receipt), item in zip(wanted, judged, strict=True):
            self.clear(receipt, item)

    def note(self, record: Retired, wanted: Wanted) -> None:
        """Note that an archive holds none of the rows, as its table, which it equals, has none."""
        self._enter(wanted, [Judged(record.manifest or "", at=_spoken(self.now)) for _ in wanted])

    def clear(self, receipt: Receipt, judged: Judged, in_force: bool = True) -> None:
        """Delete what an archive replaced, the manifest first, so that half an archive is never trusted.

        `in_force`: the archive is still the one of its range, so that whatever lies beside it is none.
        """
        if judged.removed:
            return
        folder = judged.key.rpartition("/")[0]
        old = judged.supersedes.rpartition("/")[0]
        records_here = (*records.retired(self.ddl, receipt.table), *records.restored(self.ddl, receipt.table))
        if not all(self.store.is_at(item.archive_url) for item in records_here if item.manifest == judged.key):
            return  # it lies at the url of before: the erasure is not done until the policy names that again
        self.store.delete([judged.supersedes])
        reached("deleting")
        keys = self.store.keys(folder.rpartition("/")[0] if in_force else old)
        named = {folder, *(item.manifest.rpartition("/")[0] for item in records_here if item.manifest)}
        gone = {old, *(found for key in keys if self.store.is_ours(found := key.rpartition("/")[0]))} - named
        self.store.delete(key for key in keys if key.rpartition("/")[0] in gone)
        removed(self.ddl, receipt, judged.key)

    def _judged(self, key: str, condition: Condition, rows: int, held: int) -> Judged:
        return Judged(key, rows, held, condition.holds if held else (), at=_spoken(self.now))

    def _without(self, before: Manifest, name: str, wanted: Wanted) -> list[tuple[int, int]]:
        """Load the archive into a table, compare it, delete; return per condition the rows deleted and held."""
        target, owner = quote_table(name), self.ddl.owner
        plain = tuple(replace(item, generated=False) for item in before.columns)
        types = ", ".join(f"{quote(item.name)} {item.type}" for item in plain)
        with closing(session(self.config, owner)) as connection:
            try:
                run(connection, f"DROP TABLE IF EXISTS {target}")  # of a run that was killed
                run(connection, f"CREATE UNLOGGED TABLE {target} ({types})")
                for statement in _collated(connection, target, quote_table(before.table)):
                    run(connection, statement)
                copied_in(connection, target, plain, batches(self.store, before))
                differences = before.content.differences(content(connection, name, before.columns))
                if differences:
                    raise DataError(
                        f"{before.key}: what was loaded is not what was archived: {'; '.join(differences)} "
                        "(archive / loaded); the archive stays as it is",
                        reason="ArchiveMismatch",
                    )
                reached("erasing")
                found = []
                for condition, _ in wanted:
                    of = f"FROM {target} AS {condition.alias} WHERE"
                    held = one(connection, f"SELECT count(*) {of} {condition.kept}")[0]
                    found.append((run(connection, f"DELETE {of} {condition.free}"), int(held)))
                connection.commit()
                return found
            except psycopg2.Error as error:
                raise translated(error, owner, f"erasing in {before.key}") from error

    def _archived(
        self, record: Retired, before: Manifest, name: str, erased: Sequence[tuple[Condition, int]]
    ) -> Manifest:
        span = ToArchive(
            *before.terms, before.ddl, source=name, supersedes=before.key,
            erased=(*before.erased, *_told(erased, self.now)),
            generated=frozenset(item.name for item in before.columns if item.generated),
        )  # fmt: skip
        return archive(
            self.config, self.ddl.owner, self.store, span,
            lambda folder: records.attempting(self.ddl, record, folder, self.store.shown),
        )  # fmt: skip

    def _supersede(self, record: Retired, manifest: Manifest, wanted: Wanted, judged: Sequence[Judged]) -> None:
        values = (manifest.key, manifest.size_bytes, manifest.content.hash, manifest.content.rows,
                  manifest.verified_at)  # fmt: skip

        def switch() -> None:
            self.ddl.execute(
                "UPDATE _millstream.retired SET manifest = %s, archive_bytes = %s, content_hash = %s, rows = %s, "
                "verified_at = %s, archive_url = %s WHERE id = %s",
                (*values, self.store.shown, record.id),
            )
            if not self.store.is_at(record.archive_url):  # a copy was judged; what it was copied from is there still
                folder = (record.manifest or "").rpartition("/")[0]
                self.ddl.execute(*records.leaving_behind(record.id, folder, record.archive_url))
            for (_, receipt), item in zip(wanted, judged, strict=True):
                self.ddl.execute(*entering(receipt, item))

        self.ddl.transaction(f"putting {manifest.key} in the place of {record.manifest}", switch)
        reached("superseded")

    def _enter(self, wanted: Wanted, judged: Sequence[Judged]) -> None:
        for (_, receipt), item in zip(wanted, judged, strict=True):
            self.ddl.rows(*entering(receipt, item))


def _collated(connection: Connection, target: str, parent: str) -> list[str]:
    """Return what gives the columns of a new table the collations of its parent's columns of the same names."""
    with connection.cursor() as cursor:
        cursor.execute(_COLLATED, {"target": target, "parent": parent})
        return [row[0] for row in cursor.fetchall()]


def _told(erased: Sequence[tuple[Condition, int]], now: datetime) -> tuple[dict[str, object], ...]:
    return tuple(
        {"condition": condition.mark, "reason": condition.reason, "rows": rows, "at": _spoken(now)}
        for condition, rows in erased
    )


def _spoken(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


__all__ = ["Rewriting", "Wanted"]
