"""What a report is about, read from the warehouse once; drawing needs no connection."""

from __future__ import annotations

from dataclasses import dataclass, field

from millstream_pipelines.endpoints import open_warehouse
from millstream_pipelines.manifests import Planned
from millstream_pipelines.metadata import Metadata, Row
from millstream_pipelines.selection import Selection

_RUNS = 20  # attempts in the history
_SAMPLES = 3  # quarantined rows shown per stream and rule
_SAMPLED_RULES = 20


@dataclass(frozen=True)
class Facts:
    """One pipeline: runs (newest first), sums per stream, checks by run, quarantine.

    `checks` has the newest run and the newest that read rows: a run that found nothing new says little of the rows.
    """

    pipeline: str
    source: str
    warehouse: str
    runs: list[Row] = field(default_factory=list)
    streams: list[Row] = field(default_factory=list)
    checks: dict[str, list[Row]] = field(default_factory=dict)
    quarantine: list[Row] = field(default_factory=list)
    samples: list[Row] = field(default_factory=list)

    @property
    def last(self) -> Row | None:
        """The newest attempt."""
        return self.runs[0] if self.runs else None


def gathered(planned: Planned) -> Facts:
    """Read the facts of a pipeline."""
    plan = planned.plan
    name = f"{plan.namespace}/{plan.name}"
    source, target = (f"{end.name} ({end.type})" if end is not None else "" for end in (plan.source, plan.warehouse))
    warehouse = open_warehouse(plan.warehouse, planned.secrets.get("warehouse", {}))
    try:
        metadata = Metadata(warehouse, name)
        if not metadata.exists():
            return Facts(name, source, target)
        runs = metadata.runs(_RUNS)
        counts = metadata.quarantine_counts()
        samples: list[Row] = []
        for row in counts[:_SAMPLED_RULES]:
            samples += metadata.quarantined(_SAMPLES, Selection(name, (row["stream"],), row["rule"]))
        read = [run["run"] for run in runs if (run["report"].get("totals") or {}).get("read")]
        checks = {name: metadata.checks(name) for name in dict.fromkeys([*(run["run"] for run in runs[:1]), *read[:1]])}
        return Facts(name, source, target, runs, metadata.streams(), checks, counts, samples)
    finally:
        warehouse.close()
