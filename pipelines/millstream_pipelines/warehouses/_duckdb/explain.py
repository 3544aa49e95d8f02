"""The SQL that a load would run, changing nothing."""

from __future__ import annotations

import duckdb

from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._duckdb import stage
from millstream_pipelines.warehouses._duckdb.tables import SCHEMA, fit, read_table
from millstream_pipelines.warehouses._duckdb.types import stored_type
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.names import quote_table


def explain_load(connection: duckdb.DuckDBPyConnection, spec: LoadSpec, schema: Schema) -> list[str]:
    """Return the statements of a load of `schema`, in order."""
    key = spec.primary_key if spec.disposition in ("merge", "replace") else ()
    sent, statements = fit(connection, spec.target, schema, spec.contract, key)
    found = read_table(connection, spec.target, only=set(sent.names))
    stored = {item.name.lower(): stored_type(item.type) for item in sent} | (found.stored if found else {})
    cursor = spec.cursor_field if spec.cursor_field and sent.get(spec.cursor_field) else None
    plan = stage.StagePlan(spec.target, sent, stored, key, cursor, spec.disposition)
    if spec.disposition == "replace":
        statements.append(f"DELETE FROM {quote_table(spec.target, SCHEMA)}")
    if not key:
        return [*statements, stage.insert_statement(plan)]
    return [*statements, *stage.stage_statements(plan), stage.fill_statement(plan), *stage.merge_statements(plan)]
