"""The way back: a range that left is attached again, from the table that waits for its drop or from its archive.

What comes from an archive is loaded in one transaction into a table of its own, compared with the manifest by
PostgreSQL, and only then attached, which stops nobody.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq

from millstream_api import ExitCode, RetentionReport, RunReport, StreamReport, TableReport
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention import manifest as manifests
from millstream_pipelines.retention import records
from millstream_pipelines.retention.archive import fetched
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.export import content
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.manifest import Manifest
from millstream_pipelines.retention.partitions import attach
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.restored_rows import copied_in
from millstream_pipelines.retention.spans import Value, parsed_in
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig, connect, translated
from millstream_pipelines.warehouses.names import quote, quote_table

if TYPE_CHECKING:
    from millstream_pipelines.retention.run import RetentionRequest


def restore(request: RetentionRequest, config: PostgresConfig) -> RunReport:
    """Bring a range back as the request's options say. ConfigurationError when nothing of it has left."""
    from millstream_pipelines.retention.run import archive_store, moment, opened

    wanted = request.options.restore
    assert wanted is not None  # noqa: S101 - who calls has looked
    with opened(request, config) as ddl:
        chosen = overlapping(ddl, wanted.table, wanted.from_, wanted.to)
        store, now = archive_store(request), moment(request, ddl)
        rows = 0
        for record in chosen:
            rows += Restoring(ddl, config, store, wanted.into, now).go(record)
        facts = table_facts(ddl, wanted.table)
    where = f"into schema {wanted.into}" if wanted.into else "and attached"
    message = f"{len(chosen)} ranges of {wanted.table} restored {where}, {rows} rows, each compared with its archive"
    total = StreamReport(name=wanted.table, target=wanted.table, read=rows, loaded=rows)
    table = TableReport(name=wanted.table, outcome="done", message=message, live=len(facts.partitions))
    return RunReport(
        exit_code=ExitCode.DONE, reason="Restored", message=message, streams=[total], totals=total,
        retention=RetentionReport(tables=[table], tables_count=1),
    )  # fmt: skip


def overlapping(ddl: Ddl, table: str, start: str, end: str) -> list[Retired]:
    """Return the records of a table that a stretch touches, oldest first."""
    found = records.retired(ddl, table)
    if not found:
        raise ConfigurationError(f"{ddl.owner}: nothing of table {table} has left the warehouse under any policy")
    kind, zone = found[0].kind, ZoneInfo(found[0].time_zone)
    try:
        first, last = parsed_in(start, kind, zone), parsed_in(end, kind, zone)
    except ValueError as error:
        raise ConfigurationError(f"{ddl.owner}: restore of {table}: {error}; the column is of type {kind}") from error
    chosen = [item for item in found if _touches(item, first, last) and item.state != "expired"]
    if not chosen:
        have = ", ".join(f"{item.low}..{item.high} ({item.state})" for item in found[:20])
        raise ConfigurationError(
            f"{ddl.owner}: nothing of {table} between {start} and {end} can come back; there is: {have}"
        )
    return chosen


def _touches(record: Retired, first: Value, last: Value) -> bool:
    low, high = record.low_value, record.high_value
    return (low is None or low < last) and (high is None or high > first)  # type: ignore[operator]


class Restoring:
    """Brings one range back. `into`: a schema, for a table of its own; None to attach it again."""

    def __init__(
        self, ddl: Ddl, config: PostgresConfig, store: ArchiveStore | None, into: str | None, now: datetime
    ) -> None:
        self._ddl, self._config, self._store, self._into, self._now = ddl, config, store, into, now

    def go(self, record: Retired) -> int:
        """Return how many rows are back."""
        if self._into is None and record.is_here:
            return self._undo(record)
        if record.manifest is None or self._store is None:
            raise ConfigurationError(
                f"{self._ddl.owner}: {record.partition} has no archive that the policy names, so it cannot be restored "
                "from there" + ("; leave out `into` to attach it again" if record.is_here else "")
            )
        manifest = manifests.read(self._store, record.manifest)
        name = record.partition
        if self._into is not None:
            name = f"{self._into}.{record.partition.rpartition('.')[2]}"
        self._load(manifest, name, self._store)
        reached("restored")
        if self._into is None:
            self._attach(record, name)
            records.advance(self._ddl, record, "restored", self._now)
        return manifest.content.rows

    def _undo(self, record: Retired) -> int:
        """Attach a table that waits for its drop."""
        facts = table_facts(self._ddl, record.table)
        if all(part.name != record.partition for part in facts.partitions):
            self._attach(record, record.partition)
        records.advance(self._ddl, record, "restored", self._now)
        return record.rows or 0

    def _attach(self, record: Retired, name: str) -> None:
        facts = table_facts(self._ddl, record.table)
        if facts.shape != "ranges":
            raise ConfigurationError(
                f"{self._ddl.owner}: table {record.table} is no longer cut by ranges; restore with `into` a schema"
            )
        if any(part.name == name for part in facts.partitions):
            return
        attach(self._ddl, facts, name, record.low_value, record.high_value)

    def _load(self, manifest: Manifest, name: str, store: ArchiveStore) -> None:
        """Fill a table of that name in one transaction, and compare it with the manifest before it is kept."""
        ddl, target = self._ddl, quote_table(name)
        if ddl.rows("SELECT to_regclass(%s)", (target,))[0][0] is not None:
            facts = table_facts(ddl, manifest.table)
            if any(part.name == name for part in facts.partitions):
                return  # a killed run has attached it and not noted that
            if self._into is not None:
                raise ConfigurationError(f"{ddl.owner}: {name} is there already; drop it, or choose another schema")
        with connect(self._config, ddl.owner) as connection:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(f"DROP TABLE IF EXISTS {target}")  # filled by a killed run, and not attached
                    for statement in self._made(manifest, name, target):
                        cursor.execute(statement)
                copied_in(connection, target, manifest.columns, self._batches(manifest, store))
                found = content(connection, name, manifest.columns)
                differences = manifest.content.differences(found)
                if differences:
                    connection.rollback()
                    raise DataError(
                        f"{name}: what was restored is not what was archived: {'; '.join(differences)} "
                        "(archive / restored); nothing was changed",
                        reason="ArchiveMismatch",
                    )
                connection.commit()
            except psycopg2.Error as error:
                raise translated(error, ddl.owner, f"restoring {name}") from error
        connection.close()

    def _made(self, manifest: Manifest, name: str, target: str) -> Iterator[str]:
        """Yield the statements that make the table: like its parent, or as it was where the parent has changed."""
        if self._into is not None:
            yield f"CREATE SCHEMA IF NOT EXISTS {quote(self._into)}"
            yield manifest.ddl[0].replace(
                f"CREATE TABLE {quote_table(manifest.partition)}", f"CREATE TABLE {target}", 1
            )
            return
        yield f"CREATE TABLE {target} (LIKE {quote_table(manifest.table)} INCLUDING ALL EXCLUDING IDENTITY)"

    def _batches(self, manifest: Manifest, store: ArchiveStore) -> Iterator[pa.RecordBatch]:
        with tempfile.TemporaryDirectory(prefix="millstream-restore-") as scratch:
            path = Path(scratch) / "object.parquet"
            for item in manifest.objects:
                fetched(store, item, path, manifest.partition)
                with pq.ParquetFile(path) as file:
                    for number in range(file.num_row_groups):
                        yield from file.read_row_group(number).to_batches()


__all__ = ["Restoring", "overlapping", "restore"]
