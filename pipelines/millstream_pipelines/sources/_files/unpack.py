"""Compression and archives: a stored file becomes parts, each a plain file object with a format. Nothing is held whole.

zip and parquet need seeking. Where the store cannot (http) or the file is compressed, it is spooled to temporary disk,
up to `spoolMegabytes`.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, TypeAlias, cast

import pyarrow as pa

from millstream_pipelines.errors import ConfigurationError, DataError, RetriableError
from millstream_pipelines.sources._files.config import FileStream, Format
from millstream_pipelines.sources._files.entries import FileEntry
from millstream_pipelines.sources._files.names import format_of, matches
from millstream_pipelines.sources._files.store import Store

_MAGIC = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
_CHUNK_BYTES = 1 << 20

_Parts: TypeAlias = "Generator[Part, None, None]"


@dataclass(frozen=True)
class Part:
    """One plain file: a stored file without its compression, or a member of an archive."""

    label: str
    """For messages and rejects: `name`, or `name!member`."""
    where: str
    """For messages: owner, label and url."""
    format: Format
    file: IO[bytes]

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, fewer only at the end; damage of any packing becomes a DataError."""
        found = bytearray()
        with damage_explained(self.where):
            while len(found) < size:
                chunk = self.file.read(size - len(found))
                if not chunk:
                    break
                found += chunk
        return bytes(found)


@contextmanager
def damage_explained(where: str) -> Iterator[None]:
    """Turn what decompressors raise into DataError; real disk errors (they have a number) into RetriableError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, pa.ArrowInvalid) as error:
        raise DataError(f"{where}: the file is damaged or cut short: {error}", reason="DamagedFile") from error
    except OSError as error:
        if error.errno is not None:
            raise RetriableError(f"{where}: reading failed: {error.strerror}") from error
        raise DataError(f"{where}: the file is damaged or cut short: {error}", reason="DamagedFile") from error


class Unpacker:
    """Opens stored files of one source."""

    def __init__(self, store: Store, owner: str, spool_bytes: int) -> None:
        self._store, self._owner, self._spool_bytes = store, owner, spool_bytes

    def parts(self, entry: FileEntry, stream: FileStream) -> _Parts:
        """Yield the parts of a file in order of name; each is closed before the next is opened."""
        raw = self._store.open(entry)
        try:
            yield from self._opened(raw, entry, stream)
        finally:
            with suppress(OSError):
                raw.close()

    def _opened(self, raw: io.RawIOBase, entry: FileEntry, stream: FileStream) -> _Parts:
        where = f"{self._owner}: file '{entry.name}' under '{self._store.shown}'"
        file, kind = _sniffed(raw, stream.compression)
        if kind == "zip":
            yield from self._members(file, entry, stream, where)
            return
        form = stream.format or format_of(entry.name) or self._unknown_format(entry.name, stream)
        if kind in ("gzip", "zstd"):
            with damage_explained(where):
                file = cast("IO[bytes]", pa.CompressedInputStream(pa.PythonFile(file, mode="r"), kind))
        yield from self._part(Part(entry.name, where, form, file))

    def _members(self, file: IO[bytes], entry: FileEntry, stream: FileStream, where: str) -> _Parts:
        with damage_explained(where):
            archive = zipfile.ZipFile(file if file.seekable() else self._spooled(file, where))
        with archive:
            names = {item.filename: item for item in archive.infolist() if not item.is_dir()}
            for name in sorted(name for name in names if matches(name, stream.members) and "__MACOSX/" not in name):
                form = stream.format or format_of(name) or format_of(entry.name) or self._unknown_format(name, stream)
                label = f"{entry.name}!{name}"
                place = f"{self._owner}: file '{label}' under '{self._store.shown}'"
                if names[name].flag_bits & 1:
                    raise ConfigurationError(f"{place} is encrypted; encrypted archives are not supported")
                with damage_explained(place):
                    member = archive.open(names[name])
                with member:
                    yield from self._part(Part(label, place, form, member), spool=True)

    def _part(self, part: Part, spool: bool = False) -> _Parts:
        if part.format != "parquet" or (part.file.seekable() and not spool):
            yield part
            return
        with self._spooled(part.file, part.where) as disk:
            yield Part(part.label, part.where, part.format, disk)

    def _spooled(self, file: IO[bytes], where: str) -> IO[bytes]:
        """Copy to an unnamed temporary file, which the system frees when it is closed."""
        disk = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
        try:
            with damage_explained(where):
                while chunk := file.read(_CHUNK_BYTES):
                    if disk.tell() + len(chunk) > self._spool_bytes:
                        raise ConfigurationError(
                            f"{where} needs seeking and is larger than spoolMegabytes allows "
                            f"({self._spool_bytes >> 20}); raise it and the pod's temporary disk"
                        )
                    disk.write(chunk)
            disk.seek(0)
        except BaseException:
            disk.close()
            raise
        return disk

    def _unknown_format(self, name: str, stream: FileStream) -> Format:
        raise ConfigurationError(
            f"{self._owner}: stream '{stream.name}': the name '{name}' does not tell its format; "
            "set `format` to csv, tsv, json, ndjson or parquet, or narrow `glob`"
        )


def _sniffed(raw: io.RawIOBase, asked: str) -> tuple[IO[bytes], str]:
    """Return the file, still at its start, and its packing: as asked, or as its first bytes say."""
    if asked != "auto":
        return cast("IO[bytes]", raw), asked
    head = b""
    while len(head) < 4 and (chunk := raw.read(4 - len(head))):
        head += chunk
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "none")
    if raw.seekable():
        raw.seek(0)
        return cast("IO[bytes]", raw), kind
    return cast("IO[bytes]", _Prefixed(head, raw)), kind


class _Prefixed(io.RawIOBase):
    """A forward-only file with the bytes that were already taken from it put back in front."""

    def __init__(self, head: bytes, rest: io.RawIOBase) -> None:
        super().__init__()
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._head:
            return cast("int | None", self._rest.readinto(buffer))
        chunk, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)
