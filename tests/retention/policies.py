"""Policies and their runs, as a pod would do them, at a moment that the test chooses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millstream_api import Endpoint, RunPlan, RunReport
from millstream_api.retention_options import RetentionOptions
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.retention.request import RetentionRequest
from millstream_pipelines.retention.run import retain
from servers.postgres import Postgres

TABLE = "raw.flights"
FLIGHTS = """
CREATE SCHEMA raw;
CREATE TABLE raw.flights (time_hour timestamptz NOT NULL, id bigint NOT NULL, tail text, PRIMARY KEY (time_hour, id))
  PARTITION BY RANGE (time_hour)
"""
NOW = datetime(2014, 2, 10, 12, tzinfo=UTC)


def spec(folder: Path | None = None, **more: Any) -> RetentionPolicySpec:
    """Return a policy for `raw.flights`: by month in New York, thirteen months, archived in a folder."""
    table = {
        "name": TABLE,
        "partitionBy": {"column": "time_hour", "interval": "1 month", "timeZone": "America/New_York"},
    }
    given: dict[str, Any] = {"warehouseRef": {"name": "dw"}, "tables": [table], "keep": {"age": "3 months"}}
    if folder is not None:
        given["archive"] = {"url": f"file://{folder}"}
    return RetentionPolicySpec.model_validate(given | more)


def carried_out(
    database: Postgres,
    policy: RetentionPolicySpec,
    now: datetime = NOW,
    secret: dict[str, str] | None = None,
    patience_s: float = 0.0,
    **options: Any,
) -> RunReport:
    """Carry out a policy and return what a pod would report."""
    plan = RunPlan(
        action="retain", namespace="default", name="keep", policy=policy,
        warehouse=Endpoint(name="dw", type="postgres", config=database.config),
    )  # fmt: skip
    chosen = RetentionOptions.model_validate(options)
    return retain(RetentionRequest(plan, {"archive": secret or {}}, "run-1", chosen, now, patience_s))


def months(database: Postgres, first: int, last: int) -> None:
    """Make a partition for each month of 2013 (13: January 2014) with 100 rows, as New York counts them."""
    for month in range(first, last + 1):
        start, end = (f"{2013 + (m - 1) // 12}-{(m - 1) % 12 + 1:02}-01 America/New_York" for m in (month, month + 1))
        name = f"raw.flights_p{2013 + (month - 1) // 12}{(month - 1) % 12 + 1:02}01"
        database.execute(f"CREATE TABLE {name} PARTITION OF raw.flights FOR VALUES FROM ('{start}') TO ('{end}')")
        database.execute(
            f"INSERT INTO raw.flights SELECT '{start}'::timestamptz + g * interval '6 hours', g, 'N' || g "
            "FROM generate_series(0, 99) g"
        )


def attached(database: Postgres) -> list[str]:
    """Return the names of the attached partitions."""
    rows = database.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'raw.flights'::regclass ORDER BY 1"
    )
    return [row[0].removeprefix("raw.flights_") for row in rows]
