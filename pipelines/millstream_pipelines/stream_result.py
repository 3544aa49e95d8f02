"""What came of one stream of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from millstream_api import CheckResult, Drift, StreamReport
from millstream_pipelines.warehouses.base import Counts


@dataclass
class StreamResult:
    """What came of a stream."""

    name: str
    target: str
    counts: Counts = field(default_factory=Counts)
    guarantee: str = ""
    guarantee_reason: str = ""
    checks: list[CheckResult] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    note: str = ""
    children: list[StreamReport] = field(default_factory=list)
    intervals_done: int = 0
    intervals_total: int = 0

    def report(self) -> StreamReport:
        """Return it as the report has it."""
        return StreamReport(
            name=self.name,
            target=self.target,
            guarantee=self.guarantee,
            guarantee_reason=self.guarantee_reason,
            note=self.note,
            **{name: getattr(self.counts, name) for name in self.counts.__dataclass_fields__},
        )
