"""`_millstream.tags`: what the streams say of their targets, for whoever chooses tables by it."""

from __future__ import annotations

from psycopg2.extensions import connection as Connection

from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._postgres.connection import one
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.names import literal


def tagged(connection: Connection, spec: LoadSpec, fitted: tuple[Schema, list[str]]) -> tuple[Schema, list[str]]:
    """Add to what a load's target needs the statements that bring its tags up to date; none where they are."""
    sent, statements = fitted
    if spec.shard is not None and spec.shard.index is not None:  # a slice loads a table of its own
        return fitted
    table = spec.target if "." in spec.target else f"public.{spec.target}"
    have, stray = one(
        connection,
        "SELECT coalesce(array_agg(tag) FILTER (WHERE table_name = %s), '{}'), "
        "coalesce(bool_or(table_name <> %s), false) FROM _millstream.tags WHERE pipeline = %s AND stream = %s",
        (table, table, spec.pipeline, spec.stream),
    )
    if set(have) == set(spec.tags) and not stray:
        return fitted
    of = f"{literal(spec.pipeline)}, {literal(spec.stream)}"
    rows = ", ".join(f"({of}, {literal(table)}, {literal(tag)})" for tag in sorted(set(spec.tags)))
    insert = [f"INSERT INTO _millstream.tags (pipeline, stream, table_name, tag) VALUES {rows}"] if rows else []
    return sent, [*statements, f"DELETE FROM _millstream.tags WHERE (pipeline, stream) = ({of})", *insert]


__all__ = ["tagged"]
