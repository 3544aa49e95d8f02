"""json and ndjson: records become text columns, numbers digit by digit as written, nested values as JSON text.

All columns are text, as for csv: a column whose type changes in mid-file is then a matter for the cast, row by row, and
no number passes through a double. A line that is no JSON object is a Reject. Of a key given twice in an object, the
last counts. `json` documents are read value by value: a record is in memory, the document never is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
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


def _integer(text: str) -> int | Number:
    return int(text) if len(text) < 19 else Number(text)


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


DECODER = json.JSONDecoder(parse_float=Number, parse_int=_integer, parse_constant=_refused)


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
            found = DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            why = str(error) if isinstance(error, ValueError) else "nested too deep"
            return Reject("malformed_row", f"line {line} of '{self._part.label}' is not JSON: {why}", raw)
        return self._object(found, raw)

    def _values(self) -> Iterator[tuple[dict[str, Any] | Reject, int]]:
        scan = JsonScan(DECODER, self._text.read)
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
        names = dict.fromkeys(name for record in records for name in record)
        for name in names:
            name.encode()
        arrays = []
        for name in names:
            write: Callable[[Any], str | None] = as_json if name in self._nested else as_text
            arrays.append(pa.array([write(record.get(name)) for record in records], pa.string()))
        if not arrays:  # objects without keys are rows all the same
            return pa.RecordBatch.from_struct_array(pa.array([{}] * len(records), pa.struct([])))
        return pa.RecordBatch.from_arrays(arrays, names=list(names))


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
    return orjson.dumps(value, default=_written, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()


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
