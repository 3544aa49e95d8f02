"""Streams as `files` describes them: columns of the first and the last file, types from a bounded sample of both.

The last file is looked at because columns are added and types widen over time. Parquet files declare their types.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from millstream_pipelines.batch import Reject
from millstream_pipelines.inference import infer_json, infer_text
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.sources._files.config import FileStream
from millstream_pipelines.sources._files.csv import CsvReader
from millstream_pipelines.sources._files.entries import FileEntry
from millstream_pipelines.sources._files.json import JsonReader
from millstream_pipelines.sources._files.time_format import fits_format
from millstream_pipelines.sources._files.unpack import Part, Unpacker

_SAMPLE_CHARS = 8 * 1024 * 1024
"""Text per sampled file; `inferRows` usually ends it earlier."""
_EMPTY_FILES = 5
"""Files without rows that are opened in search of one with rows; a guess."""


@dataclass(frozen=True)
class Described:
    """What a sample says of a stream."""

    schema: Schema
    times: frozenset[str]
    """Columns whose sampled values all follow `timestampFormat`."""


class _Sample:
    """Values by column from several files, and what files declare."""

    def __init__(self, stream: FileStream) -> None:
        self._stream = stream
        self._values: dict[str, list[Any]] = {}
        self._declared: dict[str, Column] = {}
        self._records = False

    def add(self, part: Part) -> int:
        """Sample one part. Returns the rows seen."""
        if part.format == "parquet":
            return self._add_parquet(part)
        if part.format in ("csv", "tsv"):
            return self._add_csv(part)
        return self._add_json(part)

    def described(self) -> Described:
        """Return the columns in order of appearance, each with the type that holds all that was seen."""
        columns = [
            self._declared.get(name) or Column(name, self._type(values)) for name, values in self._values.items()
        ]
        times = frozenset(name for name, values in self._values.items() if self._follows_format(values))
        return Described(Schema(tuple(columns), tuple(self._stream.primary_key)), times)

    def _type(self, values: list[Any]) -> str:
        if self._follows_format(values):
            return "timestamp"
        return infer_json(values) if self._records else infer_text(values)

    def _follows_format(self, values: list[Any]) -> bool:
        pattern = self._stream.timestamp_format
        return pattern is not None and all(type(value) is str for value in values) and fits_format(values, pattern)

    def _add_parquet(self, part: Part) -> int:
        from millstream_pipelines.sources._files.parquet import ParquetReader

        reader = ParquetReader(part, self._stream, 1)
        for column in reader.schema():
            self._values.setdefault(column.name, [])
            seen = self._declared.setdefault(column.name, column)
            if seen.type != column.type:
                self._declared[column.name] = Column(column.name, _wider(seen.type, column.type))
        return 1

    def _add_csv(self, part: Part) -> int:
        rows = chars = 0
        with closing(CsvReader(part, self._stream).pieces()) as pieces:
            for piece in pieces:
                data = piece.data.slice(0, self._stream.infer_rows - rows)
                for name, column in zip(data.schema.names, data.columns, strict=True):
                    self._values.setdefault(name, []).extend(column.drop_null().to_pylist())
                rows, chars = rows + data.num_rows, chars + data.nbytes
                if rows >= self._stream.infer_rows or chars >= _SAMPLE_CHARS:
                    break
        return rows

    def _add_json(self, part: Part) -> int:
        self._records = True
        rows = 0
        with closing(_bounded(JsonReader(part, self._stream).records(), self._stream.infer_rows)) as records:
            for record in records:
                rows += 1
                for name, value in record.items():
                    values = self._values.setdefault(name, [])
                    if value is not None:
                        values.append(value)
        return rows


def describe(entries: list[FileEntry], stream: FileStream, unpacker: Unpacker) -> Described:
    """Return what the first file with rows and the last one say."""
    found = _Sample(stream)
    filled = [entry for entry in entries if entry.size != 0]
    for number, entry in enumerate(filled[:_EMPTY_FILES]):
        if _add(found, entry, stream, unpacker):
            if number < len(filled) - 1:
                _add(found, filled[-1], stream, unpacker)
            break
    return found.described()


def _add(found: _Sample, entry: FileEntry, stream: FileStream, unpacker: Unpacker) -> int:
    with closing(unpacker.parts(entry, stream)) as parts:
        return next((rows for part in parts if (rows := found.add(part))), 0)


def _bounded(
    records: Iterable[tuple[dict[str, Any] | Reject, int]], max_rows: int
) -> Generator[dict[str, Any], None, None]:
    rows = chars = 0
    for record, size in records:
        chars += size
        if not isinstance(record, Reject):
            rows += 1
            yield record
        if rows >= max_rows or chars >= _SAMPLE_CHARS:
            return


def _wider(one: str, other: str) -> str:
    """Return the type that holds both; text where there is none of the same kind."""
    for ladder in (("smallint", "integer", "bigint"), ("real", "double precision"), ("date", "timestamp")):
        if one in ladder and other in ladder:
            return max(one, other, key=ladder.index)
    exact = all(name.split("(")[0] in ("smallint", "integer", "bigint", "numeric") for name in (one, other))
    return "numeric" if exact else "text"
