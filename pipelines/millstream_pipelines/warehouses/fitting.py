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
    ("date", "timestamp"),
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
    filled: frozenset[str] = frozenset()
    """Columns that get a value where none is sent: by a default, an identity, a computation."""


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


def one_case(table: str, schema: Schema, reader: str) -> None:
    """Raise ConfigurationError where two columns differ in case only, which `reader` does not tell apart."""
    lower = [name.lower() for name in schema.names]
    twice = [name for name in schema.names if lower.count(name.lower()) > 1]
    if twice:
        raise ConfigurationError(
            f"target {table}: columns {', '.join(twice)} differ in case only, which {reader} does not tell apart; "
            "rename one under the stream's `columns`"
        )


def spelled(shape: TableShape, schema: Schema) -> TableShape:
    """Return the shape with names spelled as the stream has them: the catalog compares them without case."""
    names = {name.lower(): name for name in schema.names}
    columns = [replace(column, name=names.get(column.name.lower(), column.name)) for column in shape.schema]
    required, filled = (
        frozenset(names.get(name.lower(), name) for name in given) for given in (shape.required, shape.filled)
    )
    return TableShape(Schema(tuple(columns)), required, filled=filled)


class LeftOutError(DataError):
    """The contract leaves the stream out: its target is not there. No failure of the run."""


def allow_new_table(table: str, contract: Contract) -> None:
    """Raise DataError where the contract does not let an absent target be made; LeftOutError for `discard`."""
    if contract.tables == "freeze":
        raise DataError(
            f"target {table} is not there but contract.tables is 'freeze'; create it, correct `target`, or set "
            "'evolve' to have it made",
            reason="SchemaDrift",
        )
    if contract.tables == "discard":
        raise LeftOutError(f"target {table} is not there and contract.tables is 'discard'", reason="LeftOut")


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
            if contract.columns in ("discard", "quarantine"):  # the shaper sets rows with values in it aside
                continue
            if contract.columns == "freeze":
                raise DataError(
                    f"target {table}: new column '{column.name}' ({column.type}) but contract.columns is 'freeze'; "
                    f"set 'evolve' to add it or 'discard' to leave it out{_renaming(shape, schema)}",
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
            f"give it a default, drop NOT NULL, or map a column to it{_renaming(shape, schema)}",
            reason="SchemaDrift",
        )


def _renaming(shape: TableShape, schema: Schema) -> str:
    found = renamed(shape, schema)
    return "" if found is None else f"; if '{found[0]}' was renamed: {cure(*found)}"


def renamed(shape: TableShape, schema: Schema) -> tuple[str, str] | None:
    """Return a column of the table and one of the stream that may be it under a new name: one each, of one type."""
    gone = [item for item in shape.schema if schema.get(item.name) is None and item.name not in shape.filled]
    new = [item for item in schema if shape.schema.get(item.name) is None]
    if len(gone) == len(new) == 1 and same(gone[0].type, new[0].type):
        return gone[0].name, new[0].name
    return None


def cure(old: str, new: str) -> str:
    """Return what a manifest says to go on with the old name."""
    return f"`columns: [{{name: {old}, source: {new}}}]`"


def same(one: str, other: str) -> bool:
    """Return whether two spellings are one type: `numeric(4)` and `numeric(4,0)`, `app.mood` and `mood`."""
    return _canonical(one) == _canonical(other)


def _canonical(name: str) -> tuple[str, tuple[int, ...]]:
    base, numbers = _parted(name.rsplit(".", 1)[-1])
    if base == "numeric" and len(numbers) == 1:
        return base, (*numbers, 0)
    return base, numbers or ((1,) if base in ("character", "bit") else ())


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
