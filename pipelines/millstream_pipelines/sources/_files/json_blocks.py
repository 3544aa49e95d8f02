"""Lines of ndjson a block at a time: DuckDB takes them apart, into what the line-by-line reader would make of them.

DuckDB reads a fraction as a double and writes that anew (0.250 becomes 0.25). So where a line has a number that could
come out changed, its numbers are first put into quotes, behind a mark that no text has, and freed of both afterwards.
What DuckDB reads and JSON forbids, or would write differently, is left to the line-by-line reader; see `_OTHERWISE`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

MARK = "\uffff"
_MARK_BYTES = MARK.encode()
_MARK_ESCAPED = re.compile(rb"\\u[fF]{4}")

_STRING = r'"(?:[^"\\]|\\.)*"'
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
# A match begins where the one before ended, so never inside a string: between two numbers are whole strings and signs
# that begin no number. A last number, put behind each line, keeps that true to the line's end.
_UP_TO_NUMBER = rf'((?:{_STRING}|[^"0-9-])*)({_NUMBER})'
_QUOTED = rf'\1"{MARK}\2{MARK}"'
_LAST, _LAST_QUOTED = " 0", f' "{MARK}0{MARK}"'
# What could make a line look like JSON that is none: a number as a key, or a quote of ours behind a backslash.
_MISLED = rf'{MARK}"\s*:|\\"{MARK}'

# Looked for in strings too, where a hit only costs time. Exponents, zeros at the end of a fraction, over 15 digits,
# small fractions, minus zero: all else is written by DuckDB as it was.
_VALUE = r"[:,\[]\s*-?"
_INEXACT = (
    rf"{_VALUE}(?:[0-9]+(?:\.[0-9]+)?[eE]|[0-9]*\.[0-9]*0(?:[^0-9]|$)|[0-9.]{{17}}|0\.000)|[:,\[]\s*-0(?:[^.0-9]|$)"
)
# Commas before a closing bracket, NaN and infinity are no JSON; control characters are written with capitals.
_OTHERWISE = rf"(?i),\s*[\]}}]|{_VALUE}(?:nan|inf(?:inity)?)\s*[,\]}}]|\\u00[01]"

_MOST_BRACKETS = 200
"""DuckDB reads any depth, which warehouses do not; a line with more brackets may be that deep."""


@dataclass(frozen=True)
class Taken:
    """The lines that were taken apart: their columns, which of the block's lines they are, and which are left."""

    rows: pa.RecordBatch
    places: pa.Array
    left: list[int]


class JsonBlocks:
    """Takes blocks apart. To be used from one thread, and closed."""

    def __init__(self) -> None:
        self._engine = duckdb.connect(config={"threads": 1})

    def close(self) -> None:
        """Give up DuckDB."""
        self._engine.close()

    def taken(self, block: bytes, lines: pa.StringArray, nested: frozenset[str]) -> Taken | None:
        """Return what of a block and its lines can be taken apart here, exactly; None where that is nothing.

        Every key is a text column, in order of appearance; those in `nested` hold JSON text, strings in quotes.
        """
        if _MARK_BYTES in block or (b"\\u" in block and _MARK_ESCAPED.search(block)):
            return None
        keep = pc.invert(pc.match_substring_regex(lines, _OTHERWISE))
        long = pc.greater(pc.binary_length(lines), _MOST_BRACKETS)
        if long.true_count:
            keep = pc.and_(keep, pc.or_(pc.invert(long), _shallow(lines)))
        inexact = pc.match_substring_regex(lines, _INEXACT)
        marked = bool(inexact.true_count)
        if marked:
            lines = pc.replace_with_mask(lines, inexact, _quoted(lines.filter(inexact)))
        # One text per record: its keys, or nothing where it is no object, or has no keys or an empty one.
        keys = pc.binary_join(self._asked("CASE WHEN json_valid(line) THEN json_keys(line) END", lines), MARK)
        keys = pc.if_else(keep, pc.fill_null(keys, ""), "").dictionary_encode()
        plain = pa.array([_plain(item) for item in keys.dictionary.to_pylist()], pa.bool_())
        names = _names(keys.dictionary.filter(plain))
        if not names:
            return None
        kept = plain.take(keys.indices)
        arrays = self._columns(lines.filter(kept) if kept.false_count else lines, names, nested)
        if marked:
            arrays = [_unmarked(array) for array in arrays]
        left = pc.indices_nonzero(pc.invert(kept)).to_pylist() if kept.false_count else []
        return Taken(pa.RecordBatch.from_arrays(arrays, names=names), pc.indices_nonzero(kept).cast(pa.int64()), left)

    def _columns(self, lines: pa.StringArray, names: list[str], nested: frozenset[str]) -> list[pa.Array]:
        shape = json.dumps({name: "JSON" if name in nested else "VARCHAR" for name in names})
        found = self._asked(f"json_transform(line, '{shape.replace(chr(39), chr(39) * 2)}')", lines)
        return [column.cast(pa.string()) for column in found.flatten()]

    def _asked(self, expression: str, lines: pa.StringArray) -> pa.Array:
        block = pa.table({"line": lines})
        found = self._engine.from_arrow(block).project(f"{expression} AS found").to_arrow_table()
        return found.column(0).combine_chunks()


def _plain(keys: str) -> bool:
    """Return whether joined keys of a record are keys, each given once. (No keys at all look like an empty one.)"""
    found = keys.split(MARK)
    return "" not in found and len(set(found)) == len(found)


def _names(keys: pa.StringArray) -> list[str]:
    """Return all keys in order of appearance; none where two differ in case only, which DuckDB takes for one."""
    names = dict.fromkeys(name for item in keys.to_pylist() for name in item.split(MARK))
    return list(names) if len({name.casefold() for name in names}) == len(names) else []


def _shallow(lines: pa.StringArray) -> pa.BooleanArray:
    opened = pc.add(pc.count_substring(lines, "["), pc.count_substring(lines, "{"))
    return pc.less_equal(opened, _MOST_BRACKETS)


def _quoted(lines: pa.StringArray) -> pa.StringArray:
    """Return lines with their numbers in quotes; NULL for a line in which something else would be quoted too."""
    ended = pc.binary_join_element_wise(lines, _LAST, "")
    quoted = pc.replace_substring_regex(ended, _UP_TO_NUMBER, _QUOTED)
    whole = pc.and_not(pc.ends_with(quoted, _LAST_QUOTED), pc.match_substring_regex(quoted, _MISLED))
    cut = pc.binary_slice(quoted.cast(pa.binary()), 0, -len(_LAST_QUOTED.encode())).cast(pa.string())
    return pc.if_else(whole, cut, pa.scalar(None, pa.string()))


def _unmarked(texts: pa.StringArray) -> pa.StringArray:
    for marked in (f'"{MARK}', f'{MARK}"', MARK):
        if pc.any(pc.match_substring(texts, marked)).as_py():
            texts = pc.replace_substring(texts, marked, "")
    return texts
