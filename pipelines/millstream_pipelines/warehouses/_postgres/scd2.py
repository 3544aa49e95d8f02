"""History of keys in PostgreSQL: the target's two further columns, the constraints that hold it, the merge."""

from __future__ import annotations

from dataclasses import replace

from psycopg2.extensions import connection as Connection

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.history_guard import FORBID_OVERLAP
from millstream_pipelines.warehouses._postgres.stage import NAME, ORDER, StagePlan
from millstream_pipelines.warehouses._postgres.tables import comparable, fit, read_shape, unique_index
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.history import CHANGES, TIMELINE, History
from millstream_pipelines.warehouses.names import literal, quote, quote_table
from millstream_pipelines.warehouses.validity import require_times, with_validity

_CHECK = "millstream_validity"
_GUARD = "millstream_no_overlap"
KEY_BITS = 32
"""So many lower bits of a staged row's number tell its place among its key's, once `renumbering` has run."""


def fit_history(connection: Connection, spec: LoadSpec, schema: Schema) -> tuple[Schema, list[str]]:
    """Decide how `schema` goes into a target that keeps history: the columns to send, and the DDL it needs.

    Raises ConfigurationError when the target cannot hold validity, DataError when the contract forbids a change.
    """
    require_times(spec, schema)
    shape = read_shape(connection, spec.target)
    wanted = with_validity(spec, schema, shape.schema if shape else None)
    if (
        shape is not None
        and one(
            connection, "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)", (quote_table(spec.target),)
        )[0]
    ):
        raise ConfigurationError(
            f"target {spec.target} is partitioned, and nothing over partitions can forbid two versions of a key at "
            "one time; writeDisposition 'scd2' needs a plain table"
        )
    key = (*spec.primary_key, spec.scd2.valid_from)
    sent, ddl = fit(connection, spec.target, wanted, spec.contract, key)
    kept = tuple(column for column in sent if column.name not in (spec.scd2.valid_from, spec.scd2.valid_to))
    if shape is not None:
        ddl = ddl + unique_index(connection, spec.target, key)
    return replace(sent, columns=kept, primary_key=spec.primary_key), ddl + _constraints(connection, spec)


def history(made: StagePlan, spec: LoadSpec) -> History:
    """Return the SQL of this merge."""
    return History(
        target=quote_table(spec.target),
        rows=made.rows,
        columns=tuple(made.sent.names),
        key=spec.primary_key,
        effective_at=spec.scd2.effective_at,
        valid_from=spec.scd2.valid_from,
        valid_to=spec.scd2.valid_to,
        newest=made.newest,
        whole=spec.mode == "full",
        overriding="OVERRIDING SYSTEM VALUE ",
        comparable={column.name: comparable(column) for column in made.sent},
    )


def merge_history(connection: Connection, made: StagePlan, spec: LoadSpec) -> tuple[int, int, int]:
    """Bring the stage into the target; return how many changes must have an effect, had one, and ended a version.

    One writer at a time: two that cut the same version from what they saw before could undo each other's work. The
    lock lets readers pass and ends with the transaction.
    """
    sql = history(made, spec)
    run(connection, f"LOCK TABLE {sql.target} IN SHARE ROW EXCLUSIVE MODE")
    run(connection, sql.changes())
    run(connection, f"ANALYZE {CHANGES}")  # else a thousand changes are joined by reading the whole target
    for statement in sql.settled():
        run(connection, statement)
    run(connection, sql.timeline())
    run(connection, f"ANALYZE {TIMELINE}")
    due, ended = one(connection, sql.due())
    run(connection, sql.overwritten())
    run(connection, sql.cut())
    inserted = run(connection, sql.inserted())
    for statement in sql.clearing():
        run(connection, statement)
    return int(due), inserted + int(ended), int(ended)


def thinning_history(made: StagePlan, spec: LoadSpec) -> list[str]:
    """Return the SQL that leaves one row per key and moment in the stage; the last statement counts the others."""
    of_key = ", ".join(_moment(made, spec))
    winners = f"SELECT DISTINCT ON ({of_key}) {ORDER} FROM {made.rows} ORDER BY {of_key}, {made.newest}"
    return [
        f"CREATE INDEX ON {NAME} ({ORDER})",
        f"DELETE FROM {NAME} t WHERE NOT EXISTS (SELECT FROM ({winners}) w WHERE w.{ORDER} = t.{ORDER})",
    ]


def renumbering(made: StagePlan, spec: LoadSpec) -> list[str]:
    """Return the SQL that numbers staged rows by key and, in the lower KEY_BITS, by the moment of the change."""
    *keys, moment = (*_moment(made, spec), ORDER) if spec.scd2.effective_at is None else _moment(made, spec)
    by = ", ".join(keys)
    number = (
        f"(dense_rank() OVER (ORDER BY {by}) << {KEY_BITS}) + row_number() OVER (PARTITION BY {by} ORDER BY {moment})"
    )
    numbers = f"SELECT {ORDER} AS known, {number} AS number FROM {made.rows}"
    return [
        f"ALTER TABLE {NAME} ALTER COLUMN {ORDER} DROP IDENTITY",
        f"UPDATE {NAME} t SET {ORDER} = n.number FROM ({numbers}) n WHERE n.known = t.{ORDER}",
    ]


def _moment(made: StagePlan, spec: LoadSpec) -> tuple[str, ...]:
    at = spec.scd2.effective_at
    return (*(quote(name) for name in made.key), *([] if at is None else [f"CAST({quote(at)} AS timestamptz)"]))


def _constraints(connection: Connection, spec: LoadSpec) -> list[str]:
    """Return the DDL for what keeps a key's versions apart; none where it is there."""
    begin, end, table = quote(spec.scd2.valid_from), quote(spec.scd2.valid_to), quote_table(spec.target)
    checked, guarded = one(
        connection,
        "SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass(%s) AND conname = %s), "
        "EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = %s)",
        (table, _CHECK, table, f"{_GUARD}_update"),
    )
    names = ", ".join(literal(name) for name in (spec.scd2.valid_from, spec.scd2.valid_to, *spec.primary_key))
    statements = [] if checked else [f"ALTER TABLE {table} ADD CONSTRAINT {_CHECK} CHECK ({begin} < {end})"]
    for event in () if guarded else ("insert", "update"):
        statements.append(
            f"CREATE TRIGGER {_GUARD}_{event} AFTER {event.upper()} ON {table} REFERENCING NEW TABLE AS changed "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {FORBID_OVERLAP}({names})"
        )
    return statements
