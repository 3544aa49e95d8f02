"""Rows of the stage that only the server's own parser can refuse: enum labels, ranges, domains, array elements.

A merge casts a column as a whole, so one bad value would stop the good rows. When it fails, each value is cast by
itself in a block that catches, and the rows that fail leave the stage for quarantine.
"""

from __future__ import annotations

from psycopg2.extensions import connection as Connection

from millstream_pipelines.errors import RowRefusedError
from millstream_pipelines.schema import Column
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.quarantine import into
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.names import quote

# `kind` comes from the catalog or from a declared type's checked spelling, never from data.
_FUNCTION = """
CREATE OR REPLACE FUNCTION pg_temp.millstream_refusal(value text, kind text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF value IS NOT NULL THEN EXECUTE format('SELECT $1::%s', kind) USING value; END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception OR check_violation OR not_null_violation THEN
    RETURN SQLERRM;
END $$
"""
_OURS = "ARRAY['_millstream_order', '_millstream_deleted', '_millstream_row', '_millstream_why', '_millstream_rule']"


def define(connection: Connection) -> None:
    """Make the function `pg_temp.millstream_refusal(value, type)`: why a text is no value of a type, NULL if it is."""
    run(connection, _FUNCTION)


def set_aside(connection: Connection, stage: str, columns: list[Column], spec: LoadSpec, seq: int) -> int:
    """Take the rows of `stage` whose text is no value of its column's type out of it; return how many there were.

    `columns`: those the stage holds as text, with the target's types. The rows go to quarantine, or nowhere when
    contract.rows is `discard`; RowRefusedError when it is `freeze`.
    """
    define(connection)
    run(connection, f"ALTER TABLE {stage} ADD COLUMN _millstream_why text, ADD COLUMN _millstream_rule text")
    for column in columns:
        name = quote(column.name).replace("%", "%%")
        run(
            connection,
            f"UPDATE {stage} s SET _millstream_why = found.why, _millstream_rule = %s FROM ("
            f"SELECT ctid AS row_id, pg_temp.millstream_refusal({name}, %s) AS why FROM {stage} "
            "WHERE _millstream_why IS NULL OFFSET 0) found "
            "WHERE s.ctid = found.row_id AND found.why IS NOT NULL",
            (f"cast({column.name})", column.type),
        )
    if spec.contract.rows == "freeze":
        _refuse_all(connection, stage, spec)
    if spec.contract.rows == "quarantine":
        run(
            connection,
            f"INSERT INTO {into(spec)} SELECT %s, %s, %s, %s, %s, _millstream_rule, left(_millstream_why, 2000), "
            f"to_jsonb(s) - {_OURS}, 'open', 'shaped', '[]'::jsonb FROM {stage} s "
            "WHERE _millstream_why IS NOT NULL ORDER BY _millstream_order",
            (spec.pipeline, spec.stream, spec.target, spec.run, seq),
        )
    refused = run(connection, f"DELETE FROM {stage} WHERE _millstream_why IS NOT NULL")
    run(connection, f"ALTER TABLE {stage} DROP COLUMN _millstream_why, DROP COLUMN _millstream_rule")
    return refused


def _refuse_all(connection: Connection, stage: str, spec: LoadSpec) -> None:
    row = one(
        connection,
        f"SELECT _millstream_rule, _millstream_why FROM {stage} WHERE _millstream_why IS NOT NULL "
        "ORDER BY _millstream_order LIMIT 1",
    )
    if row is not None:
        raise RowRefusedError(spec.stream, row[0], row[1])
