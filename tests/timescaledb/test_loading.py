"""Loads into a hypertable, which stays TimescaleDB's: append, merge, history, replace, bad rows, compressed chunks."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_runs import Runs

INCREMENTAL: dict[str, Any] = {"mode": "incremental", "cursor": {"field": "id"}}
MERGE: dict[str, Any] = {**INCREMENTAL, "writeDisposition": "merge", "primaryKey": ["at", "id"]}


class TestHypertable(Runs):
    """Streams from a plain table of the same database into a hypertable that a user has made."""

    @pytest.fixture(autouse=True)
    def _made(self, _database: None) -> None:
        self.warehouse.execute("CREATE TABLE items (id bigint PRIMARY KEY, at timestamptz NOT NULL, name text)")
        self.warehouse.execute("CREATE SCHEMA raw")

    def hypertable(self, more: str = "") -> None:
        self.warehouse.execute(f"CREATE TABLE raw.items (id bigint, at timestamptz NOT NULL, name text{more})")
        self.warehouse.execute("SELECT create_hypertable('raw.items', 'at', chunk_time_interval => interval '1 day')")

    def rows(self, first: int, last: int, name: str = "x") -> None:
        self.warehouse.execute(
            f"INSERT INTO items SELECT n, timestamptz '2026-01-01' + n * interval '1 hour', '{name}' || n "
            f"FROM generate_series({first}, {last}) n ON CONFLICT (id) DO UPDATE SET name = excluded.name"
        )

    def chunks(self) -> int:
        return int(self.ask("SELECT count(*) FROM show_chunks('raw.items')")[0][0])

    def done(self, **stream: Any) -> tuple[int, int]:
        report = self.run_stream("items", **stream)
        assert report.exit_code == 0, report.message
        assert report.totals is not None
        return report.totals.read, report.totals.loaded

    @pytest.mark.parametrize("more", [{}, {"checks": [{"type": "not_null", "column": "id"}]}], ids=["raw", "arrow"])
    def test_rows_are_appended_and_chunks_made(self, more: dict[str, Any]) -> None:
        self.hypertable()
        self.rows(1, 100)
        assert self.done(**INCREMENTAL, **more) == (100, 100)
        self.rows(101, 150)
        assert self.done(**INCREMENTAL, **more) == (50, 50)
        assert self.ask("SELECT count(*), count(DISTINCT id) FROM raw.items") == [(150, 150)]
        assert self.chunks() == 7

    def test_rows_are_merged_by_a_key_with_the_time(self) -> None:
        self.hypertable(", PRIMARY KEY (at, id)")
        self.rows(1, 100)
        assert self.done(**MERGE) == (100, 100)
        self.rows(50, 120, "y")
        assert self.done(**{**MERGE, "mode": "full"}) == (120, 120)
        assert self.ask("SELECT count(*), count(*) FILTER (WHERE name LIKE 'y%') FROM raw.items") == [(120, 71)]

    def test_rows_are_merged_into_compressed_chunks(self) -> None:
        self.hypertable(", PRIMARY KEY (at, id)")
        self.rows(1, 100)
        self.done(**MERGE)
        self.warehouse.execute(
            "ALTER TABLE raw.items SET (timescaledb.compress, timescaledb.compress_segmentby = 'id')"
        )
        self.warehouse.execute("SELECT compress_chunk(c) FROM show_chunks('raw.items') c")
        self.rows(50, 120, "y")
        assert self.done(**{**MERGE, "mode": "full"}) == (120, 120)
        assert self.ask("SELECT count(*), count(*) FILTER (WHERE name LIKE 'y%') FROM raw.items") == [(120, 71)]

    def test_everything_is_replaced(self) -> None:
        self.hypertable()
        self.rows(1, 100)
        for last in (100, 120):
            self.rows(1, last)
            assert self.done(mode="full", writeDisposition="replace") == (last, last)
        assert self.ask("SELECT count(*) FROM raw.items") == [(120,)]
        assert self.ask("SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_name = 'items'") == [
            (1,)
        ]

    def test_history_is_kept_in_a_hypertable_by_validity(self) -> None:
        self.warehouse.execute(
            "CREATE TABLE raw.items (id bigint, at timestamptz, name text, valid_from timestamptz NOT NULL, "
            "valid_to timestamptz)"
        )
        stream = {"mode": "full", "writeDisposition": "scd2", "primaryKey": ["id"]}
        self.rows(1, 10)
        self.warehouse.execute("SELECT create_hypertable('raw.items', 'valid_from')")
        self.done(**stream)
        self.rows(5, 12, "y")
        self.done(**stream)
        found = self.ask("SELECT count(*) FILTER (WHERE valid_to IS NULL), count(*) FROM raw.items")
        assert found == [(12, 18)]

    def test_a_row_that_the_hypertable_refuses_is_set_aside(self) -> None:
        self.hypertable(", CHECK (id <> 7)")
        self.rows(1, 10)
        report = self.run_stream("items", **INCREMENTAL)
        assert report.totals is not None
        assert (report.totals.loaded, report.totals.quarantined) == (9, 1), report.message
        assert self.ask("SELECT count(*) FROM raw.items") == [(9,)]

    def test_a_new_column_reaches_it(self) -> None:
        self.hypertable()
        self.rows(1, 10)
        self.done(**INCREMENTAL)
        self.warehouse.execute("ALTER TABLE items ADD COLUMN extra int DEFAULT 3")
        self.rows(11, 20)
        assert self.done(**INCREMENTAL) == (10, 10)
        assert self.ask("SELECT count(extra) FROM raw.items") == [(10,)]
