"""Foreign keys of other tables to one that was turned: put on again without a look at the rows, then validated."""

from __future__ import annotations

from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.warehouses.names import quote, quote_table


def unvalidated(ddl: Ddl, table: str) -> list[tuple[str, str]]:
    """Return table (quoted) and name of each foreign key to the table that does not hold for old rows yet."""
    found = ddl.rows(
        "SELECT format('%%I.%%I', n.nspname, c.relname), k.conname FROM pg_constraint k "
        "JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE k.confrelid = to_regclass(%s) AND k.contype = 'f' AND NOT k.convalidated AND k.conparentid = 0",
        (quote_table(table),),
    )
    return [(row[0], row[1]) for row in found]


def finish(ddl: Ddl, table: str) -> None:
    """Validate foreign keys to the table that were put on again without a look at the rows. Idempotent."""
    for other, name in unvalidated(ddl, table):
        ddl.alone(f"validating {name} of {other}", f"ALTER TABLE {other} VALIDATE CONSTRAINT {quote(name)}", (other,))


__all__ = ["finish", "unvalidated"]
