"""Reasons why a cursor cannot be read in order: found before the read, and refused with the cure."""

from __future__ import annotations

from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.sources._postgres.catalog import Relation
from millstream_pipelines.sources._postgres.connection import Control
from millstream_pipelines.sources._postgres.cursor import Cursor

_SEQUENCE = """
SELECT s.seqrelid::regclass::text, s.seqcache, s.seqincrement, s.seqcycle
FROM pg_catalog.pg_sequence s WHERE s.seqrelid IN (
  SELECT d.objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a
    ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    AND d.refobjid = %(oid)s AND a.attname = %(column)s
  UNION
  SELECT d.refobjid FROM pg_catalog.pg_attrdef f
  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
    AND d.refclassid = 'pg_class'::regclass
  WHERE f.adrelid = %(oid)s AND a.attname = %(column)s)
"""
_INFINITE = {"timestamptz": ("infinity", "-infinity"), "timestamp": ("infinity", "-infinity")}
_INFINITE["date"] = _INFINITE["timestamp"]


def require_order(control: Control, relation: Relation, cursor: Cursor) -> None:
    """Raise ConfigurationError where larger values can become visible before smaller ones, unseen by us."""
    reason = _disorder(control, relation, cursor)
    if reason is None:
        return
    timed = cursor.kind not in ("number", "text")
    cure = "set cursor.lag and writeDisposition merge" if timed else "use a timestamp cursor with lag and merge"
    raise ConfigurationError(
        f"{control.owner}: stream '{relation.name}': cursor '{cursor.column}' would miss rows: {reason}; {cure}, use "
        "mode full, or accept it with trustCursorOrder: true"
    )


def _disorder(control: Control, relation: Relation, cursor: Cursor) -> str | None:
    if relation.kind == "materialized view":
        return "a materialized view can take in smaller values at its next refresh"
    if relation.kind == "foreign table":
        return "the transactions that write a foreign table cannot be seen from here"
    if control.rows("SELECT pg_is_in_recovery()")[0][0]:
        return "this server is a replica, and its primary's transactions cannot be seen from here; read the primary"
    if relation.oid is None:
        return None
    if control.rows("SELECT 1 FROM pg_catalog.pg_subscription_rel WHERE srrelid = %s", (relation.oid,)):
        return "a subscription writes this table, in the order of its publisher's commits"
    for name, cache, increment, cycles in control.rows(_SEQUENCE, {"oid": relation.oid, "column": cursor.column}):
        if cache > 1:
            return (
                f"sequence {name} hands out {cache} values at a time to each session (CACHE {cache}), to be used "
                f"at any later time; ALTER SEQUENCE {name} CACHE 1"
            )
        if increment < 0 or cycles:
            return f"sequence {name} does not only grow"
    return None


def require_values(control: Control, relation: Relation, cursor: Cursor) -> None:
    """Raise DataError when rows have no place in the cursor's order: they would never be read, without a word."""
    if cursor.nullable:
        _refuse(control, relation, cursor, f"{cursor.sql} IS NULL", "NULL")
    for word in _INFINITE.get(cursor.kind, ()):
        _refuse(control, relation, cursor, f"{cursor.sql} = {cursor.value(word)}", word)
    if cursor.type.startswith("numeric"):
        _refuse(control, relation, cursor, f"{cursor.sql} = 'NaN'", "NaN")
        if (
            cursor.type == "numeric"
            and int(control.rows("SELECT current_setting('server_version_num')")[0][0]) >= 140000
        ):
            _refuse(control, relation, cursor, f"{cursor.sql} IN ('Infinity', '-Infinity')", "infinite")


def _refuse(control: Control, relation: Relation, cursor: Cursor, condition: str, what: str) -> None:
    about = relation.name
    if not control.rows(f"SELECT EXISTS (SELECT FROM {relation.origin} WHERE {condition})", about=about)[0][0]:
        return
    (count,) = control.rows(f"SELECT count(*) FROM {relation.origin} WHERE {condition}", about=about)[0]
    raise DataError(
        f"{control.owner}: stream '{about}': {count} rows have {what} in cursor '{cursor.column}', so an incremental "
        f"read would never meet them; fill the column (UPDATE … WHERE {condition}; then SET NOT NULL), choose "
        "another cursor, leave them out with a query as stream, or use mode full",
        reason="CursorWithoutValue",
    )


__all__ = ["require_order", "require_values"]
