"""Quoting of names, the same in every SQL warehouse we have."""

from __future__ import annotations


def quote(name: str) -> str:
    """Return one identifier quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_table(table: str, schema: str = "public") -> str:
    """Return `schema.table` quoted; a bare name lies in `schema`."""
    parts = table.split(".", 1)
    return ".".join(quote(part) for part in (parts if len(parts) == 2 else [schema, *parts]))


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
