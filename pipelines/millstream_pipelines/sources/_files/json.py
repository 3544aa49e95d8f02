"""json and ndjson: records become text columns, numbers digit by digit as written, nested values as JSON text.

All columns are text, as for csv: a column whose type changes in mid-file is then a matter for the cast, row by row, and
no number passes through a double. A line that is no JSON object is a Reject. Of a key given twice in a record, the
last counts. `json` documents are read value by value: a record is in memory, the document never is. Large blocks of
ndjson are taken apart by `json_blocks`, and what it leaves line by line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from millstream_pipelines.batch import Reject
from millstream_pipelines.errors import DataError
from millstream_pipelines.json_values import DECODER, is_text
from millstream_pipelines.own_lines import text_columns
from millstream_pipelines.sources._files.config import FileStream
from millstream_pipelines.sources._files.json_scan import MAX_VALUE_CHARS, JsonScan, ScanError
from millstream_pipelines.sources._files.piece import Piece
from millstream_pipelines.sources._files.text import BLOCK_BYTES, MARKS, Utf8Blocks, unmarked
from millstream_pipelines.sources._files.unpack import Part

if TYPE_CHECKING:
    from millstream_pipelines.nested_layout import Layout
    from millstream_pipelines.sources._files.json_blocks import JsonBlocks, Taken

_MARKED = re.compile(MARKS)
_BATCH_CHARS = 4 * 1024 * 1024
"""JSON text per batch: as Python objects it takes about ten times that."""
_MOST_UNTRIED = 64
_SMALL_BYTES = 128 * 1024
"""Below this the line-by-line reader is done before DuckDB has started."""


class JsonReader:
    """One part being read. `nested`: columns described as jsonb, in which every value is JSON text.

    `layout`: see `ReadRequest.layout`.
    """

    def __init__(
        self,
        part: Part,
        stream: FileStream,
        nested: frozenset[str] = frozenset(),
        layout: Callable[[], Layout | None] = lambda: None,
    ) -> None:
        self._part, self._stream, self._nested, self._layout = part, stream, nested, layout
        self._misses = self._untried = 0
        self._text = Utf8Blocks(part, stream.encoding)
        self._opened: JsonBlocks | None = None

    def pieces(self) -> Generator[Piece, None, None]:
        """Yield text columns: the keys of the records of each piece, in order of appearance."""
        with closing(self._by_block() if self._part.format == "ndjson" else self._by_value()) as pieces:
            yield from pieces

    def records(self) -> Iterator[tuple[dict[str, Any] | Reject, int]]:
        """Yield each record as Python values, numbers exact, or its Reject; and its size in characters."""
        if self._part.format != "ndjson":
            yield from self._values()
            return
        for number, block in self._blocks(BLOCK_BYTES):
            for place, line in enumerate(block.split(b"\n")):
                if text := line.decode().strip():
                    yield self._record(text, number + place), len(text)

    def _by_value(self) -> Generator[Piece, None, None]:
        records: list[dict[str, Any]] = []
        rejects: list[Reject] = []
        chars = 0
        for record, size in self._values():
            (rejects if isinstance(record, Reject) else records).append(record)  # type: ignore[arg-type]
            chars += size
            if chars >= _BATCH_CHARS:
                yield self._piece(records, rejects)
                records, rejects, chars = [], [], 0
        if records or rejects:
            yield self._piece(records, rejects)

    def _by_block(self) -> Generator[Piece, None, None]:
        try:
            for number, block in self._blocks(_BATCH_CHARS):
                piece = self._block_piece(block, number)
                if piece.data.num_rows or piece.rejects:
                    yield piece
        finally:
            if self._opened is not None:
                self._opened.close()

    def _blocks(self, size_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Yield blocks of whole lines, each with the number of its first."""
        rest, number = b"", 1
        while read := self._text.read(size_bytes):
            end = read.rfind(b"\n")
            whole, rest = (b"", rest + read) if end < 0 else (rest + read[:end], read[end + 1 :])
            lines = 0 if end < 0 else whole.count(b"\n") + 1
            if len(rest) > MAX_VALUE_CHARS:
                raise DataError(f"{self._part.where}: line {number + lines} is over {MAX_VALUE_CHARS} bytes")
            if whole:
                yield number, whole
            number += lines

    def _typed(self, block: bytes) -> Piece | None:
        """Return a block read by its layout, or None. What has failed is tried less and less often."""
        layout = self._layout() if len(block) >= _SMALL_BYTES and not self._text.tainted else None
        if layout is None or self._untried:
            self._untried = max(self._untried - 1, 0)
            return None
        from millstream_pipelines.sources._files.json_typed import typed

        rows = typed(block, layout, self._nested)
        self._misses = 0 if rows is not None else self._misses + 1
        self._untried = min(2**self._misses, _MOST_UNTRIED) - 1
        return None if rows is None else Piece(rows)

    def _block_piece(self, block: bytes, number: int) -> Piece:
        if (piece := self._typed(block)) is not None:
            return piece
        lines = pc.split_pattern(pa.array([block], pa.binary()).cast(pa.string()), "\n").flatten()
        taken = None
        if len(block) >= _SMALL_BYTES and not self._text.tainted:
            if self._opened is None:
                from millstream_pipelines.sources._files.json_blocks import JsonBlocks

                self._opened = JsonBlocks()
            taken = self._opened.taken(block, lines, self._nested)
        left = range(len(lines)) if taken is None else taken.left
        records: list[dict[str, Any]] = []
        places: list[int] = []
        rejects: list[Reject] = []
        for place, line in zip(left, lines.take(pa.array(left, pa.int64())).to_pylist(), strict=True):
            if text := line.strip():
                found = self._record(text, number + place)
                if isinstance(found, Reject):
                    rejects.append(found)
                else:
                    records.append(found)
                    places.append(place)
        return self._piece(records, rejects, taken, places)

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

    def _piece(
        self, records: list[dict[str, Any]], rejects: list[Reject], taken: Taken | None = None, places: Any = ()
    ) -> Piece:
        """Return records, and what was taken apart already, in the order of their lines (`places`)."""
        try:
            return Piece(self._joined(records, taken, places), rejects)
        except (UnicodeEncodeError, orjson.JSONEncodeError):
            refused = [self._unwritable(record) for record in records]
            good = [number for number, reject in enumerate(refused) if reject is None]
            kept = self._joined([records[n] for n in good], taken, [places[n] for n in good if places])
            return Piece(kept, [*rejects, *(reject for reject in refused if reject is not None)])

    def _unwritable(self, record: dict[str, Any]) -> Reject | None:
        """Return the Reject of a record that JSON allows and no column can hold."""
        try:
            text_columns([record], (), self._nested)
        except UnicodeEncodeError:
            half = True
        except orjson.JSONEncodeError:
            half = not is_text(record)
        else:
            return None
        raw = {"_raw": json.dumps(record), "_file": self._part.label}
        if half:  # a \ud800 without its other half
            return Reject("encoding", f"half a surrogate pair, which is no text, in file '{self._part.label}'", raw)
        return Reject("malformed_row", f"a record in '{self._part.label}' is nested too deep", raw)

    def _joined(self, records: list[dict[str, Any]], taken: Taken | None, places: list[int]) -> pa.RecordBatch:
        if taken is None:
            return text_columns(records, (), self._nested)
        if not records:
            return taken.rows
        slow = text_columns(records, taken.rows.schema.names, self._nested)
        quick = taken.rows
        for name in slow.schema.names[quick.num_columns :]:
            quick = quick.append_column(name, pa.nulls(quick.num_rows, pa.string()))
        order = pc.sort_indices(pa.concat_arrays([taken.places, pa.array(places, pa.int64())]))
        return pa.concat_batches([quick, slow]).take(order)
