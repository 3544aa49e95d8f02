"""Tables that a restore has made and not ended with: marked from their first moment, found and removed by the mark.

A restore that is killed may never be tried again, so the next run of the policy, or the next restore, looks for them.
"""

from __future__ import annotations

from millstream_pipelines.retention.ddl import Ddl

_MARKED = """
SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_description d
JOIN pg_class c ON c.oid = d.objoid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0 AND c.relkind = 'r' AND d.description = %s
AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) ORDER BY 1
"""


def mark(table: str) -> str:
    """Return the comment of a table that a restore of (a part of) `table` is filling."""
    return f"rows of {table} on their way back: millstream removes this table unless its restore comes to an end"


def removed(ddl: Ddl, table: str) -> list[str]:
    """Remove what restores of a table have left, and say what. Only for who has the table alone."""
    found = [row[0] for row in ddl.rows(_MARKED, (mark(table),))]
    for name in found:
        ddl.transaction(f"removing {name}", lambda name=name: _remove(ddl, table, name), (name,))  # type: ignore[misc]
    return [f"removed {name}, which a restore that never ended had left" for name in found]


def _remove(ddl: Ddl, table: str, name: str) -> None:
    """Remove it unless somebody has attached it, or taken it for his own, a moment ago."""
    ddl.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
    if (name,) in ddl.rows(_MARKED, (mark(table),)):
        ddl.execute(f"DROP TABLE {name}")


__all__ = ["mark", "removed"]
