"""A policy on a hypertable: chunks archived, proven, dropped, brought back; and all that stands in the way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from millstream_api import RunReport
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.errors import RetriableError
from millstream_pipelines.retention import archive as archives
from millstream_pipelines.retention import leaving, timescale
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.timescale import planned
from retention.archives import config_of
from retention.policies import carried_out
from servers.postgres import Postgres

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=8)
OLD = {"age": "39 days"}  # at LATER, the same two chunks
CHUNKS = "SELECT range_start::date::text FROM timescaledb_information.chunks WHERE hypertable_name = 'm' ORDER BY 1"


class Kept:
    """A hypertable of ten days, 24 rows each, in chunks of a day, of which two are too old at NOW."""

    def __init__(self, database: Postgres, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.database.execute("CREATE SCHEMA raw")

    def made(self, kind: str = "timestamptz", more: str = "") -> None:
        self.database.execute(f"CREATE TABLE raw.m (at {kind} NOT NULL, id int, v numeric, j jsonb{more})")
        self.database.execute("SELECT create_hypertable('raw.m', 'at', chunk_time_interval => interval '1 day')")
        self.database.execute(
            "INSERT INTO raw.m SELECT '2026-01-27'::timestamptz + g * interval '1 hour', g, g * 1.5, '{\"a\": 1}' "
            "FROM generate_series(0, 239) g"
        )

    def spec(self, **more: Any) -> RetentionPolicySpec:
        given: dict[str, Any] = {"warehouseRef": {"name": "dw"}, "tables": [{"name": "raw.m"}]}
        given |= {"keep": {"age": "31 days"}, "archive": {"url": f"file://{self.folder}"}} | more
        return RetentionPolicySpec.model_validate({name: value for name, value in given.items() if value is not None})

    def run(self, now: datetime = NOW, options: dict[str, Any] | None = None, **more: Any) -> RunReport:
        return carried_out(self.database, self.spec(**more), now, **(options or {}))

    def done(self, now: datetime = NOW, options: dict[str, Any] | None = None, **more: Any) -> str:
        report = self.run(now, options, **more)
        assert report.exit_code == 0, report.message
        return report.message

    def restore(self, **more: Any) -> str:
        return self.done(options={"restore": {"table": "raw.m", "from": "2026-01-27", "to": "2026-01-29", **more}})

    def rows(self) -> list[tuple[Any, ...]]:
        return self.database.execute("SELECT * FROM raw.m ORDER BY at, id")

    def chunks(self) -> list[str]:
        return [row[0] for row in self.database.execute(CHUNKS)]


@pytest.fixture
def kept(postgres_database: Postgres, tmp_path: Path) -> Kept:
    return Kept(postgres_database, tmp_path)


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
@pytest.mark.parametrize("compressed", [False, True], ids=["rows", "compressed"])
def test_chunks_are_archived_verified_dropped_and_brought_back(kind: str, compressed: bool, kept: Kept) -> None:
    kept.made(kind)
    before = kept.rows()
    if compressed:
        kept.database.execute("ALTER TABLE raw.m SET (timescaledb.compress, timescaledb.compress_segmentby = 'id')")
        kept.database.execute("SELECT compress_chunk(c) FROM show_chunks('raw.m') c")
    report = kept.run()
    assert (report.exit_code, report.message) == (0, "raw.m: 2 archived and verified")
    assert report.retention is not None
    assert report.retention.tables[0].horizon is None, "the next row makes its chunk"
    assert (kept.rows(), len(kept.chunks())) == (before, 10), "seen until the grace has ended"
    assert kept.done() == "nothing was due"
    assert kept.done(LATER, keep=OLD) == "raw.m: 2 dropped"
    assert kept.chunks()[0] == "2026-01-29"
    assert kept.rows() == before[48:]
    assert "48 rows" in kept.restore()
    assert kept.rows() == before
    assert kept.database.execute("SELECT to_regclass('_millstream.restoring_1')::text") == [(None,)]
    assert kept.restore() == "what had left raw.m there is back already"


def test_archives_come_back_into_a_schema_and_expire(kept: Kept) -> None:
    kept.made()
    kept.done()
    kept.done(LATER, keep=OLD)
    assert "48 rows" in kept.restore(into="back")
    ((name,),) = kept.database.execute("SELECT min(tablename) FROM pg_tables WHERE schemaname = 'back'")
    assert kept.database.execute(f'SELECT count(*) FROM back."{name}"') == [(24,)]
    kept.done(LATER, keep={}, archive={"url": f"file://{kept.folder}", "keep": {"age": "35 days"}})
    assert not list(kept.folder.rglob("*.parquet"))


def test_what_changes_after_its_archive_is_archived_anew(kept: Kept) -> None:
    kept.made()
    kept.done()
    kept.database.execute("INSERT INTO raw.m VALUES ('2026-01-27 12:30+00', 999, 1, NULL)")
    assert "1 dropped, 1 archived and verified" in kept.done(LATER, keep=OLD), (
        "the other one goes; its grace begins anew"
    )
    assert kept.chunks()[:2] == ["2026-01-27", "2026-01-29"]
    assert "1 dropped" in kept.done(LATER + timedelta(days=8), keep={"age": "47 days"})
    assert kept.chunks()[0] == "2026-01-29"
    assert "49 rows" in kept.restore()
    assert kept.database.execute("SELECT count(*) FROM raw.m WHERE id = 999") == [(1,)]


def test_an_archive_that_is_spoilt_stops_the_drop(kept: Kept) -> None:
    kept.made()
    kept.done()
    sorted(kept.folder.rglob("*.parquet"))[0].write_bytes(b"PAR1")
    report = kept.run(LATER, keep=OLD)
    assert (report.exit_code, report.reason, len(kept.chunks())) == (65, "ArchiveMismatch", 10), report.message
    assert kept.done(LATER, keep=OLD) == "raw.m: 1 archived and verified, 1 dropped"


@pytest.mark.parametrize("place", ["retiring", "exported", "read-back", "manifest-written", "archived", "dropping"])
def test_a_run_that_dies_is_finished_by_the_next(place: str, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.made()
    before = kept.rows()
    if place == "dropping":
        kept.done()
    now = LATER if place == "dropping" else NOW

    def reached(name: str) -> None:
        if name == place:
            raise OSError(f"died at {name}")

    with monkeypatch.context() as patched:
        for module in (archives, leaving):
            patched.setattr(module, "reached", reached)
        assert "died at" in kept.run(now, keep=OLD if now == LATER else {"age": "31 days"}).message
    assert kept.rows() == before
    kept.done(keep={"age": "31 days"})
    assert "2 dropped" in kept.done(LATER, keep=OLD)
    assert kept.rows() == before[48:]
    assert len(list(kept.folder.rglob("_manifest.json"))) == 2
    assert "48 rows" in kept.restore()
    assert kept.rows() == before


def test_without_an_archive_chunks_are_dropped_but_for_those_on_hold(kept: Kept) -> None:
    kept.made()
    hold = {"name": "case-1", "table": "raw.m", "from": "2026-01-27", "to": "2026-01-28"}
    assert kept.done(archive=None, holds=[hold]) == "raw.m: 1 dropped; 1 blocked by hold 'case-1'"
    assert kept.chunks()[:2] == ["2026-01-27", "2026-01-29"]
    assert kept.done(archive=None) == "raw.m: 1 dropped"


def test_a_hold_lets_a_chunk_be_archived_and_keeps_it(kept: Kept) -> None:
    kept.made()
    hold = {"name": "case-1", "table": "raw.m", "from": "2026-01-27", "to": "2026-01-28"}
    assert kept.done(holds=[hold]) == "raw.m: 2 archived and verified"
    assert "1 dropped; 1 blocked by hold 'case-1'" in kept.done(LATER, keep=OLD, holds=[hold])
    assert kept.chunks()[:2] == ["2026-01-27", "2026-01-29"]


def test_a_rollup_that_needs_the_rows_blocks_the_drop(kept: Kept) -> None:
    kept.made()
    kept.database.execute(
        "CREATE MATERIALIZED VIEW raw.daily WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', at) AS day, "
        "count(*) FROM raw.m GROUP BY 1 WITH NO DATA"
    )
    assert "raw.daily, which has not taken in all of its rows" in kept.done(archive=None)
    kept.database.execute("CALL refresh_continuous_aggregate('raw.daily', '2026-01-27', '2026-02-06')")
    kept.database.execute("UPDATE raw.m SET v = 0 WHERE id = 3")
    message = kept.done(archive=None)
    assert "1 dropped; 1 blocked by continuous aggregate raw.daily, which has not taken" in message, message
    kept.database.execute("CALL refresh_continuous_aggregate('raw.daily', '2026-01-27', '2026-01-28')")
    add = "SELECT add_continuous_aggregate_policy('raw.daily', {}, interval '1 hour', interval '1 day')"
    kept.database.execute(add.format("NULL"))
    assert "whose refresh policy reaches back that far" in kept.done(archive=None)
    kept.database.execute("SELECT remove_continuous_aggregate_policy('raw.daily')")
    kept.database.execute(add.format("interval '10 days'"))
    assert kept.done(archive=None) == "raw.m: 1 dropped"
    assert kept.database.execute("SELECT sum(count)::int FROM raw.daily") == [(240,)]


def refusal(kept: Kept, **more: Any) -> str:
    report = kept.run(**more)
    assert report.exit_code == 78, report.message
    return report.message


def test_what_a_policy_may_not_do_with_a_hypertable_is_refused(kept: Kept) -> None:
    kept.made()
    table = {"name": "raw.m", "partitionBy": {"column": "at", "interval": "1 day", "convert": True}}
    assert "which cuts itself into chunks; leave partitionBy out" in refusal(kept, tables=[table])
    assert "only keep.age can be kept, not rows" in refusal(kept, keep={"age": "31 days", "rows": 10})
    erasure = {"table": "raw.m", "where": "id = 7", "reason": "r"}
    assert "of which `delete` erases nothing" in refusal(kept, delete=[erasure])
    kept.database.execute("SELECT add_retention_policy('raw.m', interval '1 year')")
    assert "SELECT remove_retention_policy('raw.m')" in refusal(kept)
    assert len(kept.chunks()) == 10


def test_a_hypertable_cut_in_space_is_dropped_and_not_archived(kept: Kept) -> None:
    kept.database.execute("CREATE TABLE raw.m (at timestamptz NOT NULL, id int)")
    kept.database.execute(
        "SELECT create_hypertable('raw.m', 'at', 'id', number_partitions => 3, chunk_time_interval => interval '1 day')"
    )
    kept.database.execute(
        "INSERT INTO raw.m SELECT '2026-01-27'::timestamptz + g * interval '1 hour', g FROM generate_series(0, 239) g"
    )
    assert "as it is cut in space, too" in refusal(kept)
    assert "dropped" in kept.done(archive=None)
    assert kept.database.execute("SELECT count(*), min(at)::date::text FROM raw.m") == [(192, "2026-01-29")]


def test_a_hypertable_cut_by_a_number_is_refused(kept: Kept) -> None:
    kept.database.execute("CREATE TABLE raw.m (n bigint NOT NULL)")
    kept.database.execute("SELECT create_hypertable('raw.m', 'n', chunk_time_interval => 100)")
    assert "cut by column 'n' of type bigint; only time is known" in refusal(kept)


def test_a_chunk_that_somebody_reads_is_left_for_later(kept: Kept) -> None:
    kept.made()
    reader = psycopg2.connect(kept.database.dsn)
    reader.cursor().execute("SELECT count(*) FROM raw.m")
    with Ddl(config_of(kept.database), "policy", lock_timeout_s=0.1, patience_s=0.3) as ddl:
        ddl.rows("SET timezone = 'UTC'")
        facts = table_facts(ddl, "raw.m")
        step = planned(facts, "31 days", kept.spec(archive=None), NOW)[0]
        with pytest.raises(RetriableError, match=r"the lock was not to be had in .* held by pid"):
            timescale.drop(ddl, facts, step)
    reader.close()
    assert kept.done(archive=None) == "raw.m: 2 dropped"
