"""RunReport: what a runner tells the operator, within the 4 KiB of a termination message; and the exit codes.

The limit is Kubernetes' own for /dev/termination-log (4096 bytes). Details stay in `_millstream` in the warehouse.
"""

from __future__ import annotations

import base64
import json
import zlib
from enum import IntEnum
from typing import Any, Literal

from pydantic import Field, model_validator

from millstream_api.datasource import StreamStatus
from millstream_api.meta import StatusModel
from millstream_api.retention_report import RetentionReport

MAX_REPORT_BYTES = 4096
_PACKED = "retentionPacked"
_MAX_UNPACKED_BYTES = 40 * 1024  # fifty tables and fifty steps are some 30 KiB; it becomes a part of a status


class ExitCode(IntEnum):
    """The number a runner ends with (sysexits), and whether a retry helps."""

    DONE = 0
    CHECKS_FAILED = 65  # EX_DATAERR: the data are wrong; a retry reads the same data
    RETRIABLE = 75  # EX_TEMPFAIL: a retry may succeed
    CONFIGURATION = 78  # EX_CONFIG: someone must change the manifest or the Secret


class StreamReport(StatusModel):
    """One stream's counts: read = loaded + quarantined + duplicate + filtered."""

    name: str = Field(description="Stream name.")
    target: str = Field(default="", description="Target table.")
    read: int = Field(default=0, description="Rows read from the source.")
    loaded: int = Field(default=0, description="Rows written to the target.")
    quarantined: int = Field(default=0, description="Rows set aside.")
    duplicate: int = Field(default=0, description="Rows with the key of a later row, or (scd2) that change nothing.")
    filtered: int = Field(default=0, description="Rows the filter left out.")
    bytes_read: int = Field(default=0, description="Bytes read, as Arrow.")
    deleted: int = Field(
        default=0, description="Rows taken out of the target, or whose validity ended; no part of the sum."
    )
    guarantee: str = Field(default="", description="exactly-once, effectively-once or at-least-once.")
    guarantee_reason: str = Field(default="", description="Why this guarantee, and what would make it stronger.")
    note: str = Field(default="", description="What else is to be said, such as why the stream was left out.")

    def balance(self) -> int:
        """Return read − (loaded + quarantined + duplicate + filtered); 0 when every row is accounted for."""
        return self.read - self.loaded - self.quarantined - self.duplicate - self.filtered


class CheckResult(StatusModel):
    """What one check found."""

    name: str = Field(description="Name of the check.")
    target: str = Field(default="", description="Stream or table it looked at.")
    severity: Literal["error", "warn"] = Field(default="error", description="Severity of the check.")
    outcome: Literal["passed", "failed", "errored", "skipped"] = Field(description="What it found.")
    failed_rows: int = Field(default=0, description="Rows that do not satisfy it.")
    message: str = Field(default="", description="What was seen and what was expected.")
    samples: list[str] = Field(
        default_factory=list,
        max_length=3,
        description="Some of the values that fail, at most 80 characters each; masked columns as `***`.",
    )


class Drift(StatusModel):
    """A change of a stream's shape at its source, and what became of it."""

    stream: str = Field(description="Stream name.")
    column: str = Field(description="Column name.")
    change: Literal["added", "dropped", "widened", "narrowed", "retyped"] = Field(description="What changed.")
    before: str = Field(default="", description="Type before; empty for an added column.")
    after: str = Field(default="", description="Type now; empty for a dropped column.")
    action: str = Field(default="", description="What was done, in a few words, for example `added to raw.flights`.")


