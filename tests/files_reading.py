"""How the tests of the files source open it and look at what it reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from millstream_pipelines.batch import Batch, Position, Reject
from millstream_pipelines.registry import configured
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.sources.files import FilesSource

OWNER = "source 'files'"


@contextmanager
def opened(url: str | Path, secret: dict[str, str] | None = None, **config: Any) -> Iterator[FilesSource]:
    """Open a source on a url."""
    source = FilesSource(configured(FilesSource.Config, {"url": str(url), **config}, secret or {}, OWNER), OWNER)
    try:
        yield source
    finally:
        source.close()


def batches(url: str | Path, position: Position | None = None, mode: Any = "incremental", **stream: Any) -> list[Batch]:
    """Read the one stream that `stream` describes."""
    with opened(url, streams=[{"name": "s", **stream}]) as source:
        return list(source.read(ReadRequest("s", mode=mode, position=position)))


def rows(read: list[Batch]) -> list[dict[str, Any]]:
    """Return the parsed rows."""
    return [row for batch in read for row in batch.data.to_pylist()]


def rejects(read: list[Batch]) -> list[Reject]:
    """Return the refused rows."""
    return [reject for batch in read for reject in batch.rejects]


def described(url: str | Path, **stream: Any) -> dict[str, str]:
    """Return column → type of the one stream that `stream` describes."""
    with opened(url, streams=[{"name": "s", **stream}]) as source:
        return {column.name: column.type for column in source.describe("s").schema}
