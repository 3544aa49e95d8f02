"""What the log of a table says: commits, and the state they add up to. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses.base import Counts

FORMAT = 1
"""Of the objects under `_commits` and `_checkpoints`. A reader refuses a larger one."""

GRACE = timedelta(days=1)
"""How long files stay that nothing refers to any more: somebody may be reading them."""

_KEPT_RUNS = 20  # whose counts a state remembers; a retry asks for its own
_DOCUMENT = ConfigDict(frozen=True, extra="ignore")


class StoredFile(BaseModel):
    """An object that a commit refers to; `key` is relative to the table."""

    model_config = _DOCUMENT
    key: str
    size_bytes: int
    rows: int
    sha256: str


class StoredColumn(BaseModel):
    """A column of the table; `type` is SQL in PostgreSQL's words."""

    model_config = _DOCUMENT
    name: str
    type: str


class Attempt(BaseModel):
    """A loader that has had the lease: the folder of its files, and since when."""

    model_config = _DOCUMENT
    id: str
    at: datetime


class StreamState(BaseModel):
    """What is known of one pipeline's stream after a commit of it."""

    model_config = _DOCUMENT
    pipeline: str
    stream: str
    epoch: int = 0
    run: str = ""
    holder: str = ""
    seq: int = 0
    position: Any = None
    refresh_run: str | None = None
    renewed_at: datetime
    runs: dict[str, dict[str, int]] = {}
    """Run → its counts over all attempts, of the last runs that committed."""
    attempts: list[Attempt] = []
    """Loaders of late, whose leftovers are removed by the next."""

    def counts(self, run: str) -> Counts:
        """Return what a run has committed."""
        return Counts(**self.runs.get(run, {}))

    def counted(self, run: str, counts: Counts) -> dict[str, dict[str, int]]:
        """Return `runs` with the counts of one more chunk."""
        total = self.counts(run) + counts
        others = {name: value for name, value in self.runs.items() if name != run}
        kept = dict(list(others.items())[1 - _KEPT_RUNS :])
        return kept | {run: {name: getattr(total, name) for name in total.__dataclass_fields__}}


class LedgerRow(BaseModel):
    """A chunk, as the ledger has it."""

    model_config = _DOCUMENT
    seq: int
    target: str
    counts: dict[str, int]
    content_hash: str
    position: Any = None
    origin: str = "source"


class Commit(BaseModel):
    """One object of the log. Whoever creates number n has committed; all of it is true from then on."""

    model_config = _DOCUMENT
    format: int = FORMAT
    number: int
    id: str
    kind: Literal["lease", "shape", "rows", "refused"]
    at: datetime
    state: StreamState
    columns: list[StoredColumn] | None = None
    """The table's columns from here on; None where they stay."""
    replaces: bool = False
    """All files before are no longer the table's."""
    added: list[StoredFile] = []
    quarantine: list[StoredFile] = []
    ledger: LedgerRow | None = None
    purged: list[str] = []
    """Files that were removed from storage, after their grace."""


class Dropped(BaseModel):
    """A file that a replace took out of the table."""

    model_config = _DOCUMENT
    key: str
    at: datetime


class TableState(BaseModel):
    """The table after commit `number`; also what a checkpoint holds."""

    model_config = _DOCUMENT
    format: int = FORMAT
    number: int = 0
    columns: list[StoredColumn] | None = None
    files: list[StoredFile] = []
    dropped: list[Dropped] = []
    quarantine: list[str] = []
    """Files of set-aside rows, of those attempts whose leftovers somebody may still remove."""
    streams: dict[str, StreamState] = {}

    @property
    def shape(self) -> Schema | None:
        """Return the columns, None while there is no table."""
        return None if self.columns is None else Schema(tuple(Column(item.name, item.type) for item in self.columns))

    def stream(self, pipeline: str, stream: str) -> StreamState:
        """Return what is known of a stream; nothing yet is epoch 0."""
        fresh = StreamState(pipeline=pipeline, stream=stream, renewed_at=datetime.now(UTC))
        return self.streams.get(key_of(pipeline, stream), fresh)

    def after(self, commit: Commit) -> TableState:
        """Return the state that follows."""
        purged = set(commit.purged)
        dropped = [item for item in self.dropped if item.key not in purged]
        if commit.replaces:
            dropped += [Dropped(key=item.key, at=commit.at) for item in self.files]
        streams = self.streams | {key_of(commit.state.pipeline, commit.state.stream): commit.state}
        recent = {attempt.id for state in streams.values() for attempt in state.attempts}
        set_aside = [*self.quarantine, *(item.key for item in commit.quarantine)]
        return self.model_copy(
            update={
                "number": commit.number,
                "columns": self.columns if commit.columns is None else commit.columns,
                "files": [*([] if commit.replaces else self.files), *commit.added],
                "dropped": dropped,
                "quarantine": [key for key in set_aside if key.split("/")[1] in recent],
                "streams": streams,
            }
        )

    def purgeable(self, now: datetime) -> list[str]:
        """Return the files whose grace is over."""
        return [item.key for item in self.dropped if now - item.at > GRACE]

    def referenced(self) -> set[str]:
        """Return every key that this state still speaks of."""
        return {item.key for item in self.files} | {item.key for item in self.dropped} | set(self.quarantine)


def key_of(pipeline: str, stream: str) -> str:
    """Return the name of a stream's state."""
    return f"{pipeline}\n{stream}"


def number_name(number: int) -> str:
    """Return the name of commit `number`: names sort as numbers do."""
    return f"{number:020d}.json"


def path_name(name: str) -> str:
    """Return a name as part of a path: what storage or a file system might mind is `=XX`, byte by byte."""
    escaped = re.sub(r"[^A-Za-z0-9_.$-]", lambda found: "".join(f"={b:02X}" for b in found[0].encode()), name)
    return f"=2E{escaped[1:]}" if escaped.startswith(".") else escaped


def named(part: str) -> str:
    """Return the name that `path_name` was given."""
    raw = re.sub(rb"=([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), part.encode())
    return raw.decode("utf-8", "replace")
