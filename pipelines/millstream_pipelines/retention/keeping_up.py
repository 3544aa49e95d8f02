"""What people have altered on a table since the copy of its old range was begun, as SQL for the copy. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from millstream_pipelines.retention.plain import Constraint, IndexFacts, PlainTable
from millstream_pipelines.warehouses.names import literal, quote, quote_table

SHAPE = """
SELECT md5(string_agg(concat_ws(' ', a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation,
  a.attgenerated, CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END), ',' ORDER BY a.attnum))
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""
"""A text that differs when a column was added, dropped, renamed or got another type, also where it looks the same."""


@dataclass(frozen=True)
class Lack:
    """SQL that makes the copy like the table again.

    `loose`: allowed at any time. `indexes`: slow, for when all rows are there. `strict`: only in the instant in which
    the copy equals the old range; before, it may hold rows that never were there together, or are gone.
    """

    loose: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    strict: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.loose or self.indexes or self.strict)


def lacking(table: PlainTable, copy: PlainTable) -> Lack:
    """Return what the copy lacks, and what it has and the table has no more. Both have the same columns."""
    name = quote_table(copy.name)
    alter = f"ALTER TABLE {name}"
    loose: list[str] = []
    indexes: list[str] = []
    strict: list[str] = []
    required = {column.name: column.required for column in copy.columns}
    for column in table.columns:
        if column.required and not required.get(column.name, False):
            strict.append(f"{alter} ALTER COLUMN {quote(column.name)} SET NOT NULL")
        elif not column.required and required.get(column.name, False):
            loose.append(f"{alter} ALTER COLUMN {quote(column.name)} DROP NOT NULL")
    wanted = [_condition(one) for one in table.constraints if one.type == "c"]
    has = {_condition(one): one for one in copy.constraints if one.type == "c"}
    loose += [f"{alter} DROP CONSTRAINT {quote(one.name)}" for key, one in has.items() if key not in wanted]
    strict += [f"{alter} ADD CONSTRAINT {quote(key[0])} {key[1]}" for key in wanted if key not in has]
    keys = [one.definition for one in table.constraints if one.type in "pu"]
    has_keys = {one.definition: one for one in copy.constraints if one.type in "pu"}
    loose += [f"{alter} DROP CONSTRAINT {quote(one.name)}" for key, one in has_keys.items() if key not in keys]
    strict += [f"{alter} ADD {key}" for key in keys if key not in has_keys]
    schema = quote(copy.name.partition(".")[0])
    cut = {_cut(one): one for one in copy.indexes}
    on_table = {_cut(one): one for one in table.indexes}
    loose += [f"DROP INDEX {schema}.{quote(one.name)}" for key, one in cut.items() if key not in on_table]
    for key in sorted(set(on_table) - set(cut)):
        (strict if on_table[key].unique else indexes).append(like_index(on_table[key], name))
    return Lack(tuple(loose), tuple(indexes), tuple(strict))


def _condition(check: Constraint) -> tuple[str, str]:
    return check.name, check.definition.removesuffix(" NOT VALID")  # one that holds for all rows can be attached


def _cut(index: IndexFacts) -> tuple[bool, str, str]:
    """Return what an index is, without its name and its table's."""
    return index.unique, index.of, index.tablespace or ""


def like_index(index: IndexFacts, table: str) -> str:
    """Return the SQL that gives a table (quoted) an index like this one."""
    create = f"CREATE {'UNIQUE ' if index.unique else ''}INDEX ON {table} {index.of}"
    if not index.tablespace:
        return create
    # PostgreSQL prints no tablespace, and its place is in the middle of what it prints.
    space = f"SET LOCAL default_tablespace = {literal(index.tablespace)}"
    return f"{space}; {create}; SET LOCAL default_tablespace TO DEFAULT"


__all__ = ["SHAPE", "Lack", "lacking", "like_index"]
