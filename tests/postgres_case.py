"""A warehouse case over a real PostgreSQL: each class gets a database, each test a session of its own to look with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from millstream_pipelines.testing.warehouse_case import WarehouseCase
from millstream_pipelines.warehouses.postgres import PostgresWarehouse
from servers.postgres import Postgres


class PostgresCase(WarehouseCase):
    """A case that looks into the server over a session of its own."""

    warehouse = PostgresWarehouse

    @pytest.fixture(scope="class")
    @classmethod
    def database(cls, postgres_server: Postgres) -> Iterator[dict[str, Any]]:
        with postgres_server.fresh_database() as fresh:
            yield fresh.config

    @pytest.fixture
    def config(self, database: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in database.items() if name != "password"} | {"lockTimeoutSeconds": 5}

    @pytest.fixture
    def secret(self, database: dict[str, Any]) -> dict[str, str]:
        return {"password": database["password"]} if database.get("password") else {}

    @pytest.fixture(autouse=True)
    def _looking(self, database: dict[str, Any]) -> Iterator[None]:
        self.database_seen = database
        self.other = self.session()
        self.other.autocommit = True
        yield
        self.other.close()

    def session(self, **changes: Any) -> Any:
        """Open a further session; the test closes it, or the server when the database goes."""
        given = {**self.database_seen, **changes}
        given["dbname"] = given.pop("database")
        return psycopg2.connect(**given)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.other.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def execute(self, sql: str) -> None:
        self.query(sql)
