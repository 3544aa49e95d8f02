"""Whether what left a table still fits it: people alter tables, and an archive is loaded by the names of its columns.

A value that is read as another type may be another value, and nothing would tell: the content hash is over what is in
the archive. So types are compared before anything is loaded. Messages name columns and types, never a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg2

from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError
from millstream_pipelines.retention.columns import ArchivedColumn
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.export import columns_of
from millstream_pipelines.retention.manifest import Manifest
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.warehouses.names import quote_table

_FILLED = """
SELECT attname, attnotnull, atthasdef FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""
_REFUSED = "23"  # the class of rows that break a constraint; the server's detail holds the row
_ABSENT = "absent"


@dataclass(frozen=True)
class _Filled:
    """Whether a column must have a value, and whether it has one of its own."""

    must: bool = False
    default: bool = False


def refuse_archive(ddl: Ddl, record: Retired, manifest: Manifest) -> None:
    """Raise ConfigurationError where the rows of an archive would not be in its table what they were."""
    now, filled = columns_of(ddl.connection, manifest.table), _filled(ddl, manifest.table)
    found = [
        text
        for name, text in _differences(manifest.columns, now)
        if name in {item.name for item in manifest.columns} or (filled[name].must and not filled[name].default)
    ]
    for item in manifest.columns:
        nulls = manifest.content.rows - manifest.content.columns[item.name].values
        if nulls and filled.get(item.name, _Filled()).must:
            found.append(f"column '{item.name}': {nulls} rows without a value / NOT NULL")
    if found:
        raise ConfigurationError(
            f"{ddl.owner}: the archive of {record.partition} does not fit {manifest.table} as it is now: "
            f"{'; '.join(found)} (archive / table). Nothing was changed: restore with `into` a schema, and insert the "
            "rows from there"
        )


def refuse_table(ddl: Ddl, record: Retired) -> None:
    """Raise ConfigurationError where a detached table could not be attached again."""
    then, now = (columns_of(ddl.connection, table) for table in (record.partition, record.table))
    found = [text for _, text in _differences(then, now)]
    if not found:
        mine, filled = _filled(ddl, record.partition), _filled(ddl, record.table)
        found = [f"column '{name}': may be NULL / NOT NULL" for name in mine if filled[name].must > mine[name].must]
    if found:
        raise ConfigurationError(
            f"{ddl.owner}: {record.partition} does not fit {record.table} as it is now: {'; '.join(found)} (detached / "
            f"table). Nothing was changed: alter {quote_table(record.partition)} alike, or restore with `into` a "
            "schema once it is archived"
        )


def without_rows(owner: str, doing: str, error: BaseException) -> MillstreamError | None:
    """Return what is said of rows that a constraint refuses; None where it was something else."""
    cause = error if isinstance(error, psycopg2.Error) else error.__cause__
    if not isinstance(cause, psycopg2.Error) or not (cause.pgcode or "").startswith(_REFUSED):
        return None
    return DataError(
        f"{owner}: {doing}: {cause.diag.message_primary}: the table has changed since they left it. Correct what "
        "refuses them, or restore with `into` a schema",
        reason="RefusedByWarehouse",
    )


def _differences(then: Sequence[ArchivedColumn], now: Sequence[ArchivedColumn]) -> Iterator[tuple[str, str]]:
    """Yield column and what differs, this side first."""
    mine, theirs = ({item.name: _spoken(item) for item in columns} for columns in (then, now))
    for name in dict.fromkeys([*mine, *theirs]):
        if mine.get(name) != theirs.get(name):
            yield name, f"column '{name}': {mine.get(name, _ABSENT)} / {theirs.get(name, _ABSENT)}"


def _spoken(column: ArchivedColumn) -> str:
    return f"{column.type}{', generated' if column.generated else ''}"


def _filled(ddl: Ddl, table: str) -> Mapping[str, _Filled]:
    return {name: _Filled(*how) for name, *how in ddl.rows(_FILLED, (quote_table(table),))}


__all__ = ["refuse_archive", "refuse_table", "without_rows"]
