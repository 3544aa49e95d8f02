"""Read from PostgreSQL's catalog what a plain table is and has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.plain import (
    ColumnFacts,
    Constraint,
    Grant,
    Incoming,
    IndexFacts,
    PlainTable,
    Policy,
    Statistics,
    TriggerFacts,
    ViewFacts,
)
from millstream_pipelines.warehouses.names import quote_table

_TABLE = """
SELECT pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'), current_setting('server_version_num')::int,
  c.relpersistence::text, c.reloftype <> 0,
  (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' LIMIT 1),
  (SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace), obj_description(c.oid, 'pg_class'),
  coalesce(c.reloptions, '{}'), c.relrowsecurity, c.relforcerowsecurity, c.relreplident::text,
  (SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
   WHERE x.indrelid = c.oid AND x.indisreplident), c.relacl IS NOT NULL
FROM pg_class c WHERE c.oid = %(t)s::regclass
"""
_SEQUENCES = """
pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
  AND d.refobjsubid = a.attnum AND d.deptype = """
_COLUMNS = f"""
SELECT a.attname, a.attnotnull, a.attgenerated <> '', a.attidentity <> '',
  (SELECT format('%%I.%%I', n.nspname, s.relname) FROM {_SEQUENCES} 'i'),
  array_remove(ARRAY[
    CASE WHEN a.attstattarget >= 0 THEN format('SET STATISTICS %%s', a.attstattarget) END,
    (SELECT format('SET (%%s)', string_agg(o, ', ')) FROM unnest(a.attoptions) o WHERE o LIKE 'n_distinct%%'
     HAVING count(*) > 0)], NULL),
  ARRAY(SELECT format('%%I.%%I', n.nspname, s.relname) FROM {_SEQUENCES} 'a' ORDER BY 1)
FROM pg_attribute a WHERE a.attrelid = %(t)s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_CONSTRAINTS = """
SELECT c.conname, c.contype::text,
  left(d.text, length(d.text) - length(d.tail))
  || coalesce((SELECT format(' WITH (%%s)', string_agg(format('%%I = %%L', split_part(o, '=', 1),
    substr(o, strpos(o, '=') + 1)), ', ')) FROM unnest(i.reloptions) o HAVING count(*) > 0), '')
  || coalesce(' USING INDEX TABLESPACE ' || quote_ident(s.spcname), '') || d.tail,
  ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k (number, place)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.place),
  c.convalidated, NOT (c.connoinherit AND c.contype IN ('c', 'n')), obj_description(c.oid, 'pg_constraint'),
  (SELECT format('%%s.%%s', n.nspname, f.relname) FROM pg_class f JOIN pg_namespace n ON n.oid = f.relnamespace
   WHERE f.oid = c.confrelid)
FROM pg_constraint c
CROSS JOIN LATERAL (SELECT pg_get_constraintdef(c.oid) AS text, CASE WHEN c.contype IN ('p', 'u') AND c.condeferrable
  THEN ' DEFERRABLE' || CASE WHEN c.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END ELSE '' END AS tail) d
LEFT JOIN pg_class i ON i.oid = c.conindid AND c.contype IN ('p', 'u')
LEFT JOIN pg_tablespace s ON s.oid = i.reltablespace
WHERE c.conrelid = %(t)s::regclass AND (c.contype IN ('c', 'p', 'u', 'f', 'x')
  OR c.contype = 'n' AND (NOT c.convalidated OR c.connoinherit))
  AND c.conname <> 'millstream_before'
ORDER BY c.contype = 'f', c.conname
"""
_INDEXES = """
SELECT i.relname, pg_get_indexdef(x.indexrelid), x.indisunique, x.indisvalid,
  CASE WHEN x.indexprs IS NOT NULL OR x.indpred IS NOT NULL THEN '{}' ELSE
  ARRAY(SELECT a.attname::text FROM unnest(x.indkey::int2[]) WITH ORDINALITY k (number, place)
        JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.number
        WHERE k.place <= x.indnkeyatts ORDER BY k.place) END,
  obj_description(x.indexrelid, 'pg_class'),
  substr(pg_get_indexdef(x.indexrelid), length(format('CREATE %%sINDEX %%I ON %%s%%s ',
    CASE WHEN x.indisunique THEN 'UNIQUE ' END, i.relname, CASE WHEN i.relkind = 'I' THEN 'ONLY ' END,
    x.indrelid::regclass)) + 1),
  ARRAY(SELECT format('ALTER COLUMN %%s SET STATISTICS %%s', attnum, attstattarget) FROM pg_attribute
    WHERE attrelid = i.oid AND attstattarget >= 0 ORDER BY attnum),
  (SELECT spcname FROM pg_tablespace WHERE oid = i.reltablespace)
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indrelid = %(t)s::regclass
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY 1
"""
_INCOMING = """
SELECT k.conname, format('%%s.%%s', n.nspname, c.relname), pg_get_constraintdef(k.oid), c.relkind = 'p',
  k.conrelid = k.confrelid, pg_has_role(c.relowner, 'USAGE'), k.convalidated,
  obj_description(k.oid, 'pg_constraint')
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.confrelid = %(t)s::regclass AND k.contype = 'f' AND k.conparentid = 0 ORDER BY 2, 1
"""
_VIEWS = """
SELECT DISTINCT format('%%s.%%s', n.nspname, v.relname), pg_get_viewdef(v.oid), coalesce(v.reloptions, '{}'),
  pg_has_role(v.relowner, 'USAGE'), v.relkind::text
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
JOIN pg_class v ON v.oid = r.ev_class JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(t)s::regclass
ORDER BY 1
"""
_TRIGGERS = """
SELECT tgname, pg_get_triggerdef(oid), tgenabled::text,
  tgtype & 1 = 1 AND (tgoldtable IS NOT NULL OR tgnewtable IS NOT NULL), obj_description(oid, 'pg_trigger')
FROM pg_trigger WHERE tgrelid = %(t)s::regclass AND NOT tgisinternal ORDER BY 1
"""
_POLICIES = """
SELECT p.polname, format('AS %%s FOR %%s TO %%s',
    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
      ELSE 'ALL' END,
    (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
     FROM unnest(p.polroles) r))
  || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
  || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', ''),
  obj_description(p.oid, 'pg_policy')
FROM pg_policy p WHERE p.polrelid = %(t)s::regclass ORDER BY 1
"""
_STATISTICS = """
SELECT quote_ident(n.nspname), quote_ident(s.stxname), pg_get_statisticsobjdef(s.oid),
  CASE WHEN s.stxstattarget >= 0 THEN s.stxstattarget END, obj_description(s.oid, 'pg_statistic_ext')
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = %(t)s::regclass ORDER BY 1, 2
"""
_GRANTS = f"""
SELECT nullif(g.grantee, 0)::regrole::text, g.privilege_type, g.is_grantable, g.attname, g.sequence FROM (
  SELECT x.*, NULL::text AS attname, NULL::text AS sequence FROM pg_class c, aclexplode(c.relacl) x
  WHERE c.oid = %(t)s::regclass
  UNION ALL
  SELECT x.*, a.attname, NULL FROM pg_attribute a, aclexplode(a.attacl) x
  WHERE a.attrelid = %(t)s::regclass AND NOT a.attisdropped
  UNION ALL
  SELECT x.*, a.attname, format('%%I.%%I', s.nspname, s.relname)
  FROM pg_attribute a, LATERAL (SELECT s.*, n.nspname FROM {_SEQUENCES} 'i') s, aclexplode(s.relacl) x
  WHERE a.attrelid = %(t)s::regclass AND x.grantee <> s.relowner) g
ORDER BY 5 NULLS FIRST, 4 NULLS FIRST, 1 NULLS FIRST, 2
"""
_NAMES = {
    "default_grantees": "SELECT DISTINCT nullif(x.grantee, 0)::regrole::text FROM pg_default_acl d, "
    "aclexplode(d.defaclacl) x WHERE d.defaclobjtype = 'r' AND x.grantee <> 0 ORDER BY 1",
    "parents": "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = %(t)s::regclass ORDER BY 1",
    "children": "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %(t)s::regclass ORDER BY 1",
    "publications": "SELECT DISTINCT p.pubname::text FROM pg_publication_tables p "
    "WHERE format('%%I.%%I', p.schemaname, p.tablename)::regclass = %(t)s::regclass ORDER BY 1",
    "subscriptions": "SELECT s.subname::text FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid "
    "WHERE r.srrelid = %(t)s::regclass ORDER BY 1",
    "rules": "SELECT rulename::text FROM pg_rewrite WHERE ev_class = %(t)s::regclass ORDER BY 1",
    "labels": "SELECT provider || ': ' || label FROM pg_seclabel WHERE objoid = %(t)s::regclass "
    "AND classoid = 'pg_class'::regclass ORDER BY 1",
    "bound": """
        SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d
        JOIN pg_class c ON c.oid = %(t)s::regclass
        LEFT JOIN pg_type row_type ON row_type.oid = c.reltype
        WHERE (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.classid <> ALL (ARRAY[
            'pg_class'::regclass, 'pg_type'::regclass, 'pg_publication_rel'::regclass]::oid[])
          AND NOT EXISTS (SELECT FROM pg_constraint k WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
            AND c.oid IN (k.conrelid, k.confrelid))
          AND NOT EXISTS (SELECT FROM pg_attrdef k WHERE d.classid = 'pg_attrdef'::regclass AND k.oid = d.objid
            AND k.adrelid = c.oid)
          AND NOT EXISTS (SELECT FROM pg_trigger k WHERE d.classid = 'pg_trigger'::regclass AND k.oid = d.objid
            AND (k.tgrelid = c.oid OR k.tgisinternal))
          AND NOT EXISTS (SELECT FROM pg_policy k WHERE d.classid = 'pg_policy'::regclass AND k.oid = d.objid
            AND k.polrelid = c.oid)
          AND NOT EXISTS (SELECT FROM pg_statistic_ext k WHERE d.classid = 'pg_statistic_ext'::regclass
            AND k.oid = d.objid AND k.stxrelid = c.oid)
          AND NOT EXISTS (SELECT FROM pg_rewrite k WHERE d.classid = 'pg_rewrite'::regclass AND k.oid = d.objid
            AND (k.rulename = '_RETURN' OR k.ev_class = c.oid)))
        OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (row_type.oid, row_type.typarray) AND d.deptype = 'n')
        ORDER BY 1""",
}  # fmt: skip


@contextmanager
def bare_path(ddl: Ddl) -> Iterator[None]:
    """Run a block with an empty search path: definitions that are read in it have all their names in full."""
    before = ddl.rows("SELECT current_setting('search_path')")[0][0]
    ddl.rows("SELECT set_config('search_path', '', false)")
    try:
        yield
    finally:
        if not ddl.connection.closed:
            ddl.rows("SELECT set_config('search_path', %s, false)", (before,))


def _reading(ddl: Ddl, table: str) -> Callable[[str], list[tuple[Any, ...]]]:
    t = {"t": quote_table(table)}
    return lambda sql: [tuple(tuple(v) if isinstance(v, list) else v for v in row) for row in ddl.rows(sql, t)]


_SHAPE: dict[str, tuple[Any, str]] = {
    "columns": (ColumnFacts, _COLUMNS), "constraints": (Constraint, _CONSTRAINTS), "indexes": (IndexFacts, _INDEXES),
    "incoming": (Incoming, _INCOMING),
}  # fmt: skip
_MORE: dict[str, tuple[Any, str]] = {
    "triggers": (TriggerFacts, _TRIGGERS), "policies": (Policy, _POLICIES),
    "grants": (Grant, _GRANTS), "statistics": (Statistics, _STATISTICS),
}  # fmt: skip


def read_shape(ddl: Ddl, table: str) -> PlainTable:
    """Return columns, constraints, indexes and keys to the table alone. The search path must be empty (`bare_path`)."""
    read = _reading(ddl, table)
    found: dict[str, Any] = {name: tuple(kind(*row) for row in read(sql)) for name, (kind, sql) in _SHAPE.items()}
    return PlainTable(table, **found)


def read_plain(ddl: Ddl, table: str) -> PlainTable:
    """Return what the table is and has. The search path must be empty (`bare_path`)."""
    read = _reading(ddl, table)
    names = ("owner", "owned", "version", "persistence", "typed", "extension", "tablespace", "comment", "storage",
             "row_security", "forced_security", "replica_identity", "identity_index", "has_own_grants")  # fmt: skip
    found: dict[str, Any] = dict(zip(names, read(_TABLE)[0], strict=True))
    views = read(_VIEWS)
    for name, (kind, sql) in (_SHAPE | _MORE).items():
        found[name] = tuple(kind(*row) for row in read(sql))
    found["views"] = tuple(ViewFacts(*row[:4]) for row in views if row[4] == "v")
    found["matviews"] = tuple(row[0] for row in views if row[4] == "m")
    for name, sql in _NAMES.items():
        found[name] = tuple(row[0] for row in read(sql))
    return PlainTable(table, **found)


def subscriptions(ddl: Ddl, table: str) -> list[str]:
    """Return the names of the subscriptions that bring rows into this very table."""
    return [row[0] for row in _reading(ddl, table)(_NAMES["subscriptions"])]


__all__ = ["bare_path", "read_plain", "read_shape", "subscriptions"]
