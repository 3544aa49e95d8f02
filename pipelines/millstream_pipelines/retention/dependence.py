"""What in the database itself stands in the way of a step, by the name that its owner knows."""

from __future__ import annotations

import psycopg2

from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.retention.ddl import Ddl

_REFERRED, _DEPENDED = "23503", "2BP01"
_ORIGIN = """
WITH RECURSIVE up AS (
  SELECT k.conname, k.conparentid, k.conrelid FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE k.conname = %s AND c.relname = %s AND n.nspname = %s AND k.contype = 'f'
  UNION ALL SELECT k.conname, k.conparentid, k.conrelid FROM pg_constraint k JOIN up ON up.conparentid = k.oid)
SELECT conname, conrelid::regclass::text FROM up WHERE conparentid = 0 LIMIT 1
"""


def referring(ddl: Ddl, error: MillstreamError) -> str:
    """Return the foreign key that refused, as `constraint a of table b`; empty where it was something else.

    PostgreSQL names the part of it that it made for a partition; its owner knows the whole.
    """
    cause = error.__cause__
    if not isinstance(cause, psycopg2.Error) or cause.pgcode != _REFERRED:
        return ""
    diag = cause.diag
    found = ddl.rows(_ORIGIN, (diag.constraint_name, diag.table_name, diag.schema_name))
    name, table = found[0] if found else (diag.constraint_name, f"{diag.schema_name}.{diag.table_name}")
    return f"constraint {name} of table {table}"


def still_refers(key: str) -> str:
    """Return what is said of a foreign key, `constraint a of table b`, whose rows refer to a range."""
    return f"{key}, which still refers to its rows"


def depending(error: MillstreamError) -> str:
    """Return what depends on a table that was to be dropped, as `view v depends on …`; empty where nothing does."""
    cause = error.__cause__
    if not isinstance(cause, psycopg2.Error) or cause.pgcode != _DEPENDED:
        return ""
    return "; ".join((cause.diag.message_detail or str(cause.diag.message_primary)).splitlines()[:5])


def standing(ddl: Ddl, error: MillstreamError) -> str:
    """Return which object of the database refused a step; empty where it failed for another reason."""
    if by := referring(ddl, error):
        return still_refers(by)
    return depending(error)


__all__ = ["depending", "referring", "standing", "still_refers"]
