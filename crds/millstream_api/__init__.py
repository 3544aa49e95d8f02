"""The API: what users write, what the planes hand each other. Knows nobody, does no I/O."""

from millstream_api.kinds import BY_NAME, KINDS, Kind
from millstream_api.meta import API_VERSION, GROUP, VERSION
from millstream_api.retention_options import RETENTION_ENV, Restore, RetentionOptions
from millstream_api.retention_report import PlannedStep, RetentionReport, TableReport
from millstream_api.run_options import RunOptions
from millstream_api.run_plan import Endpoint, RunPlan
from millstream_api.run_report import CheckResult, Drift, ExitCode, RunReport, StreamReport

__all__ = [
    "API_VERSION",
    "BY_NAME",
    "GROUP",
    "KINDS",
    "RETENTION_ENV",
    "VERSION",
    "CheckResult",
    "Drift",
    "Endpoint",
    "ExitCode",
    "Kind",
    "PlannedStep",
    "Restore",
    "RetentionOptions",
    "RetentionReport",
    "RunOptions",
    "RunPlan",
    "RunReport",
    "StreamReport",
    "TableReport",
]
