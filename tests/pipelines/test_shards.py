"""Runs in several processes, from and into a real PostgreSQL: staged apart, published at once, whoever comes last."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api import Endpoint, RunPlan, RunReport
from millstream_api.pipeline import PipelineSpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.runner import RunRequest, execute
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.shards import united
from millstream_pipelines.sources.base import Slice
from millstream_pipelines.warehouses.base import Counts
from millstream_pipelines.warehouses.sharding import Staged
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

SAME = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} t"
REPLACE = {"writeDisposition": "replace"}
LEFT = (
    "SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'stage\\_%'), (SELECT count(*) FROM _millstream.shards), "
    "(SELECT count(*) FROM _millstream.shard_rejects), (SELECT count(*) FROM _millstream.shard_plans)"
)


class Shop:
    """Tables `orders` and `people`, and a pipeline over them into `raw`."""

    def __init__(self, database: Postgres) -> None:
        self.ask = database.execute
        self.end = Endpoint(name="db", type="postgres", config=dict(database.config))
        self.ask("CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE SCHEMA raw")
        self.ask(
            "CREATE TABLE orders AS SELECT g AS id, 'happy'::text AS mood, g % 7 AS grp FROM generate_series(1, 1000) g"
        )
        self.ask("ALTER TABLE orders ADD PRIMARY KEY (id)")
        self.streams: list[dict[str, Any]] = [{"name": "public.orders", "target": "raw.orders", **REPLACE}]
        self.spec: dict[str, Any] = {}

    def shard(self, index: int, run: str = "run-1", count: int = 3, **ends: Endpoint) -> RunReport:
        given = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": self.streams, **self.spec}
        plan = RunPlan(
            action="run", namespace="shop", name="orders", source=ends.get("source", self.end),
            warehouse=ends.get("warehouse", self.end), pipeline=PipelineSpec.model_validate(given),
        )  # fmt: skip
        return execute(RunRequest(plan, {}, run, f"pod-{index}", shard=Slice(index, count)))

    def all(self, run: str = "run-1", count: int = 3) -> RunReport:
        """Run the shards one after the other; return the last report."""
        reports = [self.shard(index, run, count) for index in range(count)]
        assert [report.published for report in reports] == [False] * (count - 1) + [True], reports[-1].message
        return reports[-1]


@pytest.fixture
def shop(postgres_database: Postgres) -> Shop:
    return Shop(postgres_database)


def counts(report: RunReport) -> tuple[int, ...]:
    total = report.totals
    assert total is not None
    return (total.read, total.loaded, total.quarantined, total.duplicate, total.filtered)


def test_nothing_is_seen_before_all_slices_are_staged(shop: Shop) -> None:
    first = shop.shard(0)
    assert (first.exit_code, first.shards, first.published) == (0, 3, False)
    assert "staged as slice 0 of 3" in first.message
    assert 0 < counts(first)[0] < 1000
    second = shop.shard(2)
    assert shop.ask("SELECT to_regclass('raw.orders')") == [(None,)]
    last = shop.shard(1)
    assert (last.exit_code, last.published, counts(last)) == (0, True, (1000, 1000, 0, 0, 0))
    assert counts(first)[0] + counts(second)[0] < 1000
    assert shop.ask(SAME.format("raw.orders")) == shop.ask(SAME.format("orders"))
    assert shop.ask(LEFT) == [(0, 0, 0, 0)]
    assert shop.ask("SELECT stream, read, loaded FROM _millstream.ledger") == [("public.orders", 1000, 1000)]
    assert shop.ask("SELECT count(*) FROM _millstream.runs") == [(1,)]


def test_again_is_a_no_op_before_and_after(shop: Shop) -> None:
    staged = shop.shard(0)
    shop.ask("UPDATE orders SET grp = 9")
    assert counts(shop.shard(0)) == counts(staged)
    assert shop.shard(1).exit_code == 0
    assert shop.shard(2).published
    assert 0 < shop.ask("SELECT count(*) FROM raw.orders WHERE grp < 9")[0][0] < 1000
    shop.ask("UPDATE orders SET grp = 10")
    for index in range(3):
        again = shop.shard(index)
        assert (again.exit_code, again.published, counts(again)) == (0, True, (1000, 1000, 0, 0, 0))
    assert shop.ask("SELECT count(*) FROM raw.orders WHERE grp = 10") == [(0,)]
    assert shop.ask("SELECT count(*) FROM _millstream.runs") == [(1,)]


@pytest.mark.parametrize("disposition", ["replace", "append", "merge"])
def test_dispositions(shop: Shop, disposition: str) -> None:
    stream = {"writeDisposition": disposition, "primaryKey": ["id"] if disposition == "merge" else []}
    shop.streams[0] |= stream
    assert counts(shop.all("run-1")) == (1000, 1000, 0, 0, 0)
    shop.ask("DELETE FROM orders WHERE id > 900; UPDATE orders SET grp = 50 WHERE id = 1")
    assert counts(shop.all("run-2")) == (900, 900, 0, 0, 0)
    rows = {"replace": 900, "append": 1900, "merge": 1000}[disposition]
    assert shop.ask("SELECT count(*) FROM raw.orders") == [(rows,)]
    assert shop.ask("SELECT count(*) FROM raw.orders WHERE grp = 50") == [(1,)]


def test_one_row_per_key_over_all_slices(shop: Shop) -> None:
    shop.streams[0] |= {"writeDisposition": "merge", "primaryKey": ["grp"], "cursor": {"field": "id"}}
    assert counts(shop.all()) == (1000, 7, 0, 993, 0)
    assert shop.ask("SELECT grp, id FROM raw.orders ORDER BY id") == [
        (number % 7, number) for number in range(994, 1001)
    ]


def test_bad_rows_appear_with_the_publication_and_once(shop: Shop) -> None:
    shop.ask("CREATE TABLE raw.orders (id bigint, mood mood, grp int)")
    shop.ask("UPDATE orders SET mood = 'angry' WHERE id % 100 = 0; UPDATE orders SET grp = -1 WHERE id % 500 = 1")
    shop.streams[0]["checks"] = [{"type": "range", "column": "grp", "min": 0}]
    shop.shard(0), shop.shard(1)
    assert shop.ask("SELECT count(*) FROM _millstream.quarantine") == [(0,)]
    last = shop.shard(2)
    assert counts(last) == (1000, 988, 12, 0, 0)
    assert [(item.name, item.failed_rows) for item in last.checks] == [("range(grp)", 2)]
    assert shop.ask(
        "SELECT rule, stream, target, status, seq, count(*) FROM _millstream.quarantine "
        "GROUP BY 1, 2, 3, 4, 5 ORDER BY 1"
    ) == [("cast(mood)", "public.orders", "raw.orders", "open", 1, 10),
          ("range(grp)", "public.orders", "raw.orders", "open", 1, 2)]  # fmt: skip
    assert shop.ask(LEFT) == [(0, 0, 0, 0)]


def test_budgets_and_set_checks_are_about_the_whole(shop: Shop) -> None:
    shop.ask("UPDATE orders SET grp = -1 WHERE id <= 20")
    shop.streams[0]["checks"] = [{"type": "range", "column": "grp", "min": 0, "maxFailedRows": 19}]
    reports = [shop.shard(index) for index in range(3)]
    assert [report.exit_code for report in reports] == [0, 0, 65]
    assert "20 of 1000 rows fail it" in reports[2].message
    assert not reports[2].published
    shop.streams[0]["checks"] = [{"type": "row_count", "min": 1001}]
    reports = [shop.shard(index, "run-2") for index in range(3)]
    assert [(report.exit_code, report.published) for report in reports] == [(0, False), (0, False), (65, False)]
    assert shop.ask("SELECT count(*) FROM raw.orders") == [(0,)]
    shop.streams[0]["checks"] = [{"type": "row_count", "min": 1000}]
    assert shop.shard(1, "run-2").published, "a retry of any shard publishes what is staged"


def test_several_streams_and_what_follows_them(shop: Shop) -> None:
    shop.ask("CREATE TABLE people AS SELECT 'p' || g AS name FROM generate_series(1, 50) g")
    shop.ask("ALTER TABLE people ADD PRIMARY KEY (name)")
    shop.streams.append({"name": "public.people", "target": "raw.people", **REPLACE})
    sql = "SELECT (SELECT count(*) FROM raw.orders) AS orders, (SELECT count(*) FROM raw.people) AS people"
    shop.spec = {"transforms": [{"name": "both", "target": "raw.both", "materialize": "table", "sql": sql}]}
    assert counts(shop.all()) == (1050, 1050, 0, 0, 0)
    assert shop.ask("SELECT orders, people FROM raw.both") == [(1000, 50)]


def test_a_new_run_drops_what_a_dead_one_has_left_and_nothing_of_a_living_one(shop: Shop) -> None:
    shop.shard(0, "cancelled")
    shop.shard(0, "waiting")
    shop.ask("UPDATE _millstream.shard_runs SET seen_at = now() - interval '1 day' WHERE run = 'cancelled'")
    shop.shard(0, "run-1")
    assert shop.ask("SELECT DISTINCT run FROM _millstream.shards ORDER BY run") == [("run-1",), ("waiting",)]
    assert shop.ask("SELECT count(*) FROM pg_class WHERE relname LIKE 'stage\\_%' AND relkind = 'r'") == [(2,)]
    late = shop.shard(1, "cancelled")
    assert late.exit_code == 78
    assert "start a new run" in late.message
    shop.shard(1, "waiting")
    assert shop.shard(2, "waiting").published


def test_an_old_run_that_comes_back_publishes_nothing(shop: Shop) -> None:
    assert shop.all("run-1").exit_code == 0
    shop.ask("UPDATE _millstream.shard_runs SET finished_at = NULL")
    shop.ask("DELETE FROM orders WHERE id > 10")
    assert shop.all("run-2").exit_code == 0
    assert shop.shard(1, "run-1").published is False
    assert shop.ask("SELECT count(*) FROM raw.orders") == [(10,)]


def test_two_runs_at_a_time_do_not_mix(shop: Shop) -> None:
    shop.ask("UPDATE orders SET mood = 'angry' WHERE id <= 30")
    shop.ask("CREATE TABLE raw.orders (id bigint, mood mood, grp int)")
    staged = shop.shard(0, "run-1")
    shop.ask("UPDATE orders SET grp = 9")
    assert shop.shard(0, "run-2").exit_code == 0
    assert counts(shop.shard(0, "run-1")) == counts(staged)
    for run, changed in (("run-1", False), ("run-2", True)):
        assert shop.shard(1, run).exit_code == 0
        last = shop.shard(2, run)
        assert (last.published, counts(last)) == (True, (1000, 970, 30, 0, 0)), last.message
        old = shop.ask("SELECT count(*) FROM raw.orders WHERE grp < 9")[0][0]
        assert (old == 0) == changed
    assert shop.ask("SELECT run, count(*) FROM _millstream.quarantine GROUP BY run ORDER BY run") == [
        ("run-1", 30),
        ("run-2", 30),
    ]
    assert shop.ask(LEFT) == [(0, 0, 0, 0)]


def test_refused_with_the_cure(shop: Shop) -> None:
    usual = dict(shop.streams[0])
    refused = {
        "mode incremental": {"mode": "incremental", "cursor": {"field": "id"}, "writeDisposition": "append"},
        "scd2": {"writeDisposition": "scd2", "primaryKey": ["id"]},
    }
    for words, change in refused.items():
        shop.streams = [usual | change]
        report = shop.shard(0)
        assert (report.exit_code, words in report.message) == (78, True), report.message
        assert "extract.shards to 1" in report.message
    shop.streams = [usual | {"name": "public.keyless"}]
    shop.ask("CREATE TABLE keyless AS TABLE orders")
    assert "has no primary key" in shop.shard(0, "keyless").message
    duck = Endpoint(name="file", type="duckdb", config={"path": ":memory:"})
    shop.streams = [usual]
    report = shop.shard(0, warehouse=duck)
    assert (report.exit_code, "type 'duckdb' takes a run from one process" in report.message) == (78, True)
    rest = Endpoint(name="api", type="rest", config={"baseUrl": "http://h", "streams": [{"name": "a", "path": "a"}]})
    report = shop.shard(0, source=rest)
    assert (report.exit_code, "its source cannot be read in slices" in report.message) == (78, True)
    assert shop.shard(0, "four", count=4).exit_code == 0
    assert "began with 4 shards and now has 3" in shop.shard(1, "four").message


def test_files_are_divided_by_a_list_that_all_agree_on(shop: Shop, tmp_path: Any) -> None:
    for number in range(7):
        (tmp_path / f"f{number}.csv").write_text("id,name\n" + "".join(f"{number}{n},x\n" for n in range(number * 10)))
    files = Endpoint(name="files", type="files", config={"url": f"file://{tmp_path}", "streams": [{"name": "f"}]})
    shop.streams = [{"name": "f", "target": "raw.f", **REPLACE}]
    assert shop.shard(0, source=files).exit_code == 0
    (tmp_path / "f9.csv").write_text("id,name\n1,late\n")
    assert shop.shard(1, source=files).exit_code == 0
    last = shop.shard(2, source=files)
    assert (last.published, counts(last)[:2]) == (True, (210, 210)), last.message
    assert shop.shard(0, "run-2", source=files).exit_code == 0
    for number in range(7):
        (tmp_path / f"f{number}.csv").write_text("id,name\n1,changed\n")
    report = shop.shard(1, "run-2", source=files)
    assert (report.exit_code, report.reason) == (65, "SourceChanged")


def test_columns_that_only_some_slices_have(shop: Shop, tmp_path: Any) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n2\n")
    (tmp_path / "b.csv").write_text("id,name\n3,x\n4,y\n5,z\n")
    files = Endpoint(name="files", type="files", config={"url": f"file://{tmp_path}", "streams": [{"name": "f"}]})
    shop.streams = [{"name": "f", "target": "raw.f", **REPLACE}]
    reports = [shop.shard(index, source=files) for index in range(3)]
    assert counts(reports[2]) == (5, 5, 0, 0, 0), reports[2].message
    assert shop.ask("SELECT id, name FROM raw.f ORDER BY id")[1:3] == [(2, None), (3, "x")]


def test_slices_must_agree_about_types() -> None:
    slices = [
        Staged(number, Schema((Column("id", kind),)), Counts(), None) for number, kind in enumerate(["bigint", "text"])
    ]
    with pytest.raises(ConfigurationError, match="'id' is bigint in slice 0 and text in slice 1"):
        united(slices, "stream 's'")


@pytest.mark.parametrize("key", [[], ["id"]], ids=["append", "merge"])
@pytest.mark.parametrize("rows", ["quarantine", "discard"])
def test_a_row_that_only_the_target_refuses_is_set_aside_by_the_publication(
    rows: str, key: list[str], shop: Shop
) -> None:
    shop.ask(
        "CREATE TABLE raw.orders (id bigint, mood text, grp int, CONSTRAINT good CHECK (id NOT IN (7, 500, 1000)))"
    )
    disposition = {"writeDisposition": "merge", "primaryKey": key} if key else {"writeDisposition": "append"}
    shop.streams = [{"name": "public.orders", "target": "raw.orders", "contract": {"rows": rows}, **disposition}]
    report = shop.all()
    kept = 3 if rows == "quarantine" else 0
    assert counts(report) == (1000, 997, kept, 0, 3 - kept)
    assert shop.ask("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM raw.orders") == [(997, 997, 1, 999)]
    found = shop.ask("SELECT rule, \"row\"->>'id', status FROM _millstream.quarantine ORDER BY 2")
    assert found == [("constraint(good)", number, "open") for number in ("1000", "500", "7")][:kept]
    assert shop.ask(LEFT) == [(0, 0, 0, 0)]
    assert shop.ask("SELECT read, loaded, quarantined FROM _millstream.ledger") == [(1000, 997, kept)]
