"""The way back: a range that left is attached again, from the table that waits for its drop or from its archive.

What comes from an archive is loaded into a table of its own, compared with the manifest by PostgreSQL, and only then
attached, which stops nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_api import ExitCode, RetentionReport, RunReport, StreamReport, TableReport
from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention import manifest as manifests
from millstream_pipelines.retention import records, unfinished
from millstream_pipelines.retention.ddl import Ddl, alone, session
from millstream_pipelines.retention.export import content
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.filling import filled
from millstream_pipelines.retention.fitting import refuse_archive, refuse_table, without_rows
from millstream_pipelines.retention.likeness import likeness
from millstream_pipelines.retention.manifest import Manifest
from millstream_pipelines.retention.ondemand import full_name
from millstream_pipelines.retention.partitions import attach, detach
from millstream_pipelines.retention.readback import batches
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.request import RetentionRequest, archive_store, moment, opened
from millstream_pipelines.retention.restorable import names_of, overlapping
from millstream_pipelines.retention.restored_rows import taken_off
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig, run, translated
from millstream_pipelines.warehouses.names import quote, quote_table

_MARK = "restored by millstream, run "
_TAKEN = """
SELECT obj_description(c.oid, 'pg_class'), i.inhparent::regclass::text
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.oid = to_regclass(%s)
"""


def restore(request: RetentionRequest, config: PostgresConfig) -> RunReport:
    """Bring a range back as the request's options say. ConfigurationError when nothing of it has left."""
    wanted = request.options.restore
    assert wanted is not None  # noqa: S101 - who calls has looked
    wanted = wanted.model_copy(update={"table": full_name(wanted.table)})
    with opened(request, config) as ddl:
        store, now = archive_store(request, ddl), moment(request, ddl)
        rows = 0
        with alone(ddl, wanted.table, request.patience_s):
            unfinished.removed(ddl, wanted.table)
            chosen = overlapping(ddl, wanted.table, wanted.from_, wanted.to)
            names = names_of(ddl.owner, chosen, wanted.into)
            for record in chosen:
                rows += Restoring(ddl, config, store, wanted.into, now, request.run).go(record, names[record.id])
        facts = table_facts(ddl, wanted.table)
    where = f"into schema {wanted.into}" if wanted.into else "and attached"
    message = f"{len(chosen)} range(s) of {wanted.table} restored {where}, {rows} rows, each compared with its archive"
    message = message if chosen else f"what had left {wanted.table} there is back already"
    total = StreamReport(name=wanted.table, target=wanted.table, read=rows, loaded=rows)
    table = TableReport(name=wanted.table, outcome="done", message=message, live=len(facts.partitions))
    return RunReport(
        exit_code=ExitCode.DONE, reason="Restored", message=message, streams=[total], totals=total,
        retention=RetentionReport(tables=[table], tables_count=1),
    )  # fmt: skip


def _told(name: str, comment: str | None, parent: str | None) -> str:
    """Return what a table is whose name a restore needs, and what to do."""
    if parent is not None:
        return (
            f"{name} is a partition of {parent} again, with rows that came late: leave it as it is, restore with "
            "`into` a schema, and insert the rows from there"
        )
    if (comment or "").startswith(_MARK):
        return (
            f"there is a table {name} already, {comment}: use it, drop it when nobody needs it any more, or restore "
            "with `into` another schema"
        )
    return (
        f"there is a table {name} already, which no restore has made; drop or rename it, or restore with `into` "
        "another schema"
    )


