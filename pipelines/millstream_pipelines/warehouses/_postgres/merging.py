"""The stage into the target, as the write disposition says."""

from __future__ import annotations

from dataclasses import replace

from psycopg2.extensions import connection as Connection

from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._postgres import stage
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.scd2 import fit_history, history, merge_history
from millstream_pipelines.warehouses._postgres.tables import fit_keyed
from millstream_pipelines.warehouses.base import Counts, LoadSpec


def fitted(connection: Connection, spec: LoadSpec, schema: Schema) -> tuple[Schema, list[str]]:
    """Decide how `schema` goes into the target of `spec`: the columns to send, and the DDL it needs."""
    if spec.disposition == "scd2":
        return fit_history(connection, spec, schema)
    return fit_keyed(connection, spec, schema, spec.merge_key)


def merge(connection: Connection, made: stage.StagePlan, spec: LoadSpec, staged_rows: int) -> Counts:
    """Bring the stage into the target; return what was loaded, what was a duplicate, and what was taken out.

    Only a repeated key, or with history a change that changes nothing, is a duplicate; what else is missing (a trigger
    dropped it) is in neither count and shows as a gap.
    """
    if spec.disposition == "scd2":
        due, loaded, ended = merge_history(connection, made, spec)
        return Counts(loaded=loaded, duplicate=staged_rows - due, deleted=ended)
    if made.key:  # most often each comes once, and whole rows need not be sorted to find that out
        made = replace(made, unique=not one(connection, stage.repeats_query(made))[0])
    loaded, deleted = run(connection, stage.merge_statement(made, spec.target, spec.disposition)), 0
    if made.deletes:
        marked, deleted = one(connection, stage.delete_statement(made, spec.target))
        loaded += int(marked)
    keys = staged_rows
    if loaded != staged_rows and made.key:
        keys = int(one(connection, stage.key_count(made, spec.target))[0])
    return Counts(loaded=loaded, duplicate=staged_rows - keys, deleted=int(deleted))


def merge_statements(made: stage.StagePlan, spec: LoadSpec) -> list[str]:
    """Return what `merge` runs, for people."""
    if spec.disposition == "scd2":
        return history(made, spec).statements()
    statements = [stage.merge_statement(made, spec.target, spec.disposition)]
    return [*statements, stage.delete_statement(made, spec.target)] if made.deletes else statements
