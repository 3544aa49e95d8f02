"""json and ndjson: records become text columns, numbers digit by digit as written, nested values as JSON text.

All columns are text, as for csv: a column whose type changes in mid-file is then a matter for the cast, row by row, and
no number passes through a double. A line that is no JSON object is a Reject. Of a key given twice in an object, the
last counts. `json` documents are read value by value: a record is in memory, the document never is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from typing import Any

import orjson
import pyarrow as pa

from millstream_pipelines.batch import Reject
from millstream_pipelines.errors import DataError
from millstream_pipelines.sources._files.config import FileStream
from millstream_pipelines.sources._files.json_scan import MAX_VALUE_CHARS, JsonScan, ScanError
from millstream_pipelines.sources._files.piece import Piece
from millstream_pipelines.sources._files.text import BLOCK_BYTES, MARKS, Utf8Blocks, unmarked
from millstream_pipelines.sources._files.unpack import Part

_MARKED = re.compile(MARKS)
_BATCH_CHARS = 4 * 1024 * 1024
"""JSON text per batch: as Python objects it takes about ten times that."""


class Number(str):
    """A number as it was written, where a Python number would not keep it."""

    __slots__ = ()


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_float=Number, parse_constant=_refused)
_HUGE_DECODER = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_refused)
"""For integers of more digits than Python converts (4300)."""


def decoded(text: str) -> Any:
    """Return a JSON value with every number exact. Raises ValueError, RecursionError.

    orjson is five times faster and exact unless a value is a float (it reads integers past 64 bits as floats too):
    then the line is read again. A float inside a nested value is looked for in the text.
    """
    try:
        found = orjson.loads(text)
        if type(found) is dict:
            kinds = set(map(type, found.values()))
            if float not in kinds and (kinds.isdisjoint(_NESTED) or _FRACTION.search(text) is None):
                return found
    except orjson.JSONDecodeError:
        pass  # the other decoder says why, and takes halves of surrogate pairs, which are refused later
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _HUGE_DECODER.decode(text)


_NESTED = frozenset((dict, list))
_FRACTION = re.compile(r"[0-9][.eE]|[0-9]{19}")


class JsonReader:
    """One part being read. `nested`: columns described as jsonb, in which every value is JSON text."""

    def __init__(self, part: Part, stream: FileStream, nested: frozenset[str] = frozenset()) -> None:
        self._part, self._stream, self._nested = part, stream, nested
        self._text = Utf8Blocks(part, stream.encoding)

    def pieces(self) -> Generator[Piece, None, None]:
        """Yield text columns: the keys of the records of each piece, in order of appearance."""
        records: list[dict[str, Any]] = []
        rejects: list[Reject] = []
        chars = 0
        for record, size in self.records():
            (rejects if isinstance(record, Reject) else records).append(record)  # type: ignore[arg-type]
            chars += size
            if chars >= _BATCH_CHARS:
                yield self._piece(records, rejects)
                records, rejects, chars = [], [], 0
        if records or rejects:
            yield self._piece(records, rejects)

    def records(self) -> Iterator[tuple[dict[str, Any] | Reject, int]]:
        """Yield each record as Python values, numbers exact, or its Reject; and its size in characters."""
        return self._lines() if self._part.format == "ndjson" else self._values()

    def _lines(self) -> Iterator[tuple[dict[str, Any] | Reject, int]]:
        rest = b""
        number = 0
        while block := self._text.read(BLOCK_BYTES):
            lines = (rest + block).split(b"\n") if b"\n" in block else [rest + block]
            rest = lines.pop()
            if len(rest) > MAX_VALUE_CHARS:
                raise DataError(f"{self._part.where}: line {number + len(lines) + 1} is over {MAX_VALUE_CHARS} bytes")
            for line in lines:
                number += 1
                if text := line.decode().strip():
                    yield self._record(text, number), len(text)

    def _record(self, text: str, line: int) -> dict[str, Any] | Reject:
        raw = {"_raw": text, "_file": self._part.label, "_line": line}
        if self._text.tainted and _MARKED.search(text):
            return self._undecodable({**raw, "_raw": unmarked(text)})
        try:
            found = decoded(text)
        except (ValueError, RecursionError) as error:
            why = str(error) if isinstance(error, ValueError) else "nested too deep"
            return Reject("malformed_row", f"line {line} of '{self._part.label}' is not JSON: {why}", raw)
        return self._object(found, raw)

    def _values(self) -> Iterator[tuple[dict[str, Any] | Reject, int]]:
        scan = JsonScan(_DECODER, self._text.read)
        try:
            for found, text in scan.values(self._stream.record_path):
                raw = {"_raw": text, "_file": self._part.label}
                if self._text.tainted and _MARKED.search(text):
                    yield self._undecodable({**raw, "_raw": unmarked(text)}), len(text)
                else:
                    yield self._object(found, raw), len(text)
        except ScanError as error:
            raise DataError(f"{self._part.where}: {error}", reason="MalformedDocument") from error

    def _undecodable(self, raw: dict[str, Any]) -> Reject:
        return Reject("encoding", f"bytes that are not {self._stream.encoding} in file '{self._part.label}'", raw)

    def _object(self, found: Any, raw: dict[str, Any]) -> dict[str, Any] | Reject:
        if isinstance(found, dict):
            return found
        kind = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(found), "a number")
        return Reject("malformed_row", f"a record in '{self._part.label}' is {kind}, not an object", raw)

    def _piece(self, records: list[dict[str, Any]], rejects: list[Reject]) -> Piece:
        try:
            return Piece(self._columns(records), rejects)
        except (UnicodeEncodeError, orjson.JSONEncodeError):
            # A \ud800 without its other half is legal JSON and no text.
            good = [record for record in records if _is_text(record)]
            message = f"half a surrogate pair, which is no text, in file '{self._part.label}'"
            bad = [
                Reject("encoding", message, {"_raw": json.dumps(record), "_file": self._part.label})
                for record in records
                if not _is_text(record)
            ]
            return Piece(self._columns(good), [*rejects, *bad])

    def _columns(self, records: list[dict[str, Any]]) -> pa.RecordBatch:
        names: dict[str, Any] = {}
        for record in records:
            names.update(record)
        for name in names:
            name.encode()
        arrays = [_column([record.get(name) for record in records], name in self._nested) for name in names]
        if not arrays:  # objects without keys are rows all the same
            return pa.RecordBatch.from_struct_array(pa.array([{}] * len(records), pa.struct([])))
        return pa.RecordBatch.from_arrays(arrays, names=list(names))


def _column(values: list[Any], nested: bool) -> pa.Array:
    """Return one text column; columns of one kind are written without a call per value."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str} and not nested:
        return pa.array(values, pa.string())
    if kinds in ({int}, {bool}):
        try:
            return pa.array(values, pa.int64() if int in kinds else pa.bool_()).cast(pa.string())
        except OverflowError:
            return pa.array([None if value is None else str(value) for value in values], pa.string())
    write = as_json if nested else as_text
    return pa.array([write(value) for value in values], pa.string())


def as_text(value: Any) -> str | None:
    """Return a JSON value as the text a cast reads: strings bare, nested values as JSON."""
    if value is None or type(value) is str:
        return value
    if isinstance(value, Number):
        return str(value)
    return as_json(value)


def as_json(value: Any) -> str | None:
    """Return a JSON value as JSON text; null is NULL. Numbers keep every digit."""
    if value is None:
        return None
    try:
        return orjson.dumps(value, default=_written, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()
    except orjson.JSONEncodeError:
        return orjson.dumps(_spelled(value), default=_written, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()


def _spelled(value: Any) -> Any:
    """Return a value with its integers as they are written: orjson refuses those past 64 bits."""
    if isinstance(value, dict):
        return {name: _spelled(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    return Number(value) if type(value) is int else value


def _written(value: Any) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(value.encode())
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _is_text(record: dict[str, Any]) -> bool:
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
