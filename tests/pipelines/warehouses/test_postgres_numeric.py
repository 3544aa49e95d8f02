"""`numeric` as we send it is `numeric` as the server reads it from text: each digit, and as many behind the point."""

from __future__ import annotations

import hashlib
import random

import psycopg2
import pyarrow as pa
import pytest

from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.stored_text import valid
from millstream_pipelines.warehouses._postgres.copying import CopyIn
from millstream_pipelines.warehouses._postgres.encoding import encoded
from millstream_pipelines.warehouses._postgres.numeric_binary import numeric_bytes
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

USUAL = [
    "0", "1", "-1", "9", "10", "99", "9999", "10000", "10001", "99999999", "100000000", "9999999999999999",
    "-9999999999999999", "0.1", "0.10", "0.250", "-0.0", "-0", "0.0000", "1.0000000000000001", "-1.10", "12.345",
    "0.0001", "0.00001", "0.00010000", "9999999999999999.9999999999999999", "-9999999999999999.9999999999999999",
    "1234567812345678.8765432187654321", "0000000000000001.5", "007", "5.00000000", "10000.0001", "100000000.00000001",
]  # fmt: skip
RARE = [
    "NaN", "nan", "Infinity", "-Infinity", "inf", "-inf", "+5", "+5.50", " 7.10 ", ".5", "-.5", "5.", "1e5", "1.50e3",
    "1.5E-3", "1e400", "-1e-400", "12345678901234567", "-12345678901234567890.50", "0.00000000000000001",
    "123456789012345678901234567890.123456789012345678901234567890", "1e9999", "0e10", "1.0e0",
    "00000000000000000001", "1" * 5000 + "." + "7" * 5000, "1e-9999", "0." + "0" * 16382 + "1",
]  # fmt: skip
IMPOSSIBLE = [
    "1e131072",
    "1e-16384",
    "1" * 131_073,
    "0." + "0" * 16_383 + "1",
    "1e9999999",
    "x",
    "",
    "1e",
    "0x10",
    "1_0",
]


def sent(database: Postgres, texts: list[str | None]) -> list[tuple[str | None, bool]]:
    """Load texts as numeric; return each as the server writes it, and whether it is stored as its own cast would be."""
    rows = pa.record_batch({"n": pa.array(range(len(texts)), pa.int64()), "v": pa.array(texts, pa.string())})
    with psycopg2.connect(database.dsn) as connection:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE sent (n bigint, v numeric)")
            cursor.execute("CREATE TEMPORARY TABLE texts (n bigint, v text)")
        for table, kind in (("sent", "numeric"), ("texts", "text")):
            copy = CopyIn(connection, f"COPY {table} FROM STDIN (FORMAT binary)", hashlib.blake2b())
            for piece in encoded(rows, Schema((Column("n", "bigint"), Column("v", kind)))):
                copy.send(piece)
            copy.finish()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT s.v::text, numeric_send(s.v) IS NOT DISTINCT FROM numeric_send(t.v::numeric) "
                "FROM sent s JOIN texts t USING (n) ORDER BY n"
            )
            return cursor.fetchall()


@pytest.mark.parametrize("texts", [USUAL, RARE, [*USUAL, None, *RARE], [None, None]])
def test_the_server_stores_what_its_own_cast_makes(postgres_database: Postgres, texts: list[str | None]) -> None:
    found = sent(postgres_database, texts)
    assert [text for text, (_, same) in zip(texts, found, strict=True) if not same] == []
    assert [text is None for text in texts] == [text is None for text, _ in found]


def test_random_numbers(postgres_database: Postgres) -> None:
    chance = random.Random(7)
    texts: list[str | None] = [
        f"{chance.choice(['', '-'])}{chance.randrange(10 ** chance.randrange(1, 19))}"
        + chance.choice(["", f".{chance.randrange(10**9):0{chance.randrange(1, 19)}}"])
        for _ in range(5000)
    ]
    assert [text for text, (_, same) in zip(texts, sent(postgres_database, texts), strict=True) if not same] == []


def test_slices_are_slices() -> None:
    texts = pa.array(["9", "1.5", None, "2.25", "1e5", "3"])
    whole = numeric_bytes(texts).to_pylist()
    assert numeric_bytes(texts.slice(1, 4)).to_pylist() == whole[1:5]
    assert len(numeric_bytes(texts.slice(0, 0))) == 0


def test_what_numeric_cannot_hold_is_no_value_of_it() -> None:
    found = valid(pa.array([*IMPOSSIBLE, *USUAL, *RARE, None]), "numeric")
    assert found.to_pylist() == [*[None] * len(IMPOSSIBLE), *USUAL, *RARE, None]