class RunReport(StatusModel):
    """The result of one attempt; of a sharded run, of one shard, until one publishes what all have staged."""

    version: int = Field(default=1, description="Version of this document.")
    exit_code: int = Field(description="The exit code of the runner.")
    reason: str = Field(description="CamelCase reason.")
    message: str = Field(default="", description="What happened and what to do.")
    run: str = Field(default="", description="Name of the run.")
    streams: list[StreamReport] = Field(default_factory=list, description="Per stream.")
    totals: StreamReport | None = Field(default=None, description="Sum over all streams, listed or not.")
    checks: list[CheckResult] = Field(default_factory=list, description="Checks that did not pass.")
    checks_run: int = Field(default=0, description="Checks that ran.")
    checks_passed: int = Field(default=0, description="Checks that passed.")
    freshness: str | None = Field(default=None, description="Time of the newest row, RFC 3339 UTC.")
    guarantee: str = Field(default="", description="Weakest guarantee of the streams.")
    duration_seconds: float = Field(default=0, description="How long the attempt took, in seconds.")
    drift: list[Drift] = Field(default_factory=list, description="Changes of the source's shape that this run met.")
    drift_count: int = Field(default=0, description="How many changes there were, listed or not.")
    intervals_done: int = Field(default=0, description="Intervals of a backfill's window that are committed.")
    intervals_total: int = Field(default=0, description="Intervals of a backfill's window.")
    shards: int = Field(default=0, description="Shards of the run; 0 for a run that is one process.")
    published: bool = Field(
        default=False, description="Whether this shard published the run; its counts are those of the whole run."
    )
    discovered: list[StreamStatus] = Field(default_factory=list, description="Streams a probe found.")
    discovered_count: int = Field(default=0, description="How many streams a probe found.")
    server_version: str | None = Field(default=None, description="Version a probed warehouse reports.")
    retention: RetentionReport | None = Field(default=None, description="What a run of a policy found and did.")
    metadata_version: int | None = Field(default=None, description="Version of a probed `_millstream` schema.")

    @model_validator(mode="before")
    @classmethod
    def _unpacked(cls, told: Any) -> Any:
        """Unpack what `fitted` has packed. ValueError when it is damaged."""
        if not isinstance(told, dict) or _PACKED not in told:
            return told
        try:
            engine = zlib.decompressobj()
            text = engine.decompress(base64.b64decode(told[_PACKED]), _MAX_UNPACKED_BYTES)
            return {**told, "retention": json.loads(text)}
        except (zlib.error, TypeError) as error:
            raise ValueError(f"{_PACKED} cannot be unpacked: {error}") from error

    def fitted(self, limit_bytes: int = MAX_REPORT_BYTES) -> bytes:
        """Return the report as JSON of at most `limit_bytes`: passed checks stay in the warehouse, then details
        go, the totals and the message stay. What a policy's run tells is packed (zlib, base64) where that makes it fit.
        """
        report = self.model_copy(deep=True)
        report.message = _clipped(report.message, 1000)
        report.drift_count = max(report.drift_count, len(report.drift))
        report.checks = [check for check in report.checks if check.outcome != "passed"]
        while len(raw := _json(report)) > limit_bytes and len(raw := _packed(report, raw)) > limit_bytes:
            if not _shrink(report):
                kept = {
                    name: getattr(report, name) for name in ("exit_code", "reason", "totals", "shards", "published")
                }
                return RunReport(**kept, message=_clipped(report.message, 300)).fitted(limit_bytes)
        return raw


def _json(report: StatusModel) -> bytes:
    return report.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True).encode()


def _packed(report: RunReport, raw: bytes) -> bytes:
    if report.retention is None or len(told := _json(report.retention)) > _MAX_UNPACKED_BYTES:
        return raw
    packed = base64.b64encode(zlib.compress(told, 9)).decode()
    rest = json.loads(_json(report.model_copy(update={"retention": None})))
    return json.dumps({**rest, _PACKED: packed}, ensure_ascii=False, separators=(",", ":")).encode()


def _clipped(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _shrink(report: RunReport) -> bool:
    """Drop the largest detail in place; False when nothing is left to drop."""
    for stream in report.streams:
        if stream.guarantee_reason:
            stream.guarantee_reason = ""
            return True
    for check in reversed(report.checks):
        if check.samples:
            check.samples = []
            return True
    for check in report.checks:
        if len(check.message) > 120:
            check.message = _clipped(check.message, 120)
            return True
    wide = max(report.discovered, key=lambda stream: len(stream.columns), default=None)
    if wide is not None and len(wide.columns) > 5:
        wide.columns = wide.columns[: max(5, len(wide.columns) // 2)]
        return True
    if report.retention is not None and report.retention.shorten():
        return True
    for details in (report.discovered, report.drift, report.streams, report.checks):
        if details:
            details.pop()
            return True
    return False
