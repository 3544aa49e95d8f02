"""The servers tests run against are real, isolated, and end with their owner."""

import signal
from dataclasses import replace

import obstore
import psycopg2
import pytest
from obstore.store import S3Store

from servers import postgres
from servers.postgres import Postgres
from servers.s3 import S3


def test_each_test_has_an_empty_database(postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE t AS SELECT generate_series(1, 3) AS id")
    assert postgres_database.execute("SELECT count(*) FROM t") == [(3,)]
    assert postgres_database.execute("SHOW wal_level") == [("logical",)]


def test_the_server_asks_for_its_password(postgres_server: Postgres) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(replace(postgres_server, password="wrong").dsn)


def test_a_server_ends_with_its_block() -> None:
    with postgres.serving(listen="127.0.0.1") as server:
        assert server.execute("SELECT 1") == [(1,)]
    with pytest.raises(psycopg2.OperationalError):
        server.execute("SELECT 1")


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGKILL])
def test_a_crash_loses_open_transactions_and_nothing_else(number: signal.Signals) -> None:
    with postgres.crashing() as (server, crash):
        server.execute("CREATE TABLE t AS SELECT 1 AS id")
        session = psycopg2.connect(server.dsn)
        session.cursor().execute("INSERT INTO t VALUES (2)")
        crash(number)
        assert server.execute("SELECT id FROM t") == [(1,)]
        with pytest.raises(psycopg2.OperationalError):
            session.commit()


def test_objects_survive_the_round_trip_also_in_parts(s3_server: S3, s3_bucket: str) -> None:
    store = S3Store(
        s3_bucket,
        endpoint=s3_server.endpoint,
        access_key_id=s3_server.access_key,
        secret_access_key=s3_server.secret_key,
        region=s3_server.region,
        client_options={"allow_http": True},
    )
    large = b"0123456789abcdef" * (12 * 2**16)
    obstore.put(store, "a/large.bin", large, use_multipart=True, chunk_size=5 * 2**20)
    obstore.put(store, "a/small.txt", b"x")
    listed = {entry["path"]: entry["size"] for entry in obstore.list(store, "a").collect()}
    assert listed == {"a/large.bin": len(large), "a/small.txt": 1}
    assert bytes(obstore.get(store, "a/large.bin").bytes()) == large
