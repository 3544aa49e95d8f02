"""Who else manages a table: an extension that makes and drops its partitions. A table has one manager."""

from __future__ import annotations

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.warehouses.names import quote

TIMESCALE = "timescale"

_PARTMAN = """
SELECT n.nspname, has_table_privilege(c.oid, 'SELECT'), current_user,
  EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_partman')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_depend d ON d.objid = c.oid
  AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = d.refobjid
WHERE c.relname = 'part_config' AND (e.extname = 'pg_partman' OR n.nspname = 'partman')
ORDER BY e.extname IS NULL LIMIT 1
"""
_HYPERTABLE = "SELECT 1 FROM _timescaledb_catalog.hypertable WHERE schema_name = %s AND table_name = %s"


def owner_of(ddl: Ddl, table: str) -> str:
    """Return who manages the table already and what to do about it; an empty text for nobody."""
    if ddl.rows("SELECT to_regclass('_timescaledb_catalog.hypertable')")[0][0] is not None:
        schema, _, name = table.rpartition(".")
        if ddl.rows(_HYPERTABLE, (schema or "public", name)):
            return TIMESCALE
    return _partman(ddl, table)


def _partman(ddl: Ddl, table: str) -> str:
    found = ddl.rows(_PARTMAN)
    if not found:
        return ""
    schema, may_read, role, is_there = found[0]
    config = f"{schema}.part_config"
    if not may_read:
        return (
            f"nobody can tell whether pg_partman manages it: role {role} may not read {config}; GRANT USAGE ON SCHEMA "
            f"{schema} and SELECT ON {config} to it"
        )
    row = ddl.rows(
        "SELECT automatic_maintenance, EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind = 'p' AND n.nspname || '.' || c.relname = parent_table) "
        f"FROM {quote(schema)}.part_config WHERE parent_table = %s",
        (table,),
    )
    if not row:
        return ""
    automatic, is_cut = row[0]
    cure = f"DELETE FROM {config} WHERE parent_table = '{table}' (its partitions stay)"
    if not is_there or not is_cut or automatic != "on":
        left = (
            "the extension is gone"
            if not is_there
            else "its maintenance is off"
            if is_cut
            else "the table is not partitioned"
        )
        return f"pg_partman still has a row for it, though {left}; if that is left over: {cure}"
    return f"pg_partman manages it; a table has one manager: {cure}, or leave it out of the policy"


__all__ = ["TIMESCALE", "owner_of"]
