"""Rows whose key the source has no more: its keys in a temporary table, and what is not in it taken out."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import TYPE_CHECKING

from psycopg2.extensions import connection as Connection

from millstream_pipelines.batch import DELETED
from millstream_pipelines.raw_copy import HEADER, TRAILER
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses._postgres import refusals, stage
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.native import is_native
from millstream_pipelines.warehouses.absence import Absence, everything_gone, loaded_by_others
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.names import quote, quote_table

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "pg_temp.millstream_keys"
_XIDS = 2**32  # a row keeps the lower half of its transaction's number
_LATE = 2**26  # far more transactions than begin while the statement that takes rows out waits for a lock
# A transaction of another database cannot write here. One that is prepared has no process, and counts.
_FIRST_YOUNG = """
SELECT least(pg_snapshot_xmax(s.now)::text::bigint, (
    SELECT min(x.id::text::bigint) FROM pg_snapshot_xip(s.now) x (id) WHERE NOT EXISTS (
        SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
          AND l.transactionid::text::bigint = x.id::text::bigint & 4294967295 AND a.datname <> current_database())))
FROM (SELECT pg_current_snapshot() AS now) s
"""


def first_young(connection: Connection) -> int:
    """Return a transaction's number: what it and later ones wrote may be younger than now, all else is older.

    The oldest of those that are running: the subtransactions of one have numbers of their own, which nobody tells,
    but larger ones.
    """
    return int(one(connection, _FIRST_YOUNG)[0])


def note(connection: Connection, made: stage.StagePlan, keys: pa.RecordBatch) -> None:
    """Add keys that the source has: the columns of the key, as `shape` answered."""
    from millstream_pipelines.warehouses._postgres.encoding import encoded

    columns = _columns(made)
    _prepare(connection, columns)
    names = ", ".join(quote(name) for name in columns.names)
    binary = io.BytesIO(b"".join((HEADER, *encoded(keys, columns), TRAILER)))
    with connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {NAME} ({names}) FROM STDIN (FORMAT binary)", binary)


def note_staged(connection: Connection, made: stage.StagePlan) -> None:
    """Add the keys of all staged rows that are not marked as deleted, also of those the server will refuse."""
    columns = _columns(made)
    _prepare(connection, columns)
    names = ", ".join(quote(name) for name in columns.names)
    alive = f" WHERE NOT {DELETED}" if made.deletes else ""
    run(connection, f"INSERT INTO {NAME} SELECT DISTINCT {names} FROM {stage.NAME}{alive}")


def sweep(connection: Connection, made: stage.StagePlan, spec: LoadSpec, young: int) -> int:
    """Take out of the target what is not among the keys; return how many rows. See `SweepingLoad.sweep`.

    `young`: see `first_young`. A row that changes at the last moment is looked at again, so it is young, too.
    """
    spellings = [spec.target, f"public.{spec.target}", spec.target.removeprefix("public.")]
    other = one(
        connection,
        "SELECT o.pipeline, o.stream FROM _millstream.ledger o WHERE o.target = ANY (%s) "
        "AND NOT (o.pipeline = %s AND o.stream IN (%s, %s)) AND o.loaded > 0 "
        "AND o.committed_at > (SELECT min(l.committed_at) FROM _millstream.ledger l "
        "WHERE (l.pipeline, l.stream) = (%s, %s)) LIMIT 1",
        (spellings, spec.pipeline, spec.stream, f"{spec.stream}@backfill", spec.pipeline, spec.stream),
    )
    if other is not None:
        raise loaded_by_others(spec, *other)
    _prepare(connection, _columns(made))
    _only_values(connection, made)
    run(connection, f"ANALYZE {NAME}")
    absence = Absence(quote_table(spec.target), _typed(made), _old(connection, young), spec)
    if spec.disposition == "scd2":
        run(connection, f"LOCK TABLE {quote_table(spec.target)} IN SHARE ROW EXCLUSIVE MODE")
    if not spec.full_refresh and one(connection, absence.everything())[0]:
        raise everything_gone(spec, int(one(connection, f"SELECT count(*) FROM {NAME}")[0]))
    return run(connection, absence.take_out())


def _old(connection: Connection, young: int) -> str:
    """Return the condition for rows that were written before. Numbers are used again, so only a stretch is young."""
    latest = int(one(connection, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0])
    return f"(t.xmin::text::bigint - {young % _XIDS} + {_XIDS}) % {_XIDS} >= {latest - young + _LATE}"


def age(connection: Connection, spec: LoadSpec) -> timedelta | None:
    """Return how long ago the last sweep was committed, None when there was none."""
    row = one(
        connection,
        "SELECT now() - reconciled_at FROM _millstream.state WHERE (pipeline, stream) = (%s, %s)",
        (spec.pipeline, spec.state),
    )
    found: timedelta | None = row[0]
    return found


def note_time(connection: Connection, spec: LoadSpec) -> None:
    """Note that this transaction has swept."""
    run(
        connection,
        "UPDATE _millstream.state SET reconciled_at = now() WHERE (pipeline, stream) = (%s, %s)",
        (spec.pipeline, spec.state),
    )


def _columns(made: stage.StagePlan) -> Schema:
    return Schema(tuple(column for column in made.columns if column.name in made.key))


def _prepare(connection: Connection, columns: Schema) -> None:
    listed = ", ".join(f"{quote(column.name)} {column.type}" for column in columns)
    run(connection, f"CREATE TEMPORARY TABLE IF NOT EXISTS millstream_keys ({listed}) ON COMMIT DROP")


def _inexact(made: stage.StagePlan) -> list[Column]:
    return [column for column in made.sent if column.name in made.key and not is_native(column)]


def _typed(made: stage.StagePlan) -> str:
    """Return the keys in the target's types, for FROM."""
    sent = [column for column in made.sent if column.name in made.key]
    values = ", ".join(
        quote(column.name) if is_native(column) else f"{quote(column.name)}::{column.type} AS {quote(column.name)}"
        for column in sent
    )
    return f"(SELECT {values} FROM {NAME}) k"


def _only_values(connection: Connection, made: stage.StagePlan) -> None:
    """Drop noted texts that are no value of the key's type: such a key cannot be in the target."""
    if inexact := _inexact(made):
        refusals.define(connection)
    for column in inexact:
        run(
            connection,
            f"DELETE FROM {NAME} WHERE pg_temp.millstream_refusal({quote(column.name)}, %s) IS NOT NULL",
            (column.type,),
        )