class Restoring:
    """Brings one range back. `into`: a schema, for a table of its own; None to attach it again.

    `run` marks such a table, so that a retry of the run knows its own work.
    """

    def __init__(
        self, ddl: Ddl, config: PostgresConfig, store: ArchiveStore | None, into: str | None, now: datetime, run: str
    ) -> None:
        self._ddl, self._config, self._store, self._into, self._now = ddl, config, store, into, now
        self._mark = f"{_MARK}{run}"

    def go(self, record: Retired, name: str) -> int:
        """Bring it back as a table of that name, and return how many rows are back."""
        if self._into is None and record.is_here:
            return self._undo(record)
        if record.manifest is None or self._store is None:
            lies = f" (it was put into '{record.archive_url}')" if record.manifest else ""
            raise ConfigurationError(
                f"{self._ddl.owner}: {record.partition} has no archive that the policy names{lies}, so it cannot be "
                "restored from there" + ("; leave out `into` to attach it again" if record.is_here else "")
            )
        manifest = manifests.read(self._store, record.manifest, record.archive_url)
        manifest = replace(manifest, table=record.table)  # it may be renamed since
        shape = table_facts(self._ddl, record.table).shape if self._into is None else ""
        if self._into is None:
            refuse_archive(self._ddl, record, manifest)
        if shape == "hypertable":
            name = f"_millstream.restoring_{record.id}"
        self._load(manifest, name, self._store)
        reached("restored")
        if shape == "hypertable":
            self._insert(record, manifest, name)
        elif self._into is None:
            self._attach(record)
        return manifest.content.rows

    def _insert(self, record: Retired, manifest: Manifest, name: str) -> None:
        """Put what was loaded and compared back into a hypertable, which makes the chunk, and note it with that."""
        ddl, columns = self._ddl, ", ".join(quote(item.name) for item in manifest.columns if not item.generated)
        target, loaded = quote_table(record.table), quote_table(name)

        def insert() -> None:
            with ddl.connection.cursor() as cursor:
                cursor.execute(
                    f"INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {loaded}"
                )
                if cursor.rowcount != manifest.content.rows:
                    raise DataError(
                        f"{record.partition}: {cursor.rowcount} of {manifest.content.rows} rows went back into "
                        f"{record.table}: a trigger takes some; restore with `into` a schema. Nothing was changed",
                        reason="ArchiveMismatch",
                    )
            ddl.execute(*records.advancing(record, "restored", self._now))
            ddl.execute(f"DROP TABLE {loaded}")

        ddl.transaction(f"restoring {record.partition}", insert, (target,))

    def _undo(self, record: Retired) -> int:
        """Attach a table that waits for its drop."""
        facts = table_facts(self._ddl, record.table)
        part = next((part for part in facts.partitions if part.name == record.partition), None)
        if part is not None and part.detaching:
            detach(self._ddl, record.table, part)
            part = None
        if part is None:
            refuse_table(self._ddl, record)
            self._attach(record)
        else:
            self._ddl.transaction(f"noting {record.partition}", lambda: records.back(self._ddl, record, self._now))
        return record.rows or 0

    def _attach(self, record: Retired) -> None:
        """Attach the record's table, and note it in the same transaction."""
        facts = table_facts(self._ddl, record.table)
        if facts.shape != "ranges":
            raise ConfigurationError(
                f"{self._ddl.owner}: table {record.table} is no longer cut by ranges; restore with `into` a schema"
            )
        like_newest = likeness(self._ddl, facts, quote_table(record.partition))

        def note() -> None:
            records.back(self._ddl, record, self._now)
            if not record.is_here:
                self._ddl.execute(f"COMMENT ON TABLE {quote_table(record.partition)} IS NULL")
                for statement in (*like_newest.settings, *like_newest.last):
                    self._ddl.execute(statement)

        facts = replace(facts, kind=record.kind)
        try:
            attach(self._ddl, facts, record.partition, record.low_value, record.high_value, note)
        except MillstreamError as error:
            if told := without_rows(self._ddl.owner, f"rows of {record.partition}", error):
                raise told from None  # the server's words hold a row
            raise

    def _load(self, manifest: Manifest, name: str, store: ArchiveStore) -> None:
        """Fill a table of that name and compare it with the manifest; until then it is marked as one to be removed."""
        ddl, target = self._ddl, quote_table(name)
        taken = ddl.rows(_TAKEN, (target,))
        if taken and self._into is not None and taken[0][0] == self._mark:
            return
        if taken:
            raise ConfigurationError(f"{ddl.owner}: {_told(name, *taken[0])}")
        with closing(session(self._config, ddl.owner)) as connection:
            try:
                for statement in self._made(manifest, name, target):
                    run(connection, statement)
                run(connection, f"COMMENT ON TABLE {target} IS %s", (unfinished.mark(manifest.table),))
                indexes = taken_off(connection, target)
                connection.commit()
                reached("restoring")
                try:
                    filled(self._config, ddl.owner, target, manifest.columns, batches(store, manifest))
                    self._prove(connection, manifest, name)
                    for statement in indexes:
                        run(connection, statement)
                    if self._into is not None:
                        run(connection, f"COMMENT ON TABLE {target} IS %s", (self._mark,))
                    connection.commit()
                except Exception:
                    connection.rollback()
                    run(connection, f"DROP TABLE {target}")
                    connection.commit()
                    raise
            except psycopg2.Error as error:
                if told := without_rows(ddl.owner, f"rows of {manifest.partition}", error):
                    raise told from None  # the server's words hold a row
                raise translated(error, ddl.owner, f"restoring {name}") from error

    def _prove(self, connection: Connection, manifest: Manifest, name: str) -> None:
        differences = manifest.content.differences(content(connection, name, manifest.columns))
        if differences:
            raise DataError(
                f"{name}: what was restored is not what was archived: {'; '.join(differences)} (archive / restored); "
                "it is removed again",
                reason="ArchiveMismatch",
            )

    def _made(self, manifest: Manifest, name: str, target: str) -> Iterator[str]:
        """Yield the statements that make the table: like its parent, or as it was where the parent has changed."""
        if self._into is not None:
            yield f"CREATE SCHEMA IF NOT EXISTS {quote(self._into)}"
            yield manifest.ddl[0].replace(
                f"CREATE TABLE {quote_table(manifest.partition)}", f"CREATE TABLE {target}", 1
            )
            return
        like = likeness(self._ddl, table_facts(self._ddl, manifest.table), target)
        columns = f"LIKE {quote_table(manifest.table)} INCLUDING ALL EXCLUDING IDENTITY"
        yield f"{like.create} {target} ({columns}){like.stored}"


__all__ = ["Restoring", "restore"]
