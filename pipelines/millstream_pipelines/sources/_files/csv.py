"""csv and tsv: every value stays the text it was; NULL only where `nulls` says so. Types are the describer's business.

A row with the wrong number of fields, with bytes that are no text, or with a quote that never closes is a Reject.
pyarrow parses on one thread: on two cores more threads gain a third, and lose the order in which bad rows are met.
Blank lines are no rows, as everywhere.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from millstream_pipelines.batch import MAX_BATCH_ROWS, Reject
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.sources._files.config import FileStream
from millstream_pipelines.sources._files.piece import Piece
from millstream_pipelines.sources._files.read_ahead import ReadAhead
from millstream_pipelines.sources._files.text import BLOCK_BYTES, MARKS, Utf8Blocks, unmarked
from millstream_pipelines.sources._files.unpack import Part

_MAX_HELD_REJECTS = MAX_BATCH_ROWS
"""Malformed rows between two good ones: past this the delimiter is wrong, and holding them all would fill memory."""


class CsvReader:
    """One part being read."""

    def __init__(self, part: Part, stream: FileStream) -> None:
        self._part, self._stream = part, stream
        self._text = Utf8Blocks(part, stream.encoding, stream.quote)
        self._ahead = ReadAhead(self._text)
        self._delimiter = stream.delimiter or ("\t" if part.format == "tsv" else ",")
        self._malformed: list[Reject] = []
        self._flooded = False

    def pieces(self, block_bytes: int = BLOCK_BYTES) -> Generator[Piece, None, None]:
        """Yield text columns. A file without rows yields one empty piece with its columns; an empty file, nothing."""
        try:
            with self._ahead.taking():
                reader = self._opened(block_bytes)
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise self._unreadable(error) from error
        try:
            names = self._names(reader)
            held: pa.RecordBatch | None = None
            while (batch := self._next(reader)) is not None:
                if held is not None:
                    yield self._piece(held, names)
                held = batch
            yield self._last(held, names) if held is not None else self._empty(names)
        finally:
            self._ahead.free()
            reader.close()

    def _opened(self, block_bytes: int) -> Any:
        stream = self._stream
        return pacsv.open_csv(
            self._ahead,
            read_options=pacsv.ReadOptions(
                block_size=block_bytes,
                use_threads=False,
                column_names=None if stream.header or not stream.columns else stream.columns,
                autogenerate_column_names=not stream.header and not stream.columns,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=self._delimiter,
                quote_char=stream.quote or False,
                newlines_in_values=stream.quote is not None,
                invalid_row_handler=self._on_malformed,
            ),
            convert_options=pacsv.ConvertOptions(
                default_column_type=pa.string(),
                check_utf8=False,
                null_values=stream.nulls,
                strings_can_be_null=True,
                quoted_strings_can_be_null=stream.quoted_nulls,
            ),
        )

    def _on_malformed(self, row: Any) -> str:
        if len(self._malformed) >= _MAX_HELD_REJECTS:
            self._flooded = True
            return "error"
        at = {"_row": row.number} if row.number is not None else {}
        raw = {"_raw": unmarked(row.text), "_file": self._part.label, **at}
        message = f"{row.actual_columns} fields where {row.expected_columns} are named, in file '{self._part.label}'"
        self._malformed.append(Reject("malformed_row", message, raw))
        return "skip"

    def _names(self, reader: Any) -> list[str]:
        names = list(reader.schema.names)
        if not self._stream.header and not self._stream.columns:
            return [f"column_{number}" for number in range(1, len(names) + 1)]
        if self._text.tainted and any(unmarked(name) != name for name in names):
            raise ConfigurationError(
                f"{self._part.where}: its column names are not {self._stream.encoding}; set `encoding` of stream "
                f"'{self._stream.name}' (seen: {unmarked(','.join(names))[:80]!r})"
            )
        names = _named(names)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(
                f"{self._part.where} has {names.count(twice[0])} columns named '{twice[0]}'; names must differ",
                reason="DuplicateColumn",
            )
        return names

    def _next(self, reader: Any) -> pa.RecordBatch | None:
        try:
            with self._ahead.taking():
                return reader.read_next_batch()
        except StopIteration:
            return None
        except pa.ArrowInvalid as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: pa.ArrowInvalid) -> DataError:
        if self._flooded:
            return DataError(
                f"{self._part.where}: over {_MAX_HELD_REJECTS} rows in a row have another number of fields than the "
                f"header; check `delimiter` (now {self._delimiter!r}), `quote` and `header` of '{self._stream.name}'"
            )
        if "straddl" in str(error):
            return DataError(
                f"{self._part.where} has a row longer than {BLOCK_BYTES >> 20} MiB: most likely a quote that is never "
                f"closed; correct the file, or set `quote: null` for stream '{self._stream.name}' if it has no quoting",
                reason="UnclosedQuote",
            )
        return DataError(f"{self._part.where}: {error}")

    def _taken(self) -> list[Reject]:
        taken, self._malformed = self._malformed, []
        return taken

    def _empty(self, names: list[str]) -> Piece:
        return Piece(pa.RecordBatch.from_arrays([pa.array([], pa.string()) for _ in names], names=names), self._taken())

    def _piece(self, batch: pa.RecordBatch, names: list[str]) -> Piece:
        data = pa.RecordBatch.from_arrays(batch.columns, names=names)
        rejects = self._taken()
        if self._text.tainted:
            data, undecodable = self._split_undecodable(data)
            rejects += undecodable
        return Piece(data, rejects)

    def _last(self, batch: pa.RecordBatch, names: list[str]) -> Piece:
        quote = self._stream.quote
        if quote is None or batch.num_rows == 0 or self._text.quotes % 2 == 0:
            return self._piece(batch, names)
        row = batch.slice(batch.num_rows - 1).to_pylist()[0] if batch.num_columns == len(names) else {}
        final = batch.column(batch.num_columns - 1)[-1].as_py()
        if not row or final is None or not never_closed(self._text.tail, final, quote, self._delimiter):
            return self._piece(batch, names)
        piece = self._piece(batch.slice(0, batch.num_rows - 1), names)
        raw = {"_raw": unmarked(self._rewritten(list(row.values()))), "_file": self._part.label}
        lines = final.count("\n")
        message = f"a quote is never closed; the last {lines} lines of '{self._part.label}' are inside it"
        return Piece(piece.data, [*piece.rejects, Reject("malformed_row", message, raw)])

    def _rewritten(self, values: list[str | None]) -> str:
        """Return the unclosed row as it stood: the values before it, then the quote and all that follows."""
        *before, final = (value or "" for value in values)
        return self._delimiter.join([*before, f"{self._stream.quote}{final}"])

    def _split_undecodable(self, data: pa.RecordBatch) -> tuple[pa.RecordBatch, list[Reject]]:
        bad = None
        for column in data.columns:
            hit = pc.fill_null(pc.match_substring_regex(column, MARKS), False)
            bad = hit if bad is None else pc.or_(bad, hit)
        if bad is None or not pc.any(bad).as_py():
            return data, []
        message = f"bytes that are not {self._stream.encoding} in file '{self._part.label}'"
        rejects = []
        for row in data.filter(bad).to_pylist():
            shown = {name: None if value is None else unmarked(value) for name, value in row.items()}
            rejects.append(Reject("encoding", message, {**shown, "_file": self._part.label}))
        return data.filter(pc.invert(bad)), rejects


def _named(names: list[str]) -> list[str]:
    """Give columns without a name their number as name: a name that no other column has."""
    made: list[str] = []
    for number, name in enumerate(names, 1):
        free = name or f"column_{number}"
        while not name and free in (*names, *made):
            free += "_"
        made.append(free)
    return made


def never_closed(tail: bytes, final: str, quote: str, delimiter: str) -> bool:
    """Return whether a file that ends in `tail` ends inside the quotes of its last value, `final`.

    Then the tail is that value, as it is written inside quotes, behind an opening quote and without a closing one.
    To be asked of files with an odd number of quotes: a closed value that is one line end looks the same.
    """
    written = (quote + final.replace(quote, quote * 2)).encode()
    if len(written) > len(tail):
        return final.endswith("\n") and written.endswith(tail)
    before = tail[: len(tail) - len(written)]
    return tail.endswith(written) and (not before or before.endswith((delimiter.encode(), b"\n", b"\r")))
