"""Objects and lists inside rows taken apart: columns `a__b`, and child rows that know their parent's number. Pure.

Column by column, never row by row: a nested column is parsed once, and each field of its values becomes one array.
What is no object or list where others are stays where it was, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate, chain, islice
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from millstream_api.stream import Nested
from millstream_pipelines.casting import as_text
from millstream_pipelines.child_names import SEPARATOR, Path
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.inference import infer_json
from millstream_pipelines.json_values import DECODER, Number, as_json
from millstream_pipelines.json_values import as_text as json_text
from millstream_pipelines.schema import Column, Schema

VALUE = "value"
"""Column of a child table whose list holds plain values."""

_SAMPLE = 10_000  # values from which a column's type is told, as for files
# Numbers that a double or Python might spell otherwise: fractions that end in 0, exponents, many digits.
_DELICATE = r"[0-9]\.[0-9]*0(?:[^0-9.]|$)|[0-9][eE][+-]?[0-9]|[0-9]{16}|[0-9.]{17}|-0"


@dataclass(frozen=True)
class ChildRows:
    """The elements of one kind of list in a batch. `parents`: the row of the batch that each belongs to."""

    path: Path
    parents: pa.Array
    places: tuple[pa.Array, ...]
    """The place in the list, from 0, for each list from the outermost in."""
    columns: dict[str, pa.Array]


@dataclass
class Place:
    """What was seen at one place of the values: fields of objects, elements of lists, a value of its own."""

    fields: dict[str, Place] = field(default_factory=dict)
    items: Place | None = None
    leaf: tuple[Path, str] | None = None
    """The table and column of the values that are neither."""
    is_whole: bool = False
    """Whether a value was not taken apart here."""


@dataclass
class Opened:
    """A batch's nested columns, taken apart."""

    columns: dict[str, pa.Array] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    """New column → the column it comes from."""
    whole: set[str] = field(default_factory=set)
    """Columns with values that are neither object nor list to be taken apart: they stay as they are."""
    children: list[ChildRows] = field(default_factory=list)


