"""Errors of the source `postgres` say whose turn it is, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from millstream_pipelines.errors import ConfigurationError, DataError, RetriableError
from millstream_pipelines.sources.base import ReadRequest
from postgres_reading import OWNER, Sql, config_of, read, running_sql, source
from servers.postgres import Postgres


@pytest.fixture
def database(postgres_database: Postgres) -> dict[str, Any]:
    """Return the configuration that reaches an empty database."""
    return config_of(postgres_database)


@pytest.fixture
def sql(database: dict[str, Any]) -> Iterator[Sql]:
    """Return a function that runs SQL as the owner."""
    with running_sql(database) as run:
        yield run


def test_wrong_password_names_the_key_not_the_value(database: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        source(database, password="not-the-one-73").streams()
    assert "key 'password'" in str(caught.value)
    assert str(database["host"]) in str(caught.value)
    assert "not-the-one-73" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="no_such_db"):
        source(database, database="no_such_db").streams()


def test_unreachable_servers_are_retried(database: dict[str, Any]) -> None:
    for change in ({"host": "no-such-host.invalid"}, {"port": 1}):
        with pytest.raises(RetriableError, match=OWNER):
            source(database, **change).streams()
    with pytest.raises(ConfigurationError, match="sslmode is 'require'"):
        source(database, sslmode="require").streams()
    with pytest.raises(ConfigurationError, match="options are libpq"):
        source(database, options={"colour": "blue"}).streams()


@pytest.fixture
def reader(sql: Sql) -> Iterator[dict[str, str]]:
    name = f"reader_{sql('SELECT current_database()')[0][0]}"
    sql(f"CREATE ROLE {name} LOGIN PASSWORD 'read-only-7'")
    yield {"user": name, "password": "read-only-7"}
    sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_missing_permissions_say_the_grant(database: dict[str, Any], sql: Sql, reader: dict[str, str]) -> None:
    sql("CREATE SCHEMA s; CREATE TABLE s.t (x int, secret text); CREATE TABLE open (x int)")
    config = {**database, **reader}
    with pytest.raises(ConfigurationError, match='GRANT USAGE ON SCHEMA "s" TO "reader_'):
        read(config, "s.t")
    sql(f"GRANT USAGE ON SCHEMA s TO {reader['user']}")
    with pytest.raises(ConfigurationError, match=r'GRANT SELECT ON "s"\."t" TO "reader_'):
        read(config, "s.t")
    assert source(config).streams() == []
    sql(f"GRANT SELECT (x) ON s.t TO {reader['user']}")
    assert source(config).describe("s.t").schema.names == ["x"]
    assert read(config, "s.t") == []
    hidden = {**config, "streams": [{"name": "q", "query": "SELECT * FROM open"}]}
    with pytest.raises(ConfigurationError, match=r'permission denied.*GRANT SELECT ON .* TO "reader_'):
        read(hidden, "q")


def test_row_security_never_hides_rows_in_silence(database: dict[str, Any], sql: Sql, reader: dict[str, str]) -> None:
    sql("CREATE TABLE t AS SELECT 1 AS x; ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    sql(f"GRANT SELECT ON t TO {reader['user']}")
    with pytest.raises(ConfigurationError, match="BYPASSRLS"):
        read({**database, **reader}, "t")
    assert read({**database, **reader, "rowSecurity": True}, "t") == []


def test_a_connection_lost_in_mid_read_is_no_end_of_data(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE TABLE t AS SELECT g, repeat('x', 200) AS pad FROM generate_series(1, 400000) g")
    opened = source(database)
    rows = opened.read(ReadRequest("t"))
    next(rows)
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^COPY' AND datname = current_database()")
    with pytest.raises(RetriableError, match=r"stream 'public\.t'"):
        list(rows)
    opened.close()


def test_statement_timeout_names_its_field(database: dict[str, Any]) -> None:
    config = {**database, "statementTimeoutSeconds": 0.2}
    config["streams"] = [{"name": "slow", "query": "SELECT pg_sleep(5)::text AS x"}]
    with pytest.raises(RetriableError, match=r"statementTimeoutSeconds is 0\.2"):
        read(config, "slow")


def test_an_error_of_the_query_in_mid_read_is_not_retried(database: dict[str, Any], sql: Sql) -> None:
    sql("CREATE VIEW v AS SELECT 1 / (g - 200000) AS x, repeat('x', 300) AS pad FROM generate_series(1, 300000) g")
    with pytest.raises(DataError, match="division by zero"):
        read(database, "v")
