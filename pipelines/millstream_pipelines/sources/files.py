"""Source `files`: csv, tsv, json, ndjson and parquet, packed or not, on disk, in object storage or at a web address.

What is read: text formats are sent as text columns, every value as it stood in the file; `describe` says which SQL
types a sample suggests, and the engine's cast sets aside the rows that do not fit. Parquet keeps its types. Batches of
different files may have different columns: one that vanishes is absent, one that is new appears.

What is new: in mode incremental, files whose name and ETag (on disk: size and modification time) are not in the
position, in order of name. A position inside a file counts its rows, so a run goes on in mid-file; a file that has
changed since is read again whole, and its earlier rows with it: use merge where files are rewritten.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BaseModel

from millstream_pipelines.batch import LINE, Batch, Position
from millstream_pipelines.errors import ConfigurationError, unknown_value
from millstream_pipelines.sources._files.config import FilesConfig, FileStream
from millstream_pipelines.sources._files.csv import CsvReader
from millstream_pipelines.sources._files.describe import Described, describe
from millstream_pipelines.sources._files.entries import FileEntry
from millstream_pipelines.sources._files.json import JsonReader
from millstream_pipelines.sources._files.names import format_of, matches, stem_of
from millstream_pipelines.sources._files.piece import Piece, Skip, bounded
from millstream_pipelines.sources._files.progress import Progress
from millstream_pipelines.sources._files.slices import fixed, listed, require_same, share
from millstream_pipelines.sources._files.store import Store, open_store
from millstream_pipelines.sources._files.time_format import reformatted
from millstream_pipelines.sources._files.unpack import Part, Unpacker
from millstream_pipelines.sources.base import Feature, ReadRequest, StreamInfo

_EXAMPLES = 3
"""File names shown when a pattern matches none."""

_UNTAGGED = "unknown"
"""The tag that `_files.http` gives where a server tells no versions apart."""


_GUARANTEE = (
    "files are told apart by name and ETag, and rows are counted within a file; "
    "a file whose content changes is read again whole, which repeats its earlier rows unless they are merged"
)


class FilesSource:
    """Files below one url, grouped into streams."""

    name: ClassVar[str] = "files"
    features: ClassVar[frozenset[Feature]] = frozenset({"slice"})
    Config = FilesConfig

    def __init__(self, config: BaseModel, owner: str) -> None:
        self._config = FilesConfig.model_validate(config)
        self._owner = owner
        self._store: Store = open_store(self._config, owner)
        self._unpacker = Unpacker(self._store, owner, self._config.spool_megabytes << 20)
        self._seen: dict[str, Described] = {}

    def streams(self) -> list[StreamInfo]:
        """Return the configured streams; without any, one per file name. Samples each."""
        entries = self._store.entries()
        streams = self._config.streams or _by_name(entries)
        return [self._described(stream, self._of(stream, entries), entries) for stream in streams]

    def describe(self, stream: str, columns: tuple[str, ...] = ()) -> StreamInfo:
        """Return one stream with the types that a sample suggests. Raises ConfigurationError when no file matches."""
        entries = self._store.entries()
        found = self._stream(stream, entries)
        info = self._described(found, self._of(found, entries), entries)
        kept = [column for column in info.schema if not columns or column.name in columns]
        return StreamInfo(stream, info.schema.with_columns(kept))

    def read(self, request: ReadRequest) -> Iterator[Batch]:
        """Yield batches file by file, in order of name; in mode full without positions."""
        entries = self._store.entries()
        stream = self._stream(request.stream, entries)
        mine = self._of(stream, entries)
        if request.mode == "full" and not mine:
            raise self._no_match(stream, entries)
        progress = Progress(request.position if request.mode == "incremental" else None)
        todo = progress.todo(mine)
        if request.slice is not None:
            mine = listed(request.slice.fixed)
            todo = share(mine, request.slice.index, request.slice.count)
            require_same(todo, entries, f"{self._owner}: stream '{stream.name}'")
        if request.mode == "incremental":
            self._check_tagged(mine)
        with closing(self._read(todo, stream, mine, request, progress)) as pieces:
            # Nothing goes on behind a batch of a full read, so none waits for what follows it.
            yield from _batches(pieces) if request.mode == "full" else _positioned(pieces)

    def _read(
        self, todo: list[FileEntry], stream: FileStream, mine: list[FileEntry], request: ReadRequest, progress: Progress
    ) -> Generator[tuple[Piece, Position], None, None]:
        """Yield what the files hold with the position behind it; behind each file a piece without rows."""
        for entry in todo:
            skip = progress.begin(entry)
            with closing(self._pieces(entry, stream, mine, request, skip)) as pieces:
                for piece in pieces:
                    yield piece, progress.advance(piece)
            self._store.check_unchanged(entry)
            yield Piece(pa.RecordBatch.from_pylist([])), progress.finish()

    def fix_slices(self, request: ReadRequest) -> Any:
        """Return the files of the stream as they are now."""
        entries = self._store.entries()
        stream = self._stream(request.stream, entries)
        mine = self._of(stream, entries)
        if not mine:
            raise self._no_match(stream, entries)
        return fixed(mine)

    def guarantee(self, request: ReadRequest) -> tuple[Literal["exact", "repeats"], str]:
        """Return exact: name, ETag and row number say where reading goes on."""
        return "exact", _GUARANTEE

    def why_incomplete(self, request: ReadRequest) -> str | None:
        """Return None in mode full: the files are the state. In mode incremental they are deliveries, and may go."""
        if request.mode == "full":
            return None
        return "in mode incremental a file is a delivery, and a row is not gone with its file; use mode full"

    def close(self) -> None:
        """Close the connections."""
        self._store.close()

    def _pieces(
        self, entry: FileEntry, stream: FileStream, mine: list[FileEntry], request: ReadRequest, skip: Skip
    ) -> Generator[Piece, None, None]:
        """Yield what a file holds behind `skip`, in slices of a batch's size."""
        with closing(self._unpacker.parts(entry, stream)) as parts:
            for part in parts:
                with closing(self._parsed(part, stream, mine, request, skip)) as pieces:
                    for piece in pieces:
                        left = skip.applied(piece)
                        if _holds_rows(left):
                            yield from bounded(_selected(left, request.columns), self._config.batch_rows)

    def _parsed(
        self, part: Part, stream: FileStream, mine: list[FileEntry], request: ReadRequest, skip: Skip
    ) -> Generator[Piece, None, None]:
        if part.format == "parquet":
            from millstream_pipelines.sources._files.parquet import ParquetReader

            yield from ParquetReader(part, stream, self._config.batch_rows).pieces(request.columns, skip)
            return
        if part.format in ("csv", "tsv"):
            pieces = CsvReader(part, stream).pieces()
        else:
            nested = {column.name for column in self._look(stream, mine).schema if column.type == "jsonb"}
            layout = _none if stream.timestamp_format else request.layout
            pieces = JsonReader(part, stream, frozenset(nested), layout).pieces()
        times = self._look(stream, mine).times if stream.timestamp_format else frozenset()
        with closing(pieces):
            for piece in pieces:
                yield Piece(_with_times(piece.data, times, stream.timestamp_format or ""), piece.rejects)

    def _described(self, stream: FileStream, mine: list[FileEntry], entries: list[FileEntry]) -> StreamInfo:
        if not mine:
            raise self._no_match(stream, entries)
        return StreamInfo(stream.name, self._look(stream, mine).schema)

    def _look(self, stream: FileStream, mine: list[FileEntry]) -> Described:
        if stream.name not in self._seen:
            self._seen[stream.name] = describe(mine, stream, self._unpacker)
        return self._seen[stream.name]

    def _stream(self, name: str, entries: list[FileEntry]) -> FileStream:
        known = {stream.name: stream for stream in self._config.streams or _by_name(entries)}
        if name not in known:
            raise unknown_value(self._owner, "stream", name, known)
        return known[name]

    def _of(self, stream: FileStream, entries: list[FileEntry]) -> list[FileEntry]:
        if self._config.streams:
            return [entry for entry in entries if matches(entry.name, stream.glob)]
        return [entry for entry in _named(entries) if stem_of(entry.name) == stream.name]

    def _no_match(self, stream: FileStream, entries: list[FileEntry]) -> ConfigurationError:
        examples = ", ".join(f"'{entry.name}'" for entry in entries[:_EXAMPLES])
        there = f"{len(entries)} files are there, for example {examples}" if entries else "no files are there"
        return ConfigurationError(
            f"{self._owner}: stream '{stream.name}': no file matches '{stream.glob}' under "
            f"'{self._store.shown}'; {there}",
            reason="NoFiles",
        )

    def _check_tagged(self, mine: list[FileEntry]) -> None:
        if any(entry.etag == _UNTAGGED for entry in mine):
            raise ConfigurationError(
                f"{self._owner}: the server of '{self._store.shown}' sends neither ETag nor Last-Modified, so a new "
                "version of the file cannot be told; use mode full"
            )


