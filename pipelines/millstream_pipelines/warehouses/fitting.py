"""How a stream's columns fit a table under the contract. Pure: catalogs and DDL are the warehouses' own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from millstream_api.stream import Contract
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.schema import Column, Schema

# A type may become any of those to its right in its row: no value changes.
_WIDENING: tuple[tuple[str, ...], ...] = (
    ("smallint", "integer", "bigint", "numeric"),
    ("smallint", "integer", "double precision"),
    ("real", "double precision"),
    ("character varying", "text"),
)
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}


@dataclass(frozen=True)
class TableShape:
    """A table as the catalog has it."""

    schema: Schema
    required: frozenset[str]
    """Columns that are NOT NULL and have no default."""
    computed: frozenset[str] = frozenset()
    """Columns that the table computes from others; nothing can be sent into them."""


@dataclass(frozen=True)
class Fit:
    """The columns to send, with the target's types, and what the table must become first."""

    sent: Schema
    added: list[Column] = field(default_factory=list)
    widened: list[Column] = field(default_factory=list)


def has_key(table: str, schema: Schema, primary_key: tuple[str, ...]) -> None:
    """Raise ConfigurationError when the stream lacks a column of the key."""
    missing = [name for name in primary_key if schema.get(name) is None]
    if missing:
        raise ConfigurationError(
            f"target {table}: primaryKey names {', '.join(missing)}, which the stream does not have; "
            f"it has: {', '.join(schema.names)}"
        )


def fitted(table: str, shape: TableShape, schema: Schema, contract: Contract) -> Fit:
    """Decide how `schema` goes into a table.

    Raises DataError when the contract forbids a change, or when a column that must have a value is not sent.
    """
    sent: list[Column] = []
    added: list[Column] = []
    widened: list[Column] = []
    for column in schema:
        present = shape.schema.get(column.name)
        if column.name in shape.computed:
            raise ConfigurationError(
                f"target {table}: column '{column.name}' is GENERATED from others, so no value can be sent into it; "
                f"leave it out with `columns: [{{name: {column.name}, drop: true}}]`"
            )
        if present is None:
            if contract.columns == "discard":
                continue
            if contract.columns == "freeze":
                raise DataError(
                    f"target {table}: new column '{column.name}' ({column.type}) but contract.columns is 'freeze'; "
                    "set 'evolve' to add it or 'discard' to leave it out",
                    reason="SchemaDrift",
                )
            added.append(column)
            sent.append(column)
        elif contract.types == "evolve" and widens(present.type, column.type):
            widened.append(column)
            sent.append(replace(present, type=column.type))
        else:
            sent.append(present)
    _require(table, shape, schema)
    return Fit(Schema(tuple(sent)), added, widened)


def _require(table: str, shape: TableShape, schema: Schema) -> None:
    absent = sorted(shape.required - set(schema.names))
    if absent:
        raise DataError(
            f"target {table}: column '{absent[0]}' is NOT NULL without a default, and the stream has no such column; "
            "give it a default, drop NOT NULL, or map a column to it",
            reason="SchemaDrift",
        )


def widens(old: str, new: str) -> bool:
    """Return whether every value of `old` is one of `new`, unchanged, and `new` is more than `old`."""
    (before, length), (after, other) = _parted(old), _parted(new)
    if before == after:
        return before in ("character varying", "numeric") and bool(length) and (not other or _holds(length, other))
    if before in _DIGITS and after == "numeric" and other:
        return _holds((_DIGITS[before], 0), other)
    row = next((row for row in _WIDENING if before in row and after in row), ())
    return bool(row) and not other and row.index(after) > row.index(before)


def _parted(name: str) -> tuple[str, tuple[int, ...]]:
    """Return a type's base and its numbers: `numeric(12,2)` → ("numeric", (12, 2)); an array has no base here."""
    match = re.fullmatch(r"([a-z ]+?)(?:\(([\d,-]+)\))?", name)
    if match is None:
        return name, ()
    return match.group(1), tuple(int(part) for part in (match.group(2) or "").split(",") if part)


def _holds(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Return whether numeric(new) has room for numeric(old), before and behind the point; or varchar for varchar."""
    (digits, scale), (wider, finer) = ((*numbers, 0)[:2] for numbers in (old, new))
    return (wider, finer) != (digits, scale) and finer >= scale and wider - finer >= digits - scale
