"""How each column lies in an archive, and how its values are spelled so that two engines hash them alike. Pure.

What Parquet holds exactly is stored in its own type; everything else (unbounded numeric, jsonb, arrays, enums, ranges,
intervals, …) as the text that PostgreSQL prints and reads back. The SQL type stands in the field's metadata.

The hash of a table is the sum, modulo 2^64, of the first 64 bits of MD5 over each row's text: no order in it, and no
row can hide behind an equal one, as it could in an XOR. A row's text is its columns' texts, with separators.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from millstream_pipelines.schema import is_decimal, normalized

Form = Literal["integer", "float", "boolean", "decimal", "text", "bytes", "date", "timestamp", "timestamptz", "uuid"]
TYPE_KEY = b"millstream.type"
_FRACTION = re.compile(r"numeric\((\d+),\s*\1\)")
_FORMS: dict[str, Form] = {
    "smallint": "integer", "integer": "integer", "bigint": "integer", "real": "float", "double precision": "float",
    "boolean": "boolean", "bytea": "bytes", "date": "date", "timestamp": "timestamp", "timestamptz": "timestamptz",
    "uuid": "uuid",
}  # fmt: skip
_NATIVE_TEXT = ("text", "character varying")
_ORDERED = ("integer", "float", "decimal", "date", "timestamp", "timestamptz")


@dataclass(frozen=True)
class ArchivedColumn:
    """A column: `type` in PostgreSQL's words, `form` as the archive stores it. `generated`: made by the server."""

    name: str
    type: str
    form: Form
    generated: bool = False

    @property
    def has_bounds(self) -> bool:
        """Whether minimum and maximum mean something in both engines; not the edges of texts that stand for a value."""
        return self.form in _ORDERED or self.is_native_text

    @property
    def is_native_text(self) -> bool:
        """Whether the archive's text is the value, not what PostgreSQL prints for one."""
        return self.form == "text" and self.type.split("(")[0] in _NATIVE_TEXT


def archived(name: str, type_name: str, builtin: bool = True, generated: bool = False) -> ArchivedColumn:
    """Return how a column of this type is stored."""
    plain = normalized(type_name)
    form = _FORMS.get(plain, "text") if builtin else "text"
    if builtin and is_decimal(plain):
        form = "decimal"
    return ArchivedColumn(name, plain if builtin else type_name, form, generated)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def selected(column: ArchivedColumn) -> str:
    """Return the SQL expression that is exported."""
    name = _quoted(column.name)
    return name if column.form not in ("text", "decimal") or column.is_native_text else f"({name})::text"


def postgres_text(column: ArchivedColumn) -> str:
    """Return PostgreSQL's expression for a value's text."""
    name = _quoted(column.name)
    match column.form:
        case "boolean":
            return f"{name}::int::text"
        case "float":
            digits = f"trim(to_char({name}::double precision, '9.9999999999999999EEEE'))"
            return (
                f"CASE WHEN {name} = 'NaN' THEN 'nan' WHEN {name} = 'Infinity' THEN 'inf' "
                f"WHEN {name} = '-Infinity' THEN '-inf' ELSE {digits} END"
            )
        case "bytes":
            return f"encode({name}, 'hex')"
        case "date":
            return f"CASE WHEN isfinite({name}) THEN ({name} - date '1970-01-01')::text ELSE {name}::text END"
        case "timestamp" | "timestamptz":
            micros = f"(extract(epoch FROM {name}) * 1000000)::numeric(30,0)::text"
            return f"CASE WHEN isfinite({name}) THEN {micros} ELSE {name}::text END"
        case _:
            return f"{name}::text"


def duckdb_text(column: ArchivedColumn) -> str:
    """Return DuckDB's expression for the same text of a value in the archive."""
    name = _quoted(column.name)
    match column.form:
        case "boolean":
            return f"{name}::INTEGER::VARCHAR"
        case "float":
            return f"format('{{:.16e}}', {name}::DOUBLE)"
        case "bytes":
            return f"lower(hex({name}))"
        case "date":
            days = f"({name} - DATE '1970-01-01')::VARCHAR"
            return f"CASE WHEN isfinite({name}) THEN {days} ELSE {name}::VARCHAR END"
        case "timestamp" | "timestamptz":
            return f"CASE WHEN isfinite({name}) THEN epoch_us({name})::VARCHAR ELSE {name}::VARCHAR END"
        case "decimal" if _FRACTION.fullmatch(column.type):  # DuckDB writes no 0 before the point where none has room
            return f"regexp_replace({name}::VARCHAR, '^(-?)[.]', '\\10.')"
        case _:
            return f"{name}::VARCHAR"


def _row_text(texts: Sequence[str]) -> str:
    return f"concat_ws(chr(31), {', '.join(f'coalesce({text}, chr(30))' for text in texts)})"


def postgres_query(columns: Sequence[ArchivedColumn], table: str, is_utf8: bool = True) -> str:
    """Return the query whose one row `content_of` reads, for PostgreSQL. `table` is quoted.

    `is_utf8`: whether the database keeps texts as an archive does; else they are hashed and compared as UTF-8.
    """
    text = _row_text([postgres_text(item) for item in columns])
    digest = f"left(md5({text if is_utf8 else _utf8(text)}), 16)"
    total = f"coalesce(sum(('x' || {digest})::bit(64)::bigint), 0)"
    inner = _aggregates(columns, table, total, _by_bytes if is_utf8 else _by_utf8)
    return f"SELECT {_told(columns, postgres_text)} FROM ({inner}) content"


