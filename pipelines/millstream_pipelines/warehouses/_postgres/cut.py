"""A table that a RetentionPolicy will own is cut into ranges from its first load on: nothing has to be converted."""

from __future__ import annotations

from typing import get_args

from psycopg2.extensions import connection as Connection

from millstream_api.retentionpolicy import TimeAs
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._postgres.connection import one
from millstream_pipelines.warehouses.names import quote

_TYPES = ("timestamptz", "timestamp", "date", "smallint", "integer", "bigint")


def cut_of(connection: Connection, table: str) -> str | None:
    """Return the column that a policy wants a new table to be cut by; None where no policy names the table."""
    if one(connection, "SELECT to_regclass('_millstream.partitioned')")[0] is None:
        return None
    name = table if "." in table else f"public.{table}"
    found = one(connection, "SELECT column_name FROM _millstream.partitioned WHERE table_name = %s", (name,))
    return None if found is None else str(found[0])


def cut_statements(table: str, schema: Schema, primary_key: tuple[str, ...], column: str) -> tuple[str, str]:
    """Return what follows the columns of CREATE TABLE, and the statement that tells of the column's kind.

    Raises ConfigurationError where the stream's columns or its key do not allow the cut.
    """
    found = schema.get(column)
    wish = f"target {table}: a RetentionPolicy cuts it by column '{column}' (partitionBy.column)"
    if found is None:
        raise ConfigurationError(f"{wish}, which the stream does not have; it has: {', '.join(schema.names)}")
    if found.type not in _TYPES:
        raise ConfigurationError(
            f"{wish}, which is of type {found.type}; it takes {', '.join(_TYPES)}: set the type under `columns`"
        )
    if primary_key and column not in primary_key:
        raise ConfigurationError(
            f"{wish}, and a key of a partitioned table contains that column; add '{column}' to the stream's primaryKey "
            f"({', '.join(primary_key)})"
        )
    is_number = found.type.endswith("int") or found.type == "integer"
    kind = "integer" if is_number else found.type
    name = (table if "." in table else f"public.{table}").replace("'", "''")
    told = f"UPDATE _millstream.partitioned SET kind = '{kind}' WHERE table_name = '{name}'"
    if is_number:  # unless the policy has said how they tell time
        told += " AND kind <> ALL ('{" + ",".join(get_args(TimeAs)) + "}')"
    return f" PARTITION BY RANGE ({quote(column)})", told


__all__ = ["cut_of", "cut_statements"]
