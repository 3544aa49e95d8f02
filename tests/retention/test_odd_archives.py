"""Archives of tables that PostgreSQL and DuckDB do not read alike by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from retention.policies import FLIGHTS, TABLE, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

AUGUST = {"table": TABLE, "from": "2013-08-01", "to": "2013-09-01"}


def goes_and_comes_back(database: Postgres, folder: Path) -> None:
    before = database.execute("SELECT f::text FROM raw.flights f ORDER BY id")
    report = carried_out(database, spec(folder, grace="0 days"))
    assert report.message.endswith("1 detached, 1 archived and verified, 1 dropped"), report.message
    report = carried_out(database, spec(folder), restore=AUGUST)
    assert report.exit_code == 0, report.message
    assert database.execute("SELECT f::text FROM raw.flights f ORDER BY id") == before


@pytest.mark.parametrize("rows", [100, 0])
def test_columns_whose_names_differ_by_case(rows: int, postgres_database: Postgres, tmp_path: Path) -> None:
    postgres_database.execute(FLIGHTS + '; ALTER TABLE raw.flights ADD COLUMN "Tail" text, ADD COLUMN "TAIL" bigint')
    months(postgres_database, 8, 8)
    postgres_database.execute(f"DELETE FROM raw.flights WHERE id >= {rows}")
    postgres_database.execute("""UPDATE raw.flights SET "Tail" = 'b' || id, "TAIL" = id""")
    goes_and_comes_back(postgres_database, tmp_path)
