"""Slices of a stream: which of its files each shard reads. Pure; the list is fixed once, for all shards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from millstream_pipelines.errors import DataError
from millstream_pipelines.sources._files.entries import FileEntry


def fixed(entries: Iterable[FileEntry]) -> list[list[Any]]:
    """Return a list of files as JSON."""
    return [[entry.name, entry.etag, entry.size] for entry in entries]


def listed(given: Any) -> list[FileEntry]:
    """Return the files of such a list."""
    return [FileEntry(name, etag, size) for name, etag, size in given]


def share(entries: Iterable[FileEntry], index: int, count: int) -> list[FileEntry]:
    """Return the files of one of `count` shards, in order of name: the largest first, each to whoever has least."""
    loads = [0] * count
    mine = []
    for entry in sorted(entries, key=lambda entry: (-(entry.size or 0), entry.name)):
        least = loads.index(min(loads))
        loads[least] += (entry.size or 0) + 1  # + 1: files without a known size are spread by their number
        if least == index:
            mine.append(entry)
    return sorted(mine, key=lambda entry: entry.name)


def require_same(wanted: Iterable[FileEntry], there: Iterable[FileEntry], owner: str) -> None:
    """Raise DataError when a file is not what it was when the list was fixed."""
    tags = {entry.name: entry.etag for entry in there}
    for entry in wanted:
        if tags.get(entry.name) != entry.etag:
            what = "has changed" if entry.name in tags else "is gone"
            raise DataError(
                f"{owner}: file '{entry.name}' {what} since the shards of this run agreed on the files; "
                "start a new run",
                reason="SourceChanged",
            )
