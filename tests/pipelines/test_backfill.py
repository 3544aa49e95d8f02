"""Backfills from and into a real PostgreSQL: exact, resumed, beside the forward load, refused where they must be."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api import Endpoint, RunOptions, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.progress import Silence, Stage
from millstream_pipelines.rate import Pace
from millstream_pipelines.runner import RunRequest, execute
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

APPEND = {"mode": "incremental", "cursor": {"field": "at"}}
MERGE = {**APPEND, "writeDisposition": "merge", "primaryKey": ["id"]}
DAYS = {"from": "2026-01-02", "to": "2026-01-04"}
SAME = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} t"


class Shop:
    """A table `orders` with four days of rows, and pipelines over it into `raw.orders`."""

    def __init__(self, database: Postgres) -> None:
        self.ask = database.execute
        self.end = Endpoint(name="db", type="postgres", config=dict(database.config))
        self.ask(
            "CREATE TABLE orders AS SELECT g AS id, timestamptz '2026-01-01Z' + g * interval '1 h' AS at, 1 AS rev "
            "FROM generate_series(0, 95) g"
        )
        self.ask("ALTER TABLE orders ADD PRIMARY KEY (id), ALTER at SET NOT NULL")

    def run(
        self, stream: dict[str, Any], run: str, window: dict[str, Any] | None = None, progress: Any = None, **spec: Any
    ) -> RunReport:
        item = {"name": "public.orders", "target": "raw.orders"} | stream
        given = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": [item], **spec}
        options: dict[str, Any] = {"trigger": "backfill", "window": window} if window else {}
        plan = RunPlan(
            action="run", namespace="shop", name="orders", source=self.end, warehouse=self.end,
            pipeline=PipelineSpec.model_validate(given),
        )  # fmt: skip
        request = RunRequest(plan, {}, run, f"pod-{run}", RunOptions.model_validate(options))
        return execute(request, progress or Silence())

    def forward(self, stream: dict[str, Any], run: str = "forward") -> RunReport:
        report = self.run(stream, run)
        assert report.exit_code == 0, report.message
        return report

    @property
    def is_whole(self) -> bool:
        return self.ask(SAME.format("raw.orders")) == self.ask(SAME.format("orders"))

    def state(self, stream: str = "public.orders") -> list[tuple[Any, ...]]:
        return self.ask(f"SELECT run, seq, position FROM _millstream.state WHERE stream = '{stream}'")


@pytest.fixture
def shop(postgres_database: Postgres) -> Shop:
    return Shop(postgres_database)


def totals(report: RunReport) -> tuple[int, ...]:
    assert report.totals is not None
    return (report.totals.read, report.totals.loaded, report.totals.duplicate)


@pytest.mark.parametrize("stream", [APPEND, MERGE], ids=["append", "merge"])
def test_the_window_is_loaded_again_and_nothing_else_moves(shop: Shop, stream: dict[str, Any]) -> None:
    shop.forward(stream)
    before = shop.state()
    shop.ask("UPDATE orders SET rev = 2")
    report = shop.run(stream, "again", DAYS)
    assert report.exit_code == 0, report.message
    assert totals(report) == (48, 48, 0)
    assert (report.intervals_done, report.intervals_total) == (2, 2)
    assert report.guarantee == "exactly-once"
    assert shop.ask("SELECT rev, count(*), min(at)::date::text FROM raw.orders GROUP BY rev ORDER BY rev") == [
        (1, 48, "2026-01-01"),
        (2, 48, "2026-01-02"),
    ]
    assert shop.state() == before
    assert shop.forward(stream, "later").totals.read == 0  # type: ignore[union-attr]


def test_append_takes_out_what_is_gone_at_the_source(shop: Shop) -> None:
    shop.forward(APPEND)
    shop.ask("DELETE FROM orders WHERE id BETWEEN 30 AND 60")
    assert shop.run(APPEND, "again", DAYS).exit_code == 0
    assert shop.is_whole
    assert shop.ask("SELECT range_start, read, deleted FROM _millstream.intervals ORDER BY seq") == [
        ("2026-01-02T00:00:00+00:00", 6, 24),
        ("2026-01-03T00:00:00+00:00", 11, 24),
    ]


def test_merge_leaves_a_newer_row_alone(shop: Shop) -> None:
    shop.forward(MERGE)
    shop.ask("UPDATE raw.orders SET at = '2027-01-01Z', rev = 9 WHERE id = 30")
    report = shop.run(MERGE, "again", DAYS)
    assert totals(report) == (48, 47, 1)
    assert shop.ask("SELECT rev FROM raw.orders WHERE id = 30") == [(9,)]


class Stops:
    """Ends a run at the beginning of its third interval, as a lost connection would."""

    def stage(self, name: str, stage: Stage, detail: str = "") -> None:
        if detail.startswith("interval 3"):
            raise ConnectionError("gone")

    def rows(self, name: str, read: int, quarantined: int, bytes_read: int) -> None:
        pass


def test_the_same_run_goes_on_and_a_new_run_begins_again(shop: Shop) -> None:
    window = {"from": "2026-01-01", "to": "2026-01-05"}
    shop.forward(MERGE)
    stopped = shop.run(MERGE, "again", window, progress=Stops())
    assert (stopped.exit_code, stopped.intervals_done, stopped.intervals_total) == (75, 2, 4)
    assert totals(stopped) == (48, 48, 0)
    report = shop.run(MERGE, "again", window)
    assert (report.exit_code, report.intervals_done) == (0, 4)
    assert totals(report) == (96, 96, 0)
    assert shop.ask("SELECT count(*) FROM _millstream.ledger WHERE run = 'again'") == [(4,)]
    assert totals(shop.run(MERGE, "again", window)) == (96, 96, 0)
    assert shop.ask("SELECT count(*) FROM _millstream.ledger WHERE run = 'again'") == [(4,)]
    assert totals(shop.run(MERGE, "anew", window)) == (96, 96, 0)
    assert shop.ask("SELECT count(*) FROM _millstream.intervals") == [(8,)]


class ForwardMeanwhile:
    """Runs the forward load inside each transaction of a backfill; the source grows in between."""

    def __init__(self, shop: Shop, stream: dict[str, Any]) -> None:
        self.shop, self.stream, self.runs = shop, stream, 0

    def stage(self, name: str, stage: Stage, detail: str = "") -> None:
        pass

    def rows(self, name: str, read: int, quarantined: int, bytes_read: int) -> None:
        self.runs += 1
        number = 1000 + self.runs
        self.shop.ask(f"INSERT INTO orders VALUES ({number}, timestamptz '2026-02-01Z' + {number} * interval '1 s', 1)")
        self.shop.forward(self.stream, f"meanwhile-{self.runs}")


@pytest.mark.parametrize("stream", [APPEND, MERGE], ids=["append", "merge"])
def test_the_forward_load_runs_at_the_same_time(shop: Shop, stream: dict[str, Any]) -> None:
    shop.forward(stream)
    meanwhile = ForwardMeanwhile(shop, stream)
    assert shop.run(stream, "again", DAYS, progress=meanwhile).exit_code == 0
    assert meanwhile.runs == 2
    assert shop.is_whole


class BackfillMeanwhile(ForwardMeanwhile):
    """Starts another backfill inside a backfill."""

    def rows(self, name: str, read: int, quarantined: int, bytes_read: int) -> None:
        self.report = self.shop.run(self.stream, "other", DAYS)


def test_two_backfills_exclude_each_other(shop: Shop) -> None:
    shop.forward(MERGE)
    meanwhile = BackfillMeanwhile(shop, MERGE)
    assert shop.run(MERGE, "again", DAYS, progress=meanwhile).exit_code == 0
    assert (meanwhile.report.exit_code, meanwhile.report.reason) == (75, "StreamBusy")


def test_append_ends_where_the_forward_load_has_passed(shop: Shop) -> None:
    window = {"from": "2026-01-01", "to": "2026-01-04T23:00:00.000001Z"}
    report = shop.run(APPEND, "early", window)
    assert report.exit_code == 78
    assert "has not committed a position yet" in report.message
    shop.forward(APPEND)
    assert shop.run(APPEND, "up-to-it", window).exit_code == 0
    report = shop.run(APPEND, "beyond", {**window, "to": "2026-01-05"})
    assert report.exit_code == 78
    assert "at = 2026-01-04 23:00:00" in report.message
    assert "merge" in report.message
    assert shop.is_whole


def test_whole_numbers_up_to_the_position(shop: Shop) -> None:
    stream = {**APPEND, "cursor": {"field": "id"}}
    shop.forward(stream)
    shop.ask("UPDATE orders SET rev = 2")
    report = shop.run(stream, "again", {"from": "-10", "to": "96", "step": 50})
    assert (report.exit_code, report.intervals_total) == (0, 3), report.message
    assert shop.is_whole
    assert shop.run(stream, "beyond", {"from": "0", "to": "97", "step": 50}).exit_code == 78
    merge = {**MERGE, "cursor": {"field": "id"}}
    wide = {"from": "-9000000000", "to": "9000000000000000000000", "step": 9_000_000_000_000_000_000_000}
    assert totals(shop.run(merge, "wide", wide)) == (96, 96, 0)


def test_append_refuses_a_target_that_others_load_too(shop: Shop) -> None:
    shop.forward(APPEND)
    shop.ask(
        "INSERT INTO _millstream.ledger SELECT 'shop/other', stream, seq, run, epoch, now(), target, read, loaded, "
        "quarantined, duplicate, filtered, bytes, content_hash, position FROM _millstream.ledger"
    )
    report = shop.run(APPEND, "again", DAYS)
    assert report.exit_code == 78
    assert "pipeline 'shop/other'" in report.message


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"mode": "full"}, "mode full"),
    ({"mode": "full", "writeDisposition": "replace"}, "mode full"),
    ({**MERGE, "writeDisposition": "scd2"}, "writeDisposition scd2"),
    ({**MERGE, "deletes": {"column": "rev"}}, "`deletes.column`"),
    ({"mode": "incremental"}, "cursor.field"),
    ({**MERGE, "cursor": {"field": "nowhere"}}, "no cursor 'nowhere'; columns: id, at, rev"),
    ({**MERGE, "columns": [{"name": "at", "mask": "hash"}]}, "does not reach raw.orders as it is"),
    ({**MERGE, "columns": [{"name": "at", "drop": True}]}, "does not reach raw.orders as it is"),
    ({**MERGE, "columns": [{"name": "at", "type": "date"}]}, "is timestamptz at the source"),
    ({**MERGE, "columns": [{"name": "at", "expression": '"at" + INTERVAL 1 DAY'}]}, "does not reach"),
]


@pytest.mark.parametrize(("stream", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_refused_with_the_cure(shop: Shop, stream: dict[str, Any], words: str) -> None:
    report = shop.run(stream, "again", DAYS)
    assert report.exit_code == 78
    assert words in report.message
    assert shop.ask("SELECT count(*) FROM _millstream.ledger") == [(0,)]


def test_another_name_in_the_target_will_do(shop: Shop) -> None:
    stream = {**APPEND, "columns": [{"name": "ordered_at", "source": "at"}]}
    shop.forward(stream)
    shop.ask("UPDATE orders SET rev = 2")
    assert shop.run(stream, "again", DAYS).exit_code == 0
    assert shop.ask("SELECT rev, count(*) FROM raw.orders GROUP BY rev ORDER BY rev") == [(1, 48), (2, 48)]


def test_bad_rows_are_set_aside_once_per_run_and_checks_hold_per_interval(shop: Shop) -> None:
    shop.ask("UPDATE orders SET rev = -1 WHERE id = 30")
    checks = [{"type": "range", "column": "rev", "min": 0}, {"type": "unique", "columns": ["id"]}]
    stream = {**APPEND, "checks": checks}
    shop.forward(stream)
    report = shop.run(stream, "again", DAYS)
    assert (report.exit_code, report.totals.quarantined) == (0, 1)  # type: ignore[union-attr]
    assert [(item.outcome, item.failed_rows) for item in report.checks] == [("failed", 1), ("passed", 0)]
    assert shop.ask("SELECT count(*) FROM raw.orders") == [(95,)]
    shop.ask("INSERT INTO raw.orders SELECT * FROM raw.orders WHERE id = 1")
    report = shop.run(stream, "fails", DAYS)
    assert (report.exit_code, report.intervals_done) == (65, 0)


def test_a_late_table_stays_late_and_the_backfill_succeeds(shop: Shop) -> None:
    fresh = {"field": "at", "maxAge": "1h", "severity": "error"}
    shop.run(MERGE, "forward", freshness=fresh)
    report = shop.run(MERGE, "again", DAYS, freshness=fresh)
    assert report.exit_code == 0
    assert [item.outcome for item in report.checks] == ["failed"]
    assert report.freshness == "2026-01-04T23:00:00Z"


def test_only_the_streams_named_and_a_wrong_name_is_told(shop: Shop) -> None:
    item = {"name": "public.orders", "target": "raw.orders"}
    spec = PipelineSpec.model_validate(
        {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"},
         "streams": [{**item, **MERGE}, {**item, "name": "public.others", "target": "raw.others"}]}
    )  # fmt: skip
    plan = RunPlan(action="run", namespace="shop", name="orders", source=shop.end, warehouse=shop.end, pipeline=spec)
    names = RunOptions.model_validate({"trigger": "backfill", "window": DAYS, "streams": ["public.orders"]})
    report = execute(RunRequest(plan, {}, "run-1", "pod-1", names))
    assert [stream.name for stream in report.streams] == ["public.orders"], report.message
    report = execute(RunRequest(plan, {}, "run-2", "pod-1", RunOptions(streams=["public.order"])))
    assert report.exit_code == 78
    assert "did you mean 'public.orders'" in report.message


@pytest.mark.parametrize("stream", [MERGE, {}], ids=["batches", "undecoded"])
def test_no_more_rows_per_second_than_said(shop: Shop, stream: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Pace, "passed", lambda _, rows: asked.append(rows))
    report = shop.run(stream, "slowly", extract={"maxRowsPerSecond": 10})
    assert (report.exit_code, sum(asked) in (96, 97)) == (0, True), "the trailer of a COPY may pass as a row"
