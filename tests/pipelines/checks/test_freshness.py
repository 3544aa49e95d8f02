"""The check `freshness`, on DuckDB and PostgreSQL."""

# ruff: noqa: RUF012 (the suite declares them as class variables)

from __future__ import annotations

import pytest

from check_databases import OnPostgres
from millstream_pipelines.checks.freshness import Freshness
from millstream_pipelines.testing.check import Database, SetCheckSuite

TABLE = "CREATE TABLE t (seen timestamptz)"


class TestFreshness(SetCheckSuite):
    entry_point = "freshness"
    check = Freshness
    config = {"field": "seen", "maxAge": "24h"}
    good = [TABLE, "INSERT INTO t VALUES ('2013-01-01 00:00+00'), (now()), (NULL)"]
    bad = [TABLE, "INSERT INTO t VALUES ('2013-01-01 12:00+02'), (NULL)"]
    finding = "newest value of t.seen is 2013-01-01T10:00:00Z"
    bad_config = {"maxAge": {"maxAge": "a day"}}

    @pytest.mark.parametrize(
        ("kind", "value", "outcome", "words"),
        [
            ("timestamp", "'2013-01-01 10:00'", "failed", "2013-01-01T10:00:00Z"),
            ("date", "'2013-01-02'", "failed", "2013-01-02T00:00:00Z"),
            ("timestamptz", "now() + interval '3 hours'", "passed", "in the future"),
            ("timestamptz", "NULL", "failed", "has no value"),
            ("text", "'yesterday'", "errored", "could not be evaluated"),
        ],
    )
    def test_types(self, database: Database, kind: str, value: str, outcome: str, words: str) -> None:
        for statement in (f"CREATE TABLE t (seen {kind})", f"INSERT INTO t VALUES ({value})"):
            database.execute(statement)
        result = self.bound().evaluate(database.queries, "t")
        assert result.outcome == outcome, result.message
        assert words in result.message


class TestFreshnessOnPostgres(OnPostgres, TestFreshness):
    @pytest.mark.parametrize(("value", "outcome"), [("infinity", "passed"), ("-infinity", "failed")])
    def test_infinity(self, database: Database, value: str, outcome: str) -> None:
        for statement in (TABLE, f"INSERT INTO t VALUES ('{value}')"):
            database.execute(statement)
        result = self.bound().evaluate(database.queries, "t")
        assert result.outcome == outcome
        assert value in result.message
