"""What stands in the way of turning or splitting a table beside itself: names, rights, the column's type, sessions."""

from __future__ import annotations

import re
from typing import Any

from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention.conversion_sql import named_before
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.obstacles import Range, obstacles, upper_bound
from millstream_pipelines.retention.plain import PlainTable
from millstream_pipelines.retention.spans import Grid, Value, spelled
from millstream_pipelines.warehouses.names import quote, quote_table

_RENAMED = """
SELECT n.nspname, c.relname, CASE WHEN c.oid = %(t)s::regclass THEN 'table' ELSE 'relation' END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(t)s::regclass OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = %(t)s::regclass)
  OR c.relkind = 'S' AND c.oid IN (SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass
    AND refclassid = 'pg_class'::regclass AND refobjid = %(t)s::regclass AND deptype = 'i')
UNION ALL
SELECT n.nspname, s.stxname, 'statistics' FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
WHERE s.stxrelid = %(t)s::regclass ORDER BY 1, 2
"""
_TAKEN = """
SELECT w.name, w.wanted FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) w (schema, name, kind, wanted)
JOIN pg_namespace n ON n.nspname = w.schema
WHERE CASE WHEN w.kind = 'statistics' THEN
    EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxnamespace = n.oid AND s.stxname = w.wanted)
  ELSE EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = w.wanted)
    OR w.kind = 'table' AND EXISTS (SELECT FROM pg_type t WHERE t.typnamespace = n.oid AND t.typname = w.wanted
      AND t.typtype <> 'b') END
"""
_MADE = """
SELECT p.spelled FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY p (name, spelled, place)
WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = to_regclass(p.name)
    AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent = to_regclass(%s)))
  OR EXISTS (SELECT FROM pg_type t WHERE t.oid = to_regtype(p.name) AND t.typrelid = 0)
ORDER BY p.place
"""
_RIGHTS = """
SELECT current_user, n.nspname, has_schema_privilege(n.oid, 'CREATE'),
  c.relowner = u.oid OR u.rolsuper OR has_schema_privilege(c.relowner, n.oid, 'CREATE'),
  c.relowner = u.oid OR u.rolsuper OR pg_has_role(c.relowner,
    CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_roles u
WHERE c.oid = %s::regclass AND u.rolname = current_user
"""
_SPACES = """
SELECT DISTINCT current_user, s.spcname FROM pg_class c JOIN pg_tablespace s ON s.oid = c.reltablespace
WHERE (c.oid = %(t)s::regclass OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = %(t)s::regclass))
  AND NOT has_tablespace_privilege(s.oid, 'CREATE') ORDER BY 2
"""
_TYPE = "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s"
_MOST = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}


def standing(ddl: Ddl, table: PlainTable, by: PartitionBy, grid: Grid, now: Value, held: Range) -> list[str]:
    """Return all that stands in the way of turning the table, each with what to do about it. Only reads."""
    found = obstacles(table, by, grid, now, held)
    found += _names(ddl, table)
    if table.owned:
        found += _rights(ddl, table)
    if table.column(by.column) is not None:
        found += _type(ddl, table, by, grid, now, held)
    return found + _views(table)


def refuse_taken(ddl: Ddl, table: str, copy: str, names: list[str]) -> None:
    """Raise ConfigurationError where something else has the name of a partition that the table's copy is to have."""
    found = [row[0] for row in ddl.rows(_MADE, ([quote_table(name) for name in names], names, quote_table(copy)))]
    if found:
        raise ConfigurationError(
            f"{ddl.owner}: {table} is not split yet: its partitions are going to have names that are taken "
            f"({', '.join(found)}); rename or drop what has them. Nothing was changed; the next run goes on"
        )


def _names(ddl: Ddl, table: PlainTable) -> list[str]:
    renamed = ddl.rows(_RENAMED, {"t": quote_table(table.name)})
    lists: list[list[Any]] = [[row[place] for row in renamed] for place in range(3)]
    taken = ddl.rows(_TAKEN, (*lists, [named_before(name) for name in lists[1]]))
    return [
        f"the name {wanted}, which {name} is going to have, is taken in its schema; rename or drop what has it"
        for name, wanted in taken
    ]


def _rights(ddl: Ddl, table: PlainTable) -> list[str]:
    user, schema, may_make, may_own, may_give = ddl.rows(_RIGHTS, (quote_table(table.name),))[0]
    grant = f"GRANT CREATE ON SCHEMA {quote(schema)} TO"
    found = []
    if not may_make:
        found.append(f"role {user} may not make tables in schema {schema}; {grant} {quote(user)}")
    if not may_own:
        owner = f"role {table.owner}, its owner"
        found.append(f"{owner}, may own no new table in schema {schema}; {grant} {quote(table.owner)}")
    if not may_give:
        give = f"GRANT {quote(table.owner)} TO {quote(user)} WITH SET TRUE"
        found.append(
            f"role {user} may not give tables away to {table.owner}, its owner; {give}, or log in as that role"
        )
    spaces = ddl.rows(_SPACES, {"t": quote_table(table.name)})
    return found + [
        f"role {user} may not use tablespace {space}; GRANT CREATE ON TABLESPACE {quote(space)} TO {quote(user)}"
        for user, space in spaces
    ]


def _type(ddl: Ddl, table: PlainTable, by: PartitionBy, grid: Grid, now: Value, held: Range) -> list[str]:
    """Return whether a bound of the partitions that are made at once is no value of the column."""
    kind = ddl.rows(_TYPE, (quote_table(table.name), by.column))[0][0]
    if kind not in _MOST:
        return []
    try:
        last = spelled(grid.next(upper_bound(grid, now, held, by.premake), by.premake), grid.kind)
    except (ValueError, OverflowError):  # a value so far ahead has an obstacle of its own
        return []
    if int(last) <= _MOST[kind]:
        return []
    do = "choose a shorter partitionBy.interval or a smaller premake"
    do = do if kind == "bigint" else f"make the column bigint, or {do}"
    return [f"partitions that are made ahead end at {last}, and '{by.column}' is {kind}, up to {_MOST[kind]}; {do}"]


def _views(table: PlainTable) -> list[str]:
    only = re.compile(rf"\bONLY {'[.]'.join(_either(part) for part in table.name.split('.'))}(?![\w$])")
    found = []
    for view in table.views:
        if view.name.startswith("pg_temp_"):
            do = "drop it there, or end that session"
            found.append(f"temporary view {view.name} can be made anew by its own session alone; {do}")
        elif only.search(view.definition):
            found.append(
                f"view {view.name} reads FROM ONLY it, where no row would be any more; make it anew without ONLY"
            )
    return found


def _either(name: str) -> str:
    """Return a pattern for a name as PostgreSQL prints it, with quotes or without."""
    return f"(?:{re.escape(quote(name))}|{re.escape(name)})"


__all__ = ["refuse_taken", "standing"]
