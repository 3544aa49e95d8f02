"""The raw path in mode incremental: stretches of the cursor, and a position that either path goes on from."""

from __future__ import annotations

import pytest

from millstream_pipelines.sources._postgres import raw
from postgres_pair import Pair, done, numbered, pair
from servers.plugin import postgres_database, postgres_server

__all__ = ["pair", "postgres_database", "postgres_server"]

CURSORS = {
    "bigint": "n::bigint",
    "numeric": "(n / 4.0)::numeric(12,2)",
    "timestamptz": "timestamptz '2026-01-01' + n * interval '1.5 s'",
    "date": "date '2020-01-01' + n",
}


@pytest.mark.parametrize("kind", CURSORS)
def test_incremental_reads_go_on_behind_the_position_on_either_path(
    kind: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "MAX_BATCH_ROWS", 100)
    columns = f"n AS id, {CURSORS[kind]} AS at"
    numbered(pair.source, 250, columns)
    pair.source.execute("CREATE INDEX ON t (at)")
    pair.stream |= {"mode": "incremental", "cursor": {"field": "at"}}
    assert pair.path().startswith("raw: ")
    assert done(pair.run()) == (250, 250, 0)
    positions = "SELECT read, position FROM _millstream.ledger ORDER BY seq"
    first = pair.warehouse.execute(positions)
    assert [read for read, _ in first] == [100, 150]
    assert pair.source.execute(f"SELECT max(at) = '{first[-1][1]['cursor']}' FROM t") == [(True,)]
    assert done(pair.run()) == (0, 0, 0)
    pair.source.execute(f"INSERT INTO t SELECT {columns} FROM generate_series(251, 260) n")
    assert done(pair.run(filter="true")) == (10, 10, 0)
    pair.source.execute(f"INSERT INTO t SELECT {columns} FROM generate_series(261, 270) n")
    pair.stream.pop("filter")
    assert done(pair.run()) == (10, 10, 0)
    assert pair.seen("id") == [(n,) for n in range(1, 271)]


def test_rows_of_one_cursor_value_stay_in_one_stretch(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "MAX_BATCH_ROWS", 100)
    monkeypatch.setattr(raw, "_MOST_ROWS", 100)
    numbered(pair.source, 1000, "n AS id, n / 70 AS at")
    pair.source.execute("CREATE INDEX ON t (at)")
    assert done(pair.run(mode="incremental", cursor={"field": "at"})) == (1000, 1000, 0)
    found = pair.warehouse.execute("SELECT read, (position->>'cursor')::int FROM _millstream.ledger ORDER BY seq")
    assert found == [(139, 1), (140, 3), (140, 5), (140, 7), (140, 9), (140, 11), (140, 13), (21, 14)]


def test_a_cursor_without_an_index_is_read_in_one_sort(pair: Pair) -> None:
    numbered(pair.source, 3, "n AS id, n AS at")
    pair.stream |= {"mode": "incremental", "cursor": {"field": "at"}}
    assert "cursor 'at' has no index" in pair.path()
    assert done(pair.run()) == (3, 3, 0)


SPREAD = [(3, 40.0, 10), (1000, 1.0, 4000), (1000, 0.0, 4000), (1000, 100.0, 100), (3_000_000, 5.0, 5_000_000)]


@pytest.mark.parametrize(("rows", "seconds", "following"), SPREAD)
def test_stretches_take_about_ten_seconds(
    rows: int, seconds: float, following: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "MAX_BATCH_ROWS", 10)
    assert raw.following_rows(rows, seconds) == following
