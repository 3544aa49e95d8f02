"""The check `relationships`, on DuckDB and PostgreSQL."""

# ruff: noqa: RUF012 (the suite declares them as class variables)

from __future__ import annotations

from check_databases import OnPostgres
from millstream_pipelines.checks.relationships import Relationships
from millstream_pipelines.testing.check import SetCheckSuite

TABLES = [
    "CREATE TABLE t (tailnum text)",
    "CREATE TABLE planes (tail text)",
    "INSERT INTO planes VALUES ('N1'), (NULL)",
]


class TestRelationships(SetCheckSuite):
    entry_point = "relationships"
    check = Relationships
    config = {"column": "tailnum", "to": "planes", "field": "tail"}
    good = [*TABLES, "INSERT INTO t VALUES ('N1'), ('N1'), (NULL)"]
    bad = [*TABLES, "INSERT INTO t VALUES ('N1'), ('N2'), ('N2'), ('N3'), (NULL)"]
    failed_rows = 3
    finding = "2 values on 3 rows of t.tailnum are not in planes.tail"
    bad_config = {"field 'to'": {"to": "a.b.c"}}

    def test_the_field_has_the_columns_name_by_default(self) -> None:
        assert self.built(field=None).label == "relationships(tailnum → planes.tailnum)"


class TestRelationshipsOnPostgres(OnPostgres, TestRelationships):
    pass
