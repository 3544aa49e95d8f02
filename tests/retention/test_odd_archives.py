"""Archives of tables that PostgreSQL and DuckDB do not read alike by themselves."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
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


@pytest.fixture(params=["LATIN1", "WIN1252", "EUC_JP", "UTF8"])
def encoded(request: pytest.FixtureRequest, postgres_server: Postgres) -> Iterator[Postgres]:
    """An empty database of an encoding."""
    name = f"test_{secrets.token_hex(4)}"
    postgres_server.execute(f"CREATE DATABASE {name} ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0")
    try:
        yield replace(postgres_server, database=name)
    finally:
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_database_of_another_encoding(encoded: Postgres, tmp_path: Path) -> None:
    encoded.execute(FLIGHTS)
    months(encoded, 8, 8)
    ((encoding,),) = encoded.execute("SHOW server_encoding")
    letters = {"LATIN1": ("é", "ÿ"), "WIN1252": ("é", "€"), "EUC_JP": ("日本", "ｱ"), "UTF8": ("é", "€")}[encoding]
    for number, letter in enumerate(letters):  # by their bytes in the server, in another order than in UTF-8
        encoded.execute(f"UPDATE raw.flights SET tail = '{letter}' WHERE id = {number}")
    goes_and_comes_back(encoded, tmp_path)


@pytest.mark.parametrize("rows", [100, 0])
def test_columns_whose_names_differ_by_case(rows: int, postgres_database: Postgres, tmp_path: Path) -> None:
    postgres_database.execute(FLIGHTS + '; ALTER TABLE raw.flights ADD COLUMN "Tail" text, ADD COLUMN "TAIL" bigint')
    months(postgres_database, 8, 8)
    postgres_database.execute(f"DELETE FROM raw.flights WHERE id >= {rows}")
    postgres_database.execute("""UPDATE raw.flights SET "Tail" = 'b' || id, "TAIL" = id""")
    goes_and_comes_back(postgres_database, tmp_path)
