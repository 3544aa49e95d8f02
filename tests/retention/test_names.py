"""Tables and partitions with names that must be quoted, are long, or cannot be told; partitions that are cut again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from retention.policies import carried_out, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

NOW = datetime(2014, 2, 10, 12, tzinfo=UTC)
BY = {"column": "At", "interval": "1 month", "premake": 1}
LONG = "a_table_whose_name_is_as_long_as_postgresql_lets_a_name_be_long"


def made(database: Postgres, table: str, partition: str) -> None:
    database.execute(f'CREATE TABLE raw."{table}" ("At" date NOT NULL, "Id" int, PRIMARY KEY ("At", "Id")) '
                     'PARTITION BY RANGE ("At")')  # fmt: skip
    database.execute(f'CREATE TABLE raw."{partition}" PARTITION OF raw."{table}" '
                     "FOR VALUES FROM ('2013-10-01') TO ('2013-11-01')")  # fmt: skip
    database.execute(f"INSERT INTO raw.\"{table}\" SELECT '2013-10-05', n FROM generate_series(1, 20) n")


@pytest.mark.parametrize(("table", "partition"), [
    ("Flights", "Flights of October"), ("order", "Flüge im Oktober"), (LONG, LONG[:-9] + "_p20131001"),
    ("a$1", "SELECT"),
])  # fmt: skip
def test_names_that_must_be_quoted(table: str, partition: str, postgres_database: Postgres, tmp_path: Path) -> None:
    postgres_database.execute("CREATE SCHEMA raw")
    partition = partition[-63:]
    made(postgres_database, table, partition)
    policy = spec(tmp_path, tables=[{"name": f"raw.{table}", "partitionBy": BY}], grace="0 days")
    report = carried_out(postgres_database, policy, NOW)
    assert (report.exit_code, "1 detached, 1 archived and verified, 1 dropped" in report.message) == (0, True)
    names = postgres_database.execute("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY 1")
    assert len(names) == 3  # January to March: what was just missing, and what is ahead
    assert all(len(name.encode()) <= 63 for (name,) in names)
    back = {"table": f"raw.{table}", "from": "2013-10-05", "to": "2013-10-06"}
    report = carried_out(postgres_database, policy, NOW, restore=back)
    assert (report.exit_code, report.message.count("20 rows")) == (0, 1), report.message
    assert postgres_database.execute(f'SELECT count(*) FROM raw."{partition}"') == [(20,)]


def test_a_name_that_nobody_could_write_is_refused_alone(postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE SCHEMA raw")
    for number, table in enumerate(("a.b", "two words", "fine")):
        made(postgres_database, table, f"p{number}")
    made(postgres_database, "odd", "p.3")
    report = carried_out(postgres_database, spec(tables=[{"schema": "raw"}]), NOW)
    assert report.exit_code == 78
    for name in ("a.b", "two words"):
        assert f"table raw.{name} cannot be managed: its name has characters that no policy can write" in report.message
    assert "partition raw.p.3 has a dot in its name" in report.message
    assert "raw.fine: 1 detached" in report.message


def test_partitions_that_are_cut_again(postgres_database: Postgres, tmp_path: Path) -> None:
    database = postgres_database
    database.execute("CREATE SCHEMA raw; CREATE TABLE raw.t (at date, tenant text, id int) PARTITION BY RANGE (at)")
    database.execute("CREATE TABLE raw.t_1 PARTITION OF raw.t FOR VALUES FROM ('2013-10-01') TO ('2013-11-01') "
                     "PARTITION BY LIST (tenant)")  # fmt: skip
    for tenant in ("a", "b"):
        database.execute(f"CREATE TABLE raw.t_1_{tenant} PARTITION OF raw.t_1 FOR VALUES IN ('{tenant}')")
        database.execute(f"INSERT INTO raw.t SELECT '2013-10-05', '{tenant}', n FROM generate_series(1, 10) n")
    before = database.execute("SELECT * FROM raw.t ORDER BY 1, 2, 3")
    policy = spec(tmp_path, tables=[{"name": "raw.t"}], grace="0 days")
    assert carried_out(database, policy, NOW).message == "raw.t: 1 detached, 1 archived and verified, 1 dropped"
    back = {"table": "raw.t", "from": "2013-10-05", "to": "2013-10-06"}
    report = carried_out(database, policy, NOW, restore=back)
    assert (report.exit_code, database.execute("SELECT * FROM raw.t ORDER BY 1, 2, 3")) == (0, before), report.message


def test_a_table_that_is_renamed_takes_its_records_along(postgres_database: Postgres, tmp_path: Path) -> None:
    """As retention.md says it is done; without the second statement, ranges come back under the old name, beside."""
    database = postgres_database
    database.execute("CREATE SCHEMA raw")
    made(database, "old", "old_10")
    assert carried_out(database, spec(tmp_path, tables=[{"name": "raw.old"}], grace="0 days"), NOW).exit_code == 0
    renamed = spec(tmp_path, tables=[{"name": "raw.new"}])
    database.execute("ALTER TABLE raw.old RENAME TO new")
    range_of_before = {"from": "2013-10-05", "to": "2013-10-06"}
    beside = {"table": "raw.old", "into": "beside"} | range_of_before
    assert "20 rows" in carried_out(database, renamed, NOW, restore=beside).message
    database.execute("UPDATE _millstream.retired SET table_name = 'raw.new' WHERE table_name = 'raw.old'")
    report = carried_out(database, renamed, NOW, restore={"table": "raw.new"} | range_of_before)
    assert (report.exit_code, database.execute("SELECT count(*) FROM raw.new")) == (0, [(20,)]), report.message
    assert carried_out(database, renamed, NOW).exit_code == 0
    erasure = {"table": "raw.new", "where": '"Id" = 7', "reason": "request"}
    report = carried_out(database, spec(tmp_path, tables=[{"name": "raw.new"}], delete=[erasure]), NOW)
    assert report.exit_code == 0, report.message
    assert database.execute("SELECT live_rows, archived_rows FROM _millstream.erasures") == [(1, 1)]
