"""Progress: which files are done and how far the current one is. JSON that only `files` understands. Pure.

{"files": {name: etag}, "current": {"name": …, "etag": …, "rows": n, "rejects": {rule: n}}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from millstream_pipelines.batch import Position
from millstream_pipelines.sources._files.entries import FileEntry
from millstream_pipelines.sources._files.piece import Piece, Skip


class Progress:
    """Starts from a committed position, and follows the reading."""

    def __init__(self, position: Position | None) -> None:
        known = position or {}
        self._done: dict[str, str] = dict(known.get("files") or {})
        self._resumed: dict[str, Any] = dict(known.get("current") or {})
        self._entry: FileEntry | None = None
        self._rows = 0
        self._rejects: Counter[str] = Counter()

    def todo(self, entries: Iterable[FileEntry]) -> list[FileEntry]:
        """Return the files that are new or have changed, in order; first the one that was begun.

        A position remembers one begun file. Were an earlier name to come first, its progress would be forgotten.
        """
        fresh = [entry for entry in entries if self._done.get(entry.name) != entry.etag]
        return sorted(fresh, key=lambda entry: not self._was_begun(entry))

    def begin(self, entry: FileEntry) -> Skip:
        """Start a file. Returns what to leave out of it: nothing, unless it is the unchanged current one."""
        self._entry, self._rows, self._rejects = entry, 0, Counter()
        if self._was_begun(entry):
            self._rows = int(self._resumed.get("rows", 0))
            self._rejects = Counter({rule: int(count) for rule, count in self._resumed.get("rejects", {}).items()})
        return Skip(self._rows, Counter(self._rejects))

    def _was_begun(self, entry: FileEntry) -> bool:
        return (self._resumed.get("name"), self._resumed.get("etag")) == (entry.name, entry.etag)

    def advance(self, piece: Piece) -> Position:
        """Count a piece of the current file. Returns the position behind it."""
        self._rows += piece.data.num_rows
        self._rejects.update(reject.rule for reject in piece.rejects)
        if self._entry is None:
            return self.position()
        current = {"name": self._entry.name, "etag": self._entry.etag, "rows": self._rows}
        return {
            **self.position(),
            "current": {**current, **({"rejects": dict(self._rejects)} if self._rejects else {})},
        }

    def finish(self) -> Position:
        """Count the current file as read. Returns the position behind it."""
        if self._entry is not None:
            # A new dict each time: positions already given out must not change.
            self._done = {**self._done, self._entry.name: self._entry.etag}
            self._entry = None
        return self.position()

    def position(self) -> Position:
        """Return the position between files."""
        return {"files": self._done}
