"""The check `unique`, on DuckDB and PostgreSQL."""

# ruff: noqa: RUF012 (the suite declares them as class variables)

from __future__ import annotations

from check_databases import OnPostgres
from millstream_pipelines.checks.unique import Unique
from millstream_pipelines.testing.check import Database, SetCheckSuite

TABLE = 'CREATE TABLE t (a integer, "B c" text)'


class TestUnique(SetCheckSuite):
    entry_point = "unique"
    check = Unique
    config = {"columns": ["a", "B c"]}
    good = [TABLE, "INSERT INTO t VALUES (1, 'x'), (1, 'y'), (1, NULL), (1, NULL)"]
    bad = [TABLE, "INSERT INTO t VALUES (1, 'x'), (1, 'x'), (1, 'x'), (2, 'y'), (2, 'y'), (3, 'z')"]
    failed_rows = 5
    finding = "2 values occur more than once, on 5 rows, in t (a, B c)"
    bad_config = {"`column` or `columns`": {"columns": []}}

    def test_an_empty_table_repeats_nothing(self, database: Database) -> None:
        database.execute(TABLE)
        assert self.bound(columns=[], column="a").evaluate(database.queries, "t").outcome == "passed"


class TestUniqueOnPostgres(OnPostgres, TestUnique):
    pass