def _utf8(text: str) -> str:
    return f"convert_to({text}, 'UTF8')"


def _by_bytes(edge: str, name: str) -> str:
    return f'{edge}({name} COLLATE "C")'


def _by_utf8(edge: str, name: str) -> str:  # before PostgreSQL 18 bytes have no min and max, and their digits have
    least = f"""{edge}(encode({_utf8(name)}, 'hex') COLLATE "C")"""
    return f"convert_from(decode({least}, 'hex'), 'UTF8')"


def _as_it_is(edge: str, name: str) -> str:
    return f"{edge}({name})"


def duckdb_part(columns: Sequence[ArchivedColumn], file: str) -> str:
    """Return DuckDB's query for the aggregates of one file, to be put together by `duckdb_total`.

    Columns go by their place: to DuckDB, names that differ by case are the same.
    """
    placed = [replace(item, name=f"c{number}") for number, item in enumerate(columns)]
    digest = f"('0x' || md5({_row_text([duckdb_text(item) for item in placed])})[:16])::UBIGINT"
    named = f"{file} placed ({', '.join(item.name for item in placed)})"
    return _aggregates(placed, named, f"coalesce(sum({digest}), 0)::HUGEINT", _as_it_is)


def duckdb_total(columns: Sequence[ArchivedColumn], parts: str) -> str:
    """Return DuckDB's query whose one row `content_of` reads, over a table of what `duckdb_part` found per file."""
    found = ["sum(n) AS n", "sum(h) AS h"]
    for number, item in enumerate(columns):
        found.append(f"sum(n{number}) AS n{number}")
        found += [f"{edge}({edge}{number}) AS {edge}{number}" for edge in ("min", "max") if item.has_bounds]
    return f"SELECT {_told(columns, duckdb_text)} FROM (SELECT {', '.join(found)} FROM {parts}) content"


def _aggregates(columns: Sequence[ArchivedColumn], table: str, total: str, text_edge: Callable[[str, str], str]) -> str:
    found = ["count(*) AS n", f"{total} AS h"]
    for number, item in enumerate(columns):
        name = _quoted(item.name)
        found.append(f"count({name}) AS n{number}")
        of = text_edge if item.is_native_text else _as_it_is
        found += [f"{of(edge, name)} AS {edge}{number}" for edge in ("min", "max") if item.has_bounds]
    return f"SELECT {', '.join(found)} FROM {table}"


def _told(columns: Sequence[ArchivedColumn], text: Callable[[ArchivedColumn], str]) -> str:
    told = ["coalesce(n, 0)", "coalesce(h, 0)"]
    for number, item in enumerate(columns):
        told.append(f"coalesce(n{number}, 0)")
        told += [text(replace(item, name=f"{edge}{number}")) for edge in ("min", "max") if item.has_bounds]
    return ", ".join(told)


@dataclass(frozen=True)
class ColumnContent:
    """What a column holds in all: values that are not NULL, and their edges as text where they mean something."""

    values: int
    least: str | None = None
    greatest: str | None = None


@dataclass(frozen=True)
class Content:
    """What a table or an archive holds: equal content, equal in every field."""

    rows: int
    hash: str
    columns: dict[str, ColumnContent]

    def differences(self, other: Content) -> list[str]:
        """Return what differs, as `rows: 10 / 9`, this side first."""
        found = [f"{name}: {mine} / {theirs}" for name, mine, theirs in (
            ("rows", self.rows, other.rows), ("content hash", self.hash, other.hash)) if mine != theirs]  # fmt: skip
        for name, mine in self.columns.items():
            theirs_column = other.columns.get(name)
            if mine != theirs_column:
                found.append(f"column '{name}': {_spoken(mine)} / {_spoken(theirs_column)}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return it as a manifest has it."""
        columns = {
            name: {"nulls": self.rows - item.values, "min": item.least, "max": item.greatest}
            for name, item in self.columns.items()
        }
        return {"rows": self.rows, "hash": self.hash, "columns": columns}

    @classmethod
    def from_json(cls, document: dict[str, Any], columns: Sequence[ArchivedColumn]) -> Content:
        """Return what a manifest says. Archives of before have edges of texts, too, that nobody compares any more."""
        rows = int(document["rows"])
        bounded = {item.name for item in columns if item.has_bounds}
        found = {
            name: ColumnContent(rows - item["nulls"], *((item["min"], item["max"]) if name in bounded else ()))
            for name, item in document["columns"].items()
        }
        return cls(rows, document["hash"], found)


def _spoken(column: ColumnContent | None) -> str:
    return "absent" if column is None else f"{column.values} values, {column.least} to {column.greatest}"


_LONGEST_EDGE = 200  # characters


def content_of(columns: Sequence[ArchivedColumn], row: Sequence[Any]) -> Content:
    """Return the content from one engine's row of aggregates (edges already as text)."""
    values = iter(row)
    rows, total = int(next(values)), int(next(values))
    found = {}
    for item in columns:
        count = int(next(values))
        least, greatest = (next(values), next(values)) if item.has_bounds else (None, None)
        found[item.name] = ColumnContent(count, _clipped(least), _clipped(greatest))
    return Content(rows, f"{total % 2**64:016x}", found)


def _clipped(text: str | None) -> str | None:
    return text if text is None else text[:_LONGEST_EDGE]


__all__ = ["TYPE_KEY", "ArchivedColumn", "ColumnContent", "Content", "archived", "content_of", "duckdb_part",
           "duckdb_total", "postgres_query", "selected"]  # fmt: skip
