"""How a stream's columns fit a table of files under the contract. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from millstream_api.stream import Contract
from millstream_pipelines.errors import RetriableError
from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._parquet.commits import StoredFile
from millstream_pipelines.warehouses.fitting import TableShape, allow_new_table, fitted, one_case, same, spelled, widens


@dataclass(frozen=True)
class Pending:
    """A table as an open transaction would make it."""

    columns: Schema
    files: list[StoredFile]


def shape_of(columns: Schema, schema: Schema) -> TableShape:
    """Return the table as the log has it, names spelled as in `schema` where they differ in case only."""
    return spelled(TableShape(columns, frozenset()), schema)


def fit(table: str, columns: Schema | None, schema: Schema, contract: Contract) -> tuple[Schema, Schema]:
    """Return the columns to send, with the table's types, and the columns that the table then has.

    Raises DataError when the contract forbids a change.
    """
    one_case(table, schema, "most readers of Parquet")
    plain = Schema(tuple(replace(column, nullable=True) for column in schema))
    if columns is None:
        allow_new_table(table, contract)
        return plain, plain
    decided = fitted(table, shape_of(columns, schema), plain, contract)
    widened = {item.name.lower(): item.type for item in decided.widened}
    kept = (replace(item, type=widened.get(item.name.lower(), item.type)) for item in columns)
    return decided.sent, Schema((*kept, *decided.added))


def joined(table: str, now: Schema | None, made: Schema) -> Schema:
    """Return the columns of `now`, and those of `made` that it lacks: others may have shaped the table meanwhile.

    Raises RetriableError where the two do not agree on a type.
    """
    known = {column.name.lower(): column for column in now or ()}
    added = []
    for column in made:
        present = known.get(column.name.lower())
        if present is None:
            added.append(column)
        elif not same(present.type, column.type) and not widens(column.type, present.type):
            if not widens(present.type, column.type):
                raise RetriableError(
                    f"target {table}: column '{column.name}' became {present.type} while it was loaded as "
                    f"{column.type}; the next attempt goes by what is there"
                )
            known[column.name.lower()] = column
    return Schema((*known.values(), *added))


def respelled(sent: Schema, columns: Schema) -> Schema:
    """Return the columns that are sent under the names that the table has for them."""
    names = {column.name.lower(): column.name for column in columns}
    return Schema(tuple(replace(column, name=names[column.name.lower()]) for column in sent))
