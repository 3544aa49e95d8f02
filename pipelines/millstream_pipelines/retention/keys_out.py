"""Foreign keys of a table on its partitions: they hold for new rows at once, for old ones when validated.

A key on a copy would stop who deletes a row that only the copy still refers to. So partitions get the table's keys in
the transaction that attaches them, NOT VALID; each is validated, which stops nobody; then the table has its key again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.ondemand import full_name
from millstream_pipelines.retention.plain import Constraint
from millstream_pipelines.warehouses.names import literal, quote, quote_table

_HAS = """
SELECT k.conrelid = to_regclass(%(t)s), k.conrelid::regclass::text, k.convalidated FROM pg_constraint k
WHERE k.contype = 'f' AND k.conname = %(name)s AND (k.conrelid = to_regclass(%(t)s) OR k.conrelid IN (
  SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%(t)s)))
"""
_TOLD = "replace(pg_get_constraintdef({0}.oid), ' NOT VALID', '')"
_LACKED = f"""
SELECT k.conname, {_TOLD.format("k")}, o.conname,
  EXISTS (SELECT FROM pg_constraint n WHERE n.conrelid = to_regclass(%(child)s) AND n.conname = k.conname)
FROM pg_constraint k LEFT JOIN pg_constraint o ON o.conrelid = to_regclass(%(child)s) AND o.contype = 'f'
  AND {_TOLD.format("o")} = {_TOLD.format("k")}
WHERE k.conrelid = to_regclass(%(parent)s) AND k.contype = 'f' AND k.convalidated AND o.convalidated IS NOT true
  AND NOT EXISTS (SELECT FROM pg_constraint above WHERE above.oid = k.conparentid AND above.conrelid = k.conrelid)
ORDER BY 1
"""
_PARTS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(%s) ORDER BY 1"


def taken_off(table: str, keys: Iterable[Constraint]) -> list[str]:
    """Return the SQL that takes keys off the table and its partitions."""
    return [f"ALTER TABLE {quote_table(table)} DROP CONSTRAINT {quote(key.name)}" for key in keys]


def put_on(partitions: Iterable[str], keys: Iterable[Constraint]) -> list[str]:
    """Return the SQL after which keys hold for new rows of partitions (quoted)."""
    return [_added(part, key.name, key.definition) for key in keys for part in partitions]


def _added(partition: str, name: str, definition: str) -> str:
    return f"ALTER TABLE {partition} ADD CONSTRAINT {quote(name)} {definition.removesuffix(' NOT VALID')} NOT VALID"


def noted(keys: Iterable[Constraint]) -> str:
    """Return what `_millstream.conversions` keeps of keys that the table is to have again."""
    return json.dumps([{"name": key.name, "definition": key.definition, "comment": key.comment} for key in keys])


def pending(ddl: Ddl, table: str) -> list[dict[str, Any]]:
    """Return the keys that each partition has for itself, until the table has them again."""
    found = ddl.rows("SELECT keys FROM _millstream.conversions WHERE table_name = %s", (full_name(table),))
    return list(found[0][0] or []) if found else []


def partitions(ddl: Ddl, table: str) -> list[str]:
    """Return the table's partitions, quoted where they must be."""
    return [row[0] for row in ddl.rows(_PARTS, (quote_table(table),))]


def for_partition(ddl: Ddl, table: str, partition: str) -> list[str]:
    """Return the SQL that gives a new partition (quoted) the keys that the table will have again."""
    return [_added(partition, key["name"], key["definition"]) for key in pending(ddl, table)]


def proven(ddl: Ddl, table: str, partition: str) -> None:
    """Give a table (quoted) that is to be attached the keys of all, validated: ATTACH would look at its rows itself,
    and shut out who writes to the tables they refer to. Idempotent.
    """
    both = {"parent": quote_table(table), "child": partition}
    for name, definition, own, taken in ddl.rows(_LACKED, both):
        if own is None:
            key = f"ADD {definition} NOT VALID"
            add = f"ALTER TABLE {partition} {key}" if taken else _added(partition, name, definition)
            ddl.together(f"adding foreign key {name} to {partition}", [add], (partition,))
    for name, _, own, _ in ddl.rows(_LACKED, both):
        doing = f"validating foreign key {name} of {partition}"
        ddl.alone(doing, f"ALTER TABLE {partition} VALIDATE CONSTRAINT {quote(own)}", (partition,))


def settle(ddl: Ddl, table: str) -> None:
    """Validate the keys of all partitions, and give the table its keys again. Idempotent; nobody waits for a scan."""
    parent = quote_table(table)
    for key in pending(ddl, table):
        name = key["name"]
        has = {part: valid for itself, part, valid in ddl.rows(_HAS, {"t": parent, "name": name}) if not itself}
        for part in partitions(ddl, table):
            doing = f"adding foreign key {name} to {part}"
            if part not in has:
                ddl.together(doing, [_added(part, name, key["definition"])], (part,))
            if not has.get(part):
                ddl.alone(doing, f"ALTER TABLE {part} VALIDATE CONSTRAINT {quote(name)}", (part,))
        reached("split-keyed")
        _given_back(ddl, table, key)


def _given_back(ddl: Ddl, table: str, key: dict[str, Any]) -> None:
    parent, name = quote_table(table), key["name"]

    def action() -> None:
        if not any(row[0] for row in ddl.rows(_HAS, {"t": parent, "name": name})):
            ddl.execute(f"ALTER TABLE {parent} ADD CONSTRAINT {quote(name)} {key['definition']}")
        if key["comment"]:
            ddl.execute(f"COMMENT ON CONSTRAINT {quote(name)} ON {parent} IS {literal(key['comment'])}")
        ddl.execute(
            "UPDATE _millstream.conversions SET keys = (SELECT jsonb_agg(k) FROM jsonb_array_elements(keys) k "
            "WHERE k->>'name' <> %s) WHERE table_name = %s",
            (name, full_name(table)),
        )

    ddl.transaction(f"giving {table} its foreign key {name} again", action, (parent,))


__all__ = ["for_partition", "noted", "partitions", "pending", "proven", "put_on", "settle", "taken_off"]
