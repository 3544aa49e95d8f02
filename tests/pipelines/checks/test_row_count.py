"""The check `row_count`, on DuckDB and PostgreSQL."""

# ruff: noqa: RUF012 (the suite declares them as class variables)

from __future__ import annotations

from check_databases import OnPostgres
from millstream_pipelines.checks.row_count import RowCount
from millstream_pipelines.testing.check import Database, SetCheckSuite

TABLE = "CREATE TABLE t (n integer)"


class TestRowCount(SetCheckSuite):
    entry_point = "row_count"
    check = RowCount
    config = {"min": 2, "max": 3}
    good = [TABLE, "INSERT INTO t VALUES (1), (2)"]
    bad = [TABLE]
    failed_rows = 2
    finding = "t has 0 rows; 2 to 3 expected"
    bad_config = {"`min`, `max` or both": {"min": None, "max": None}, "larger than": {"min": 9}}

    def test_too_many_rows(self, database: Database) -> None:
        for statement in (TABLE, "INSERT INTO t VALUES (1), (2), (3), (4), (5)"):
            database.execute(statement)
        result = self.bound().evaluate(database.queries, "t")
        assert (result.outcome, result.failed_rows) == ("failed", 2)

    def test_its_own_target_wins(self, database: Database) -> None:
        database.execute(TABLE)
        result = self.bound(target="t", min=0).evaluate(database.queries, "another")
        assert (result.outcome, result.target) == ("passed", "t")


class TestRowCountOnPostgres(OnPostgres, TestRowCount):
    pass
