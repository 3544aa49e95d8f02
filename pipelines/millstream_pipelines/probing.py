"""A probe: is the other side there, and what does it hold? The report becomes the status of its object."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from millstream_api import ExitCode, RunReport
from millstream_api.datasource import ColumnStatus, StreamStatus
from millstream_pipelines.endpoints import open_source, open_warehouse
from millstream_pipelines.errors import as_millstream
from millstream_pipelines.runner import RunRequest

if TYPE_CHECKING:
    from millstream_pipelines.sources.base import StreamInfo

_MAX_STREAMS, _MAX_COLUMNS = 50, 100  # what a status holds; the counts are exact


def probe(request: RunRequest) -> RunReport:
    """Probe the source or the warehouse of a plan. Errors become the report's exit code, reason and message."""
    started = time.monotonic()
    try:
        report = _source(request) if request.plan.action == "probe-source" else _warehouse(request)
    except Exception as error:  # the edge of the engine: everything becomes a report
        failure = as_millstream(error)
        report = RunReport(exit_code=failure.exit_code, reason=failure.reason, message=str(failure))
    report.run = request.run
    report.duration_seconds = round(time.monotonic() - started, 3)
    return report


def _source(request: RunRequest) -> RunReport:
    source = open_source(request.plan.source, request.secrets.get("source", {}))
    try:
        streams = source.streams()
    finally:
        source.close()
    return RunReport(
        exit_code=ExitCode.DONE,
        reason="ProbeSucceeded",
        message=f"{len(streams)} streams",
        discovered=[_status(info) for info in streams[:_MAX_STREAMS]],
        discovered_count=len(streams),
    )


def _status(info: StreamInfo) -> StreamStatus:
    columns = [ColumnStatus(name=item.name, type=item.type, nullable=item.nullable) for item in info.schema]
    return StreamStatus(
        name=info.name,
        columns=columns[:_MAX_COLUMNS],
        column_count=len(columns),
        primary_key=list(info.schema.primary_key),
    )


def _warehouse(request: RunRequest) -> RunReport:
    warehouse = open_warehouse(request.plan.warehouse, request.secrets.get("warehouse", {}))
    try:
        info = warehouse.probe()
    finally:
        warehouse.close()
    return RunReport(
        exit_code=ExitCode.DONE,
        reason="ProbeSucceeded",
        message=f"version {info.server_version}",
        server_version=info.server_version,
        metadata_version=info.metadata_version,
    )