class Opener:
    """Takes nested columns apart, and remembers the types of what comes out, told from the first values seen."""

    def __init__(self, spec: Nested, owner: str) -> None:
        self._spec, self._owner = spec, owner
        self.types: dict[tuple[Path, str], str] = {}
        self.places: dict[str, Place] = {}

    def schema(self, path: Path, names: Iterable[str]) -> Schema:
        """Return the columns of a table with the types told."""
        return Schema(tuple(Column(name, self.types.get((path, name), "text")) for name in names))

    def tables(self) -> dict[Path, list[str]]:
        """Return the child tables seen so far and their columns, outer lists first."""
        found: dict[Path, list[str]] = {}
        for path, name in self.types:
            if path:
                found.setdefault(path, []).append(name)
        return dict(sorted(found.items()))

    def opened(self, batch: pa.RecordBatch, nested: frozenset[str]) -> Opened:
        """Return what the nested columns of a batch hold. ConfigurationError when two columns would have one name."""
        found = Opened()
        for name in batch.schema.names:
            if name in nested:
                table = _Table((), {}, (), {other: other for other in batch.schema.names if other != name})
                values = _parsed(batch.column(name))
                place = self.places.setdefault(name, Place())
                if not self._open(name, name, values, table, found, place, depth=0):
                    found.whole.add(name)
                self._refuse_twice(found, table)
                found.columns |= table.columns
                found.origins |= dict.fromkeys(table.columns, name)
        return found

    def _open(
        self, name: str, origin: str, values: list[Any], table: _Table, found: Opened, place: Place, depth: int
    ) -> bool:
        """Take one column's values apart; return whether all of them were."""
        kinds = set(map(type, values)) - {type(None)}
        deeper = depth < self._spec.max_depth
        objects = dict in kinds and deeper and self._spec.objects == "columns"
        lists = list in kinds and deeper and self._spec.lists == "tables"
        if objects:
            only = values if kinds == {dict} else [value if type(value) is dict else None for value in values]
            self._fields(name, origin, only, table, found, place, depth + 1)
        if lists:
            only = values if kinds == {list} else [value if type(value) is list else None for value in values]
            self._list(name, only, table, found, place, depth + 1)
        taken = kinds <= {kind for kind, opened in ((dict, objects), (list, lists)) if opened}
        place.is_whole = place.is_whole or not taken
        return taken

    def _fields(
        self, prefix: str, origin: str, objects: list[Any], table: _Table, found: Opened, place: Place, depth: int
    ) -> None:
        names = dict.fromkeys(chain.from_iterable(filter(None, objects)))
        for name in names:
            full, path = (f"{prefix}{SEPARATOR}{name}", f"{origin}.{name}") if prefix else (name, name)
            values = [item.get(name) if item else None for item in objects]
            kinds = set(map(type, values))
            inner = place.fields.setdefault(name, Place())
            if (dict in kinds or list in kinds) and self._open(full, path, values, table, found, inner, depth):
                continue
            self._leaf(full, path, values, kinds, table, inner)

    def _list(self, name: str, lists: list[Any], table: _Table, found: Opened, place: Place, depth: int) -> None:
        lengths = [len(item) if item else 0 for item in lists]
        elements: list[Any] = list(chain.from_iterable(filter(None, lists)))
        if not elements:
            return
        starts = pa.array(accumulate(lengths, initial=0), pa.int32())
        owners = pc.list_parent_indices(pa.ListArray.from_arrays(starts, pa.nulls(len(elements))))
        places = pc.subtract(pa.array(range(len(elements)), pa.int64()), starts.take(owners).cast(pa.int64()))
        child = _Table(
            (*table.path, name), {}, (*(item.take(owners) for item in table.places), places), {},
            owners if table.parents is None else table.parents.take(owners),
        )  # fmt: skip
        kinds = set(map(type, elements)) - {type(None)}
        inner = place.items = place.items or Place()
        if dict in kinds:
            only = elements if kinds == {dict} else [item if type(item) is dict else None for item in elements]
            self._fields("", "", only, child, found, inner, depth)
        if kinds - {dict}:
            rest = [None if type(item) is dict else item for item in elements]
            kinds = set(map(type, rest))
            if not (list in kinds and self._open(VALUE, VALUE, rest, child, found, inner, depth)):
                self._leaf(VALUE, VALUE, rest, kinds, child, inner)
        found.children.append(ChildRows(child.path, child.parents, child.places, child.columns))

    def _leaf(self, name: str, origin: str, values: list[Any], kinds: set[type], table: _Table, place: Place) -> None:
        if name in table.origins:
            raise self._twice(table.path, name, origin, table.origins[name])
        table.origins[name] = origin
        table.columns[name] = _array(values, kinds - {type(None)})
        key = (table.path, name)
        if kinds != {type(None)}:
            place.leaf = key
        if key not in self.types and kinds != {type(None)}:
            sample = islice((value for value in values if value is not None), _SAMPLE)
            self.types[key] = infer_json([Number(repr(item)) if type(item) is float else item for item in sample])

    def _refuse_twice(self, found: Opened, table: _Table) -> None:
        for name in table.columns:
            if name in found.columns:
                raise self._twice((), name, table.origins[name], found.origins[name])

    def _twice(self, path: Path, name: str, one: str, other: str) -> ConfigurationError:
        where = f"{self._owner}: in list '{'.'.join(path)}'" if path else self._owner
        return ConfigurationError(
            f"{where}: '{one}' and '{other}' would both be column '{name}'; set nested.objects to 'json', or name the "
            "nested column under `columns` to keep it whole"
        )


@dataclass
class _Table:
    """A table in the making. `origins`: its columns' dotted names, to tell two of one name apart."""

    path: Path
    columns: dict[str, pa.Array]
    places: tuple[pa.Array, ...]
    origins: dict[str, str]
    parents: pa.Array | None = None


def _parsed(column: pa.Array) -> list[Any]:
    """Return JSON text, or nested Arrow values, as Python values with exact numbers; what is no JSON stays text.

    All documents are parsed in one call. Those with a number that Python would spell otherwise are parsed by
    themselves.
    """
    text = as_text(column)
    words = text.to_pylist()
    delicate = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(text, _DELICATE), False)).to_pylist()
    exact = {place: _decoded(words[place]) for place in delicate}
    for place in delicate:
        words[place] = None
    try:
        values: list[Any] = orjson.loads(f"[{','.join(['null' if word is None else word for word in words])}]")
        if len(values) != len(words):
            raise ValueError("a document holds a comma of its own")
    except ValueError:
        values = [None if word is None else _decoded(word) for word in words]
    for place, value in exact.items():
        values[place] = value
    return values


def _decoded(word: str) -> Any:
    try:
        return DECODER.decode(word)
    except (ValueError, RecursionError):
        return word


def _array(values: list[Any], kinds: set[type]) -> pa.Array:
    try:
        if kinds <= {str}:
            return pa.array(values, pa.string())
        if kinds == {int}:
            return pa.array(values, pa.int64())
        if kinds == {bool}:
            return pa.array(values, pa.bool_())
    except (OverflowError, pa.ArrowInvalid):
        pass
    if kinds & {dict, list}:
        return pa.array([as_json(value) for value in values], pa.string())
    return pa.array([repr(value) if type(value) is float else json_text(value) for value in values], pa.string())
