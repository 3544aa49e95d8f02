"""The kinds: one row each, from which CRDs, clients and docs are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from millstream_api.datasource import DataSourceSpec, DataSourceStatus
from millstream_api.meta import ApiModel, ConditionedStatus
from millstream_api.pipeline import PipelineSpec, PipelineStatus
from millstream_api.pipelinerun import PipelineRunSpec, PipelineRunStatus
from millstream_api.retention_report import RetentionPolicyStatus
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_api.warehouse import WarehouseSpec, WarehouseStatus

Column = tuple[str, str, str]  # header, type, JSON path


@dataclass(frozen=True)
class Kind:
    """What the API server and the clients need to know of a kind."""

    name: str
    plural: str
    short: str
    spec: type[ApiModel]
    status: type[ConditionedStatus]
    doc: str
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    rules: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)  # path in spec → (CEL rule, message)

    @property
    def singular(self) -> str:
        """The stem: file names, handlers and tests carry it too."""
        return self.name.lower()


_READY: Column = ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status')
_REASON: Column = ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason')
_FOLLOWS = "has(self.deletes.column) || has(self.deletes.reconcileEvery)"
_KEYED = "self.writeDisposition in ['merge', 'scd2']"
_HAS_KEY = "(has(self.primaryKey) && size(self.primaryKey) > 0)"
_SAME = "has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
# Two whole numbers, or two days; the hours of one day are compared by the models.
_FORWARD = (
    "self.from != self.to && (self.from.matches('^-?[0-9]+$') && self.to.matches('^-?[0-9]+$') ? "
    "int(self.from) < int(self.to) : self.from.substring(0, 10) <= self.to.substring(0, 10))"
)
_DISK = ("has(self.diskPressure) == has(self.diskSize)", "diskPressure and diskSize go together")
_AGE: Column = ("Age", "date", ".metadata.creationTimestamp")

KINDS: tuple[Kind, ...] = (
    Kind(
        "DataSource",
        "datasources",
        "ds",
        DataSourceSpec,
        DataSourceStatus,
        "Where data come from.",
        (
            ("Type", "string", ".spec.type"),
            ("Streams", "integer", ".status.streamCount"),
            ("Probed", "date", ".status.lastProbeTime"),
            _READY,
            _REASON,
            _AGE,
        ),
        (".spec.type",),
        {"": (("self.type == oldSelf.type", "type is immutable; make a new DataSource"),)},
    ),
    Kind(
        "Warehouse",
        "warehouses",
        "wh",
        WarehouseSpec,
        WarehouseStatus,
        "Where data go.",
        (
            ("Type", "string", ".spec.type"),
            ("Version", "string", ".status.serverVersion"),
            ("Probed", "date", ".status.lastProbeTime"),
            _READY,
            _REASON,
            _AGE,
        ),
        (".spec.type",),
        {"": (("self.type == oldSelf.type", "type is immutable; make a new Warehouse"),)},
    ),
    Kind(
        "Pipeline",
        "pipelines",
        "pl",
        PipelineSpec,
        PipelineStatus,
        "Source to checked rows in the warehouse, on a schedule or on demand.",
        (
            ("Schedule", "string", ".spec.schedule.cron"),
            ("Last Run", "date", ".status.lastRun.finishedAt"),
            ("Outcome", "string", ".status.lastRun.outcome"),
            ("Rows", "integer", ".status.lastRun.rowsLoaded"),
            ("Newest Row", "date", ".status.freshness"),
            ("Quality", "string", ".status.quality"),
            _READY,
            _REASON,
            _AGE,
        ),
        (".spec.sourceRef.name", ".spec.warehouseRef.name"),
        {
            "streams[]": (
                (
                    f"!({_KEYED}) || {_HAS_KEY}",
                    "writeDisposition merge and scd2 need primaryKey",
                ),
                (
                    f"!has(self.deletes) || !({_FOLLOWS}) || {_KEYED}",
                    "deletes needs writeDisposition merge or scd2",
                ),
                (
                    f"!has(self.nested) || self.nested.lists != 'tables' || {_HAS_KEY}",
                    "nested.lists tables needs primaryKey",
                ),
                (
                    "self.writeDisposition != 'replace' || self.mode == 'full'",
                    "writeDisposition replace needs mode full",
                ),
                (
                    (
                        "!has(self.cursor) || !has(self.cursor.lag) || self.writeDisposition == 'merge' || "
                        "(self.writeDisposition == 'scd2' && has(self.scd2) && has(self.scd2.effectiveAt))"
                    ),
                    "cursor.lag reads rows again and needs writeDisposition merge, or scd2 with scd2.effectiveAt",
                ),
            ),
            "streams[].columns[]": (
                ("!(has(self.source) && has(self.expression))", "give source or expression, not both"),
            ),
            "transforms[]": (
                (
                    "self.materialize != 'incremental' || (has(self.primaryKey) && size(self.primaryKey) > 0)",
                    "materialize incremental needs primaryKey",
                ),
            ),
        },
    ),
    Kind(
        "PipelineRun",
        "pipelineruns",
        "plr",
        PipelineRunSpec,
        PipelineRunStatus,
        "One execution of a Pipeline, or a restore of what a RetentionPolicy has archived.",
        (
            ("Pipeline", "string", ".spec.pipelineRef.name"),
            ("Policy", "string", ".spec.policyRef.name"),
            ("Trigger", "string", ".spec.trigger"),
            ("Phase", "string", ".status.phase"),
            ("Done", "string", ".status.progress"),
            ("Read", "integer", ".status.rowsRead"),
            ("Loaded", "integer", ".status.rowsLoaded"),
            ("Quarantined", "integer", ".status.rowsQuarantined"),
            ("Seconds", "number", ".status.durationSeconds"),
            _AGE,
        ),
        (".spec.pipelineRef.name", ".spec.policyRef.name", ".spec.trigger", ".status.phase"),
        {
            "": (
                ("self.trigger == oldSelf.trigger", "trigger is immutable; make a new PipelineRun"),
                ("self.fullRefresh == oldSelf.fullRefresh", "fullRefresh is immutable; make a new PipelineRun"),
                *(
                    (_SAME.format(name=name), f"{name} is immutable; make a new PipelineRun")
                    for name in (
                        "pipelineRef",
                        "policyRef",
                        "restore",
                        "window",
                        "streams",
                        "replay",
                        "maxRowsPerSecond",
                        "scheduledFor",
                    )
                ),
                (
                    "has(self.pipelineRef) != has(self.policyRef)",
                    "give pipelineRef or, with trigger restore, policyRef; one of them",
                ),
                (
                    "has(self.policyRef) == (self.trigger == 'restore') && has(self.restore) == has(self.policyRef)",
                    "policyRef, restore and trigger restore go together: give all or none",
                ),
                (
                    (
                        "!has(self.policyRef) || !(self.fullRefresh || has(self.maxRowsPerSecond) || "
                        "(has(self.streams) && size(self.streams) > 0))"
                    ),
                    "streams, fullRefresh and maxRowsPerSecond do not go with trigger restore",
                ),
                (
                    "has(self.window) == (self.trigger == 'backfill')",
                    "window and trigger backfill go together: give both or neither",
                ),
                ("!has(self.replay) || self.trigger == 'replay'", "replay needs trigger replay"),
                (
                    "!self.fullRefresh || !(self.trigger in ['backfill', 'replay'])",
                    "fullRefresh does not go with trigger backfill or replay",
                ),
                ("!oldSelf.cancel || self.cancel", "a cancelled run stays cancelled; make a new PipelineRun"),
            ),
            "window": (
                ("!(has(self.interval) && has(self.step))", "give interval or step, not both"),
                ("self.from != self.to", "from must be before to"),
            ),
            "restore": ((_FORWARD, "from must be before to"),),
        },
    ),
    Kind(
        "RetentionPolicy",
        "retentionpolicies",
        "rp",
        RetentionPolicySpec,
        RetentionPolicyStatus,
        "Partitions made ahead, how long rows stay, where they go.",
        (
            ("Warehouse", "string", ".spec.warehouseRef.name"),
            ("Keep", "string", ".spec.keep.age"),
            ("Schedule", "string", ".spec.schedule.cron"),
            ("Live", "integer", ".status.live"),
            ("Archived", "integer", ".status.archived"),
            ("Dropped", "integer", ".status.dropped"),
            ("Plan", "string", ".status.plan.digest"),
            ("Blocked", "integer", ".status.plan.blocked"),
            ("Last Run", "date", ".status.lastRun.finishedAt"),
            ("Outcome", "string", ".status.lastRun.outcome"),
            _READY,
            _REASON,
            _AGE,
        ),
        (".spec.warehouseRef.name",),
        {
            "tables[]": (
                ("has(self.name) != (has(self.schema) || has(self.tag))", "give name, or else schema, tag or both"),
            ),
            "keep": (_DISK,),
            "tables[].keep": (_DISK,),
            "archive": (
                (
                    "!has(self.volumeClaim) || self.url.startsWith('file:///')",
                    "volumeClaim is mounted at the folder of url: give one such as file:///archive",
                ),
            ),
            "holds[]": ((f"!has(self.from) || !has(self.to) || ({_FORWARD})", "from must be before to"),),
        },
    ),
)

BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}
