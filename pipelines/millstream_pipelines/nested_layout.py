"""The Arrow types of rows whose nested values have been seen, by which a reader can take later ones apart. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from millstream_pipelines.child_names import SEPARATOR, Path
from millstream_pipelines.nested import VALUE, Place
from millstream_pipelines.schema import Schema

_INTEGERS = ("bigint", "integer", "smallint")
_FRACTIONS = ("numeric", "double precision", "real")

Types = Mapping[tuple[Path, str], str]


@dataclass(frozen=True)
class Layout:
    """Types that hold the values of rows as those before them; numbers that may have a fraction are text."""

    schema: pa.Schema
    quoted: frozenset[str]
    """Keys whose numbers are text, wherever they stand."""


class _NoLayoutError(Exception):
    """Values at one place are of several kinds, or stay JSON."""


def layout_of(described: Schema, places: Mapping[str, Place], types: Types) -> Layout | None:
    """Return the types of a stream's columns; `places`: what those that are taken apart were seen to hold.

    None where there are none: a nested column stays whole, values at one place are of several kinds, numbers with
    fractions stand in a list by themselves, or two values would be one column.
    """
    scalars = {column.name: column.type for column in described if column.name not in places}
    leaves = [item for name, place in places.items() for item in _leaves(name, place, (), name)]
    quoted = {name for name, kind in scalars.items() if _is_fraction(kind)}
    quoted |= {key for key, leaf in leaves if _is_fraction(types.get(leaf, "text"))}
    columns = [*(((), name) for name in scalars), *(leaf for _, leaf in leaves)]
    if len(set(columns)) < len(columns) or any(not key.isprintable() or set(key) & set('"\\') for key in quoted):
        return None
    try:
        fields = [
            pa.field(name, _nested(place, name, types, quoted) if place else _scalar(scalars[name], name in quoted))
            for name, place in ((name, places.get(name)) for name in described.names)
        ]
    except _NoLayoutError:
        return None
    return Layout(pa.schema(fields), frozenset(quoted))


def _leaves(key: str, place: Place, path: Path, name: str) -> Iterator[tuple[str, tuple[Path, str]]]:
    """Yield the values below a place: their key, and the table and column they go to; `name`: the place's own."""
    for field, inner in place.fields.items():
        yield from _leaves(field, inner, path, f"{name}{SEPARATOR}{field}" if name else field)
    if place.items is not None:
        yield from _leaves("", place.items, (*path, name or VALUE), "")
    if place.leaf is not None:
        yield key, (path, name or VALUE)


def _nested(place: Place, key: str, types: Types, quoted: set[str]) -> pa.DataType:
    if place.is_whole or bool(place.fields) + (place.items is not None) + (place.leaf is not None) > 1:
        raise _NoLayoutError
    if place.fields:
        return pa.struct([pa.field(name, _nested(inner, name, types, quoted)) for name, inner in place.fields.items()])
    if place.items is not None:
        return pa.list_(_nested(place.items, "", types, quoted))
    return pa.null() if place.leaf is None else _scalar(types[place.leaf], key in quoted, listed=not key)


def _scalar(kind: str, quoted: bool, listed: bool = False) -> pa.DataType:
    if kind in ("json", "jsonb") or (listed and _is_fraction(kind)):
        raise _NoLayoutError
    if kind == "boolean":
        return pa.bool_()
    return pa.int64() if kind in _INTEGERS and not quoted else pa.string()


def _is_fraction(kind: str) -> bool:
    return kind.startswith(_FRACTIONS)