def _batches(pieces: Iterator[tuple[Piece, Position]]) -> Iterator[Batch]:
    return (Batch(piece.data, None, piece.rejects) for piece, _ in pieces if _holds_rows(piece))


def _positioned(pieces: Iterator[tuple[Piece, Position]]) -> Iterator[Batch]:
    held: tuple[Piece, Position] | None = None
    for piece, position in pieces:
        if held is not None and not _holds_rows(piece):
            # It moves the position of the batch before it, so that a file without rows is not opened again.
            held = held[0], position
            continue
        if held is not None and _holds_rows(held[0]):
            yield Batch(held[0].data, held[1], held[0].rejects)
        held = piece, position
    if held is not None:
        yield Batch(held[0].data, held[1], held[0].rejects)


def _holds_rows(piece: Piece) -> bool:
    return bool(piece.data.num_rows or piece.rejects)


def _by_name(entries: list[FileEntry]) -> list[FileStream]:
    """Return a stream per stem of the files whose format their name tells."""
    return [FileStream(name=stem, glob=f"**/{stem}.*") for stem in sorted({stem_of(e.name) for e in _named(entries)})]


def _named(entries: list[FileEntry]) -> list[FileEntry]:
    return [entry for entry in entries if format_of(entry.name) is not None and matches(entry.name, "**")]


def _selected(piece: Piece, columns: tuple[str, ...]) -> Piece:
    wanted = [name for name in piece.data.schema.names if name in columns or (columns and name == LINE)]
    return Piece(piece.data.select(wanted), piece.rejects) if wanted else piece


def _none() -> None:
    """Know no layout: times in a format of their own are read as text."""


def _with_times(data: pa.RecordBatch, names: frozenset[str], pattern: str) -> pa.RecordBatch:
    for number, name in enumerate(data.schema.names):
        if name in names:
            data = data.set_column(number, name, reformatted(data.column(number), pattern))
    return data


__all__ = ["FilesConfig", "FilesSource"]
