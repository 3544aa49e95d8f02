"""What a stream's run has seen, in all and since the last commit. A step back forgets what is not committed."""

from __future__ import annotations

import time
from collections.abc import Iterable

from millstream_pipelines.batch import MAX_BATCH_ROWS, Position, Reject
from millstream_pipelines.warehouses.base import Counts, StreamLoad
from millstream_pipelines.warehouses.optional import CostlyCommits

# A commit costs a flush, and the reader waits until the server has taken all rows before it: every 50,000 rows, a fifth
# of a load was waiting. Small batches ask for many commits.
_COMMIT_ROWS = 250_000 if MAX_BATCH_ROWS == 100_000 else min(50_000, MAX_BATCH_ROWS)
_COMMIT_SECONDS = 10.0
_MAX_REFUSED = 1000  # rows kept for triage when a whole chunk is refused; the source still has them all


class Seen:
    """Counts of one stream's run. `total` is known before the warehouse has taken anything."""

    def __init__(self) -> None:
        self.commit_rows, self.commit_seconds = _COMMIT_ROWS, _COMMIT_SECONDS
        self.total = Counts()
        self.position: Position | None = None
        """Of the last commit: where reading goes on after a step back."""
        self._committed = Counts()
        self._forget()

    def _forget(self) -> None:
        self.pending = False
        """Whether anything waits for a commit."""
        self.refused: list[Reject] = []
        """The first rows set aside since the last commit."""
        self._rows = self._quarantined = 0
        self._since_s = time.monotonic()

    def took(self, counts: Counts, kept: Iterable[Reject] = ()) -> None:
        """Count rows, and those of them that are set aside."""
        self.total += counts
        self.pending = True
        self._rows += counts.read
        self._quarantined += counts.quarantined
        self.refused += list(kept)[: _MAX_REFUSED - len(self.refused)]

    def heard(self, counts: Counts) -> None:
        """Take the warehouse's counts since the last commit: it may have set rows aside itself."""
        late = counts.quarantined - self._quarantined
        self._quarantined += late
        self.total += Counts(quarantined=late)

    @property
    def commit_is_due(self) -> bool:
        """Whether enough has gathered for a commit."""
        return self._rows >= self.commit_rows or time.monotonic() - self._since_s >= self.commit_seconds

    def committed(self, position: Position | None) -> None:
        """Everything so far is committed."""
        self.position = position or self.position
        self._committed = self.total
        self._forget()

    def paced(self, load: StreamLoad) -> None:
        """Take over how much a commit of this load is worth."""
        if isinstance(load, CostlyCommits):
            self.commit_rows, self.commit_seconds = load.commit_rows, load.commit_seconds

    def step_back(self) -> None:
        """What is not committed was never seen."""
        self.total = self._committed
        self._forget()
