"""How a partition is made, as text: for the manifest, so that an archive can come back without its parent."""

from __future__ import annotations

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.warehouses.names import quote, quote_table

_COLUMNS = """
SELECT quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
  || coalesce((SELECT format(' COLLATE %%I.%%I', n.nspname, c.collname) FROM pg_type t JOIN pg_collation c
     ON c.oid = a.attcollation AND c.oid <> t.typcollation JOIN pg_namespace n ON n.oid = c.collnamespace
     WHERE t.oid = a.atttypid), '')
  || CASE WHEN a.attgenerated = 's' THEN ' GENERATED ALWAYS AS (' || pg_get_expr(d.adbin, d.adrelid) || ') STORED'
          WHEN d.adbin IS NOT NULL THEN ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) ELSE '' END
  || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_REST = """
SELECT 'ALTER TABLE ' || %(name)s || ' ADD CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE conrelid = to_regclass(%(name)s) AND contype IN ('p', 'u', 'c', 'f', 'x')
UNION ALL
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i WHERE i.indrelid = to_regclass(%(name)s)
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
UNION ALL
SELECT format('COMMENT ON TABLE %%s IS %%L', %(name)s, description) FROM pg_description
WHERE objoid = to_regclass(%(name)s) AND classoid = 'pg_class'::regclass AND objsubid = 0
UNION ALL
SELECT format('COMMENT ON COLUMN %%s.%%I IS %%L', %(name)s, a.attname, d.description)
FROM pg_description d JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
WHERE d.objoid = to_regclass(%(name)s) AND d.classoid = 'pg_class'::regclass
UNION ALL
SELECT format('GRANT %%s ON %%s TO %%s', g.privilege_type, %(name)s,
  CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(g.grantee::regrole::text) END)
FROM pg_class c, aclexplode(c.relacl) g WHERE c.oid = to_regclass(%(name)s) AND g.grantee <> c.relowner
"""


def definition(ddl: Ddl, table: str) -> tuple[str, ...]:
    """Return the statements that make the table anew, without its rows: CREATE TABLE first."""
    name = quote_table(table)
    columns = ", ".join(row[0] for row in ddl.rows(_COLUMNS, (name,)))
    return (f"CREATE TABLE {name} ({columns})", *(row[0] for row in ddl.rows(_REST, {"name": name})))


__all__ = ["definition", "quote"]
