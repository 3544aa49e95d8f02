"""Whether the ledger says what a run saw itself commit. Pure.

The warehouse has closed each chunk's sum before its commit; this looks back once, when a stream is done, and would see
a ledger that lost or changed a chunk: a trigger, a rule, a person, a restored table.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from millstream_pipelines.errors import DataError
from millstream_pipelines.warehouses.base import Chunk, Counts


@dataclass
class Accounts:
    """What one attempt at a stream has committed, chunk by chunk."""

    owner: str
    chunks: list[Counts] = field(default_factory=list)

    def committed(self, counts: Counts) -> None:
        """Note a chunk that was committed."""
        self.chunks.append(counts)

    def verify(self, entered: list[Chunk]) -> None:
        """Compare with the ledger's chunks of this attempt, in order. DataError names the chunk and the difference."""
        for chunk in entered:
            counts = chunk.counts
            gap = counts.read - counts.loaded - counts.quarantined - counts.duplicate - counts.filtered
            if gap:
                raise self._gap(f"chunk {chunk.seq}: {counts.read} rows were read but {gap} are not accounted for")
        for place, mine in enumerate(self.chunks):
            if place >= len(entered):
                missing = len(self.chunks) - len(entered)
                raise self._gap(
                    f"{missing} of {len(self.chunks)} chunks that were committed are not in the ledger; the first "
                    f"missing one has {mine.read} rows read"
                )
            theirs = entered[place]
            if theirs.counts.read != mine.read:
                raise self._gap(
                    f"chunk {theirs.seq}: {mine.read} rows were read and committed, the ledger says "
                    f"{theirs.counts.read}, a difference of {mine.read - theirs.counts.read}"
                )
        if len(entered) > len(self.chunks):
            extra = entered[len(self.chunks)]
            raise self._gap(f"chunk {extra.seq} is in the ledger, but this attempt did not commit it")

    def _gap(self, what: str) -> DataError:
        return DataError(
            f"{self.owner}: {what}; look for triggers or rules on _millstream.ledger and compare target and source "
            "(`millstream status --ledger`); a retry changes nothing",
            reason="AccountingGap",
        )
