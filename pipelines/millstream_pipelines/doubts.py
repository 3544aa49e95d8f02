"""What looks wrong about a stream's cursor: told as warnings of the run, since only a person can judge it."""

from __future__ import annotations

from millstream_api import CheckResult
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.sources.base import ReadRequest, Source, doubts_of


def doubts(source: Source, request: ReadRequest) -> list[CheckResult]:
    """Ask the source after an incremental read; what it cannot tell does not fail the run, whose rows are committed."""
    if request.mode == "full" or request.range is not None:
        return []
    try:
        return [
            CheckResult(name="cursor", severity="warn", outcome="failed", message=message)
            for message in doubts_of(source, request)
        ]
    except MillstreamError as error:
        return [CheckResult(name="cursor", severity="warn", outcome="errored", message=str(error))]
