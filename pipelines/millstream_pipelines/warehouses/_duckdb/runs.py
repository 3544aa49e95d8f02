"""Reports of runs, kept in `_millstream.runs` and `.checks`."""

from __future__ import annotations

from contextlib import suppress

import duckdb

from millstream_api import RunReport


def record(connection: duckdb.DuckDBPyConnection, pipeline: str, run: str, report: RunReport) -> None:
    """Keep a report as the run's next attempt; the checks are those of the last attempt."""
    with suppress(duckdb.Error):  # a run that failed may have left a transaction; its rows were given up
        connection.execute("ROLLBACK")
    connection.execute("BEGIN")
    try:
        connection.execute(
            """
            INSERT INTO _millstream.runs (run, attempt, pipeline, started_at, outcome, exit_code, report)
            SELECT $1, 1 + coalesce(max(attempt), 0), $2, now() - to_milliseconds($3), $4, $5, $6::JSON
            FROM _millstream.runs WHERE run = $1
            """,
            [run, pipeline, int(report.duration_seconds * 1000), report.reason, int(report.exit_code),
             report.model_dump_json(by_alias=True, exclude_none=True)],
        )  # fmt: skip
        connection.execute("DELETE FROM _millstream.checks WHERE run = ?", [run])
        for check in report.checks:
            connection.execute(
                "INSERT INTO _millstream.checks (run, pipeline, target, name, severity, outcome, failed_rows, message) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [run, pipeline, check.target, check.name, check.severity, check.outcome, check.failed_rows,
                 check.message],
            )  # fmt: skip
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
