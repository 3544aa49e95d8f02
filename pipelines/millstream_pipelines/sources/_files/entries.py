"""A file as a store lists it, and the error for one that changes under the reader."""

from __future__ import annotations

from dataclasses import dataclass

from millstream_pipelines.errors import RetriableError


@dataclass(frozen=True)
class FileEntry:
    """A file: its name below the url, and a tag that differs whenever its content does."""

    name: str
    etag: str
    size: int | None = None
    """Bytes; None where the server does not say."""


def changed(owner: str, name: str, shown: str) -> RetriableError:
    """Return the error for a file that was written while it was read."""
    return RetriableError(
        f"{owner}: file '{name}' under '{shown}' changed while it was read; the next attempt reads it again",
        reason="SourceChanged",
    )
