"""Cursors at their edges, through whole runs: each is handled, or refused with the cure, or told as a warning."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millstream_api import ExitCode, RunOptions, RunReport
from millstream_pipelines.batch import Position
from millstream_pipelines.sources._rest.config import Incremental
from millstream_pipelines.sources._rest.since import Since
from pipeline_runs import Runs
from servers.plugin import postgres_database, postgres_server

__all__ = ["postgres_database", "postgres_server"]

MERGE = {"primaryKey": ["id"], "writeDisposition": "merge", "mode": "incremental"}


def said(report: RunReport) -> list[str]:
    """Return what a run warns about its cursor; the run itself is fine."""
    assert report.exit_code == ExitCode.DONE, report.message
    return [check.message for check in report.checks if check.name == "cursor" and check.severity == "warn"]


class TestPostgres(Runs):
    """Source postgres."""

    def load(self, field: str, options: RunOptions | None = None, **more: Any) -> RunReport:
        return self.run_stream("t", options=options, **MERGE | {"cursor": {"field": field}} | more)

    def ids(self) -> list[int]:
        return [key for (key,) in self.ask("SELECT id FROM raw.t ORDER BY 1")]

    def test_null_cursor_values_are_refused(self) -> None:
        self.source.execute("CREATE TABLE t AS SELECT g AS id, nullif(g % 2, 0) AS rev FROM generate_series(1, 4) g")
        report = self.load("rev")
        assert (report.exit_code, report.reason) == (ExitCode.CHECKS_FAILED, "CursorWithoutValue")
        assert "2 rows have NULL in cursor 'rev'" in report.message
        assert "fill the column" in report.message

    @pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
    @pytest.mark.parametrize("lag", [None, "1h"])
    def test_a_value_of_the_year_9999_hides_nothing(self, kind: str, lag: str | None) -> None:
        cursor = {"cursor": {"field": "at"} | ({"lag": lag} if lag else {})}
        self.source.execute(f"CREATE TABLE t (id int PRIMARY KEY, at {kind})")
        self.source.execute("INSERT INTO t VALUES (1, '2024-01-01'), (2, '9999-12-31')")
        (warning,) = said(self.load("at", **cursor))
        assert "1 rows have a value more than a day ahead of the clock in cursor 'at', up to 9999-12-31" in warning
        self.source.execute("INSERT INTO t VALUES (3, '2024-01-02')")
        assert len(said(self.load("at", **cursor))) == 1
        assert self.ids() == [1, 3]
        self.source.execute("UPDATE t SET at = '2024-01-03' WHERE id = 2")
        assert said(self.load("at", **cursor)) == []
        assert self.ids() == [1, 2, 3]

    def test_a_clock_that_is_some_hours_ahead_is_no_matter(self) -> None:
        self.source.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamp)")
        self.source.execute("INSERT INTO t VALUES (1, now() AT TIME ZONE 'UTC' + interval '14 hours')")
        assert said(self.load("at")) == []
        assert self.ids() == [1]

    def test_a_restored_or_emptied_source_is_told(self) -> None:
        self.source.execute("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 5) g")
        assert said(self.load("id")) == []
        self.source.execute("DELETE FROM t WHERE id > 3")
        (warning,) = said(self.load("id"))
        assert "the largest value of cursor 'id' is 3 now, and 5 has been read" in warning
        assert "run once with fullRefresh" in warning
        self.source.execute("TRUNCATE t")
        (warning,) = said(self.load("id"))
        assert "is none now: the table is empty" in warning
        self.source.execute("INSERT INTO t VALUES (6)")
        assert said(self.load("id")) == []
        assert self.ids() == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize(
        ("before", "after", "using"),
        [("bigint", "text", "rev::text"), ("timestamp", "timestamptz", "rev AT TIME ZONE 'UTC'"),
         ("date", "timestamp", "rev::timestamp")],
    )  # fmt: skip
    def test_a_type_that_changed_under_the_cursor(self, before: str, after: str, using: str) -> None:
        first = "10" if before == "bigint" else "2024-01-10"
        self.source.execute(f"CREATE TABLE t (id int PRIMARY KEY, rev {before})")
        self.source.execute(f"INSERT INTO t VALUES (1, '{first}')")
        self.load("rev")
        self.source.execute(f"ALTER TABLE t ALTER rev TYPE {after} USING {using}")
        report = self.load("rev")
        assert report.exit_code == ExitCode.CONFIGURATION
        assert "cursor 'rev' was a" in report.message
        assert "Run once with fullRefresh" in report.message
        assert self.load("rev", RunOptions(full_refresh=True)).exit_code == ExitCode.DONE
        assert self.load("rev").exit_code == ExitCode.DONE

    def test_a_wider_number_goes_on(self) -> None:
        self.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        self.load("id")
        self.source.execute("ALTER TABLE t ALTER id TYPE bigint; INSERT INTO t VALUES (3000000)")
        assert said(self.load("id")) == []
        assert self.ids() == [1, 3000000]


class TestOthers(Runs):
    """Sources memory and sql."""

    def test_a_list_that_became_shorter_is_told(self) -> None:
        def load(*ids: int) -> RunReport:
            rows = [{"id": key} for key in ids]
            return self.run_stream("t", source=("memory", {"streams": {"t": {"rows": rows}}}), **MERGE)

        assert said(load(1, 2, 3)) == []
        (warning,) = said(load(1, 2))
        assert "3 rows have been read, and the list holds 2" in warning

    def test_sqlite_ahead_of_the_clock_and_gone_back(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.db"
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL)")
        database.execute("INSERT INTO t VALUES (1, '2024-01-05 00:00:00'), (2, '9999-12-31 00:00:00')")
        database.commit()

        def load() -> RunReport:
            config = {"url": f"sqlite:///{path}"}
            return self.run_stream("t", source=("sql", config), **MERGE | {"cursor": {"field": "at"}})

        (warning,) = said(load())
        assert "1 rows have a value more than a day ahead of the clock" in warning
        database.execute("INSERT INTO t VALUES (3, '2024-01-06 00:00:00')")
        database.commit()
        load()
        assert self.ask("SELECT id FROM raw.t ORDER BY 1") == [(1,), (3,)]
        database.execute("DELETE FROM t WHERE id > 1")
        database.commit()
        (warning,) = said(load())
        assert "the largest value of cursor 'at' is 2024-01-05 00:00:00 now, and 2024-01-06 00:00:00" in warning
        database.close()


class TestRest:
    """Source rest: what follows the cursor over pages."""

    @staticmethod
    def since(position: Position | None = None) -> Since:
        return Since(Incremental.model_validate({"param": "since", "field": "at"}), "stream 's'", position, None)

    def test_records_ahead_of_the_clock_do_not_move_the_position(self) -> None:
        since = self.since()
        since.follow([{"at": "2024-01-01T00:00:00Z"}, {"at": "9999-01-01T00:00:00Z"}, {"at": None}, {}])
        assert since.position(at_end=True) == {"cursor": "2024-01-01T00:00:00.000000+00:00"}
        ahead, without = since.doubts()
        assert "1 records have a value more than a day ahead of the clock in 'at'" in ahead
        assert "2 records have no 'at'" in without

    def test_a_little_skew_moves_it(self) -> None:
        since, soon = self.since(), datetime.now(UTC) + timedelta(hours=2)
        since.follow([{"at": soon.isoformat()}])
        assert since.position(at_end=True) == {"cursor": soon.isoformat(timespec="microseconds")}
        assert since.doubts() == []

    def test_a_position_ahead_of_the_clock_is_told(self) -> None:
        (doubt,) = self.since({"cursor": "9999-01-01T00:00:00+00:00"}).doubts()
        assert "run once with fullRefresh" in doubt
