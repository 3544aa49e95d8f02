"""A new partition looks like the newest there is: where and how it is stored, who owns and may read it, what guards it.

LIKE carries what the table at the top has of columns, checks and indexes; a partition has settings of its own beside
them. Who has rights on every new table (ALTER DEFAULT PRIVILEGES) has none on it that the newest does not give.
Without a partition to go by, the new one is as PARTITION OF would make it.
"""

from __future__ import annotations

from dataclasses import dataclass

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import TableFacts
from millstream_pipelines.warehouses.names import literal, quote_table

_STORED = """
SELECT c.relpersistence = 'u', coalesce(' USING ' || quote_ident(m.amname), '')
  || coalesce(' WITH (' || (
    SELECT string_agg(format('%%s%%I = %%L', o.prefix, split_part(o.entry, '=', 1),
      substr(o.entry, strpos(o.entry, '=') + 1)), ', ')
    FROM (SELECT '' AS prefix, unnest(c.reloptions) AS entry
          UNION ALL SELECT 'toast.', unnest(t.reloptions)) o) || ')', '')
  || coalesce(' TABLESPACE ' || quote_ident(s.spcname), '')
FROM pg_class c LEFT JOIN pg_am m ON m.oid = c.relam LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
WHERE c.oid = to_regclass(%(model)s)
"""
_COLUMNS = """
SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET STATISTICS %%s', %(child)s, a.attname, a.attstattarget)
FROM pg_attribute a
WHERE a.attrelid = to_regclass(%(model)s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
UNION ALL
SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET (%%s)', %(child)s, a.attname, string_agg(o, ', '))
FROM pg_attribute a, unnest(a.attoptions) o
WHERE a.attrelid = to_regclass(%(model)s) AND a.attnum > 0 AND NOT a.attisdropped AND o LIKE 'n\\_distinct%%'
GROUP BY a.attname
"""
_GUARDED = """
SELECT format('ALTER TABLE %%s %%s ROW LEVEL SECURITY', %(child)s, u.how) FROM pg_class c,
  LATERAL (VALUES ('ENABLE', c.relrowsecurity), ('FORCE', c.relforcerowsecurity)) u (how, is_so)
WHERE c.oid = to_regclass(%(model)s) AND u.is_so
UNION ALL
SELECT format('CREATE POLICY %%I ON %%s AS %%s FOR %%s TO %%s', p.polname, %(child)s,
    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
      ELSE 'ALL' END,
    (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
     FROM unnest(p.polroles) r))
  || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
  || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
FROM pg_policy p WHERE p.polrelid = to_regclass(%(model)s)
UNION ALL
SELECT DISTINCT format('REVOKE ALL ON %%s FROM %%s', %(child)s,
  CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
FROM pg_default_acl d, aclexplode(d.defaclacl) x
WHERE d.defaclobjtype = 'r' AND pg_get_userbyid(d.defaclrole) = current_user AND x.grantee <> d.defaclrole
UNION ALL
SELECT format('GRANT %%s%%s ON %%s TO %%s%%s', g.privilege_type, ' (' || quote_ident(g.attname) || ')', %(child)s,
  CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
  CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END)
FROM (
  SELECT x.*, NULL::text AS attname FROM pg_class c, aclexplode(c.relacl) x
  WHERE c.oid = to_regclass(%(model)s) AND x.grantee <> c.relowner
  UNION ALL
  SELECT x.*, a.attname FROM pg_attribute a, aclexplode(a.attacl) x
  WHERE a.attrelid = to_regclass(%(model)s) AND NOT a.attisdropped) g
UNION ALL
SELECT format('COMMENT ON TABLE %%s IS %%L', %(child)s, d.description) FROM pg_description d
WHERE d.objoid = to_regclass(%(parent)s) AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
  AND d.description = obj_description(to_regclass(%(model)s), 'pg_class')
"""
_IDENTITY = """
SELECT c.relreplident::text, (
  SELECT coalesce(h.inhparent, CASE WHEN c.relkind = 'p' THEN x.indexrelid END)::bigint
  FROM pg_index x LEFT JOIN pg_inherits h ON h.inhrelid = x.indexrelid
  WHERE x.indrelid = c.oid AND x.indisreplident)
FROM pg_class c WHERE c.oid = to_regclass(%(model)s)
"""
# The owner of the table at the top, if it is another one and we may give a table away to it.
_OWNER = """
SELECT format('ALTER TABLE %%s OWNER TO %%I', %(child)s, pg_get_userbyid(c.relowner)) FROM pg_class c
WHERE c.oid = to_regclass(%(parent)s) AND pg_get_userbyid(c.relowner) <> current_user
  AND pg_has_role(c.relowner,
    CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
  AND has_schema_privilege(c.relowner, c.relnamespace, 'CREATE')
"""


@dataclass(frozen=True)
class Likeness:
    """What a new partition gets. `create` begins its CREATE TABLE, and `stored` ends it; `settings` come before it is
    attached, `last` behind."""

    create: str
    stored: str
    settings: tuple[str, ...]
    last: tuple[str, ...]


def likeness(ddl: Ddl, facts: TableFacts, child: str) -> Likeness:
    """Return what a new partition of this name (quoted) gets from the newest partition, else from the table."""
    models = [part for part in facts.partitions if not part.detaching and part.is_leaf]
    parent = quote_table(facts.name)
    model = quote_table(models[-1].name) if models else parent
    names = {"model": model, "parent": parent, "child": child}
    ((is_unlogged, stored),) = ddl.rows(_STORED, names)
    queries = (_COLUMNS, _GUARDED) if models else (_COLUMNS,)
    settings = tuple(row[0] for query in queries for row in ddl.rows(query, names))
    last = (*_identity(child, *ddl.rows(_IDENTITY, names)[0]), *(row[0] for row in ddl.rows(_OWNER, names)))
    return Likeness("CREATE UNLOGGED TABLE" if is_unlogged else "CREATE TABLE", stored, settings, last)


def _identity(child: str, kind: str, above: int | None) -> list[str]:
    """Return what sets the replica identity; its index is found by the one above, which it is attached to by then."""
    if kind in ("f", "n"):
        return [f"ALTER TABLE {child} REPLICA IDENTITY {'FULL' if kind == 'f' else 'NOTHING'}"]
    if kind != "i" or above is None:
        return []
    name = literal(child)
    found = (
        "SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
        f"JOIN pg_inherits h ON h.inhrelid = i.oid WHERE x.indrelid = {name}::regclass AND h.inhparent = {above}"
    )
    alter = f"format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', {name}::regclass, ({found}))"
    return [f"DO $_$ BEGIN EXECUTE {alter}; END $_$"]


__all__ = ["Likeness", "likeness"]
