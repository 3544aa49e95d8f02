"""A replay never puts an older row over a newer one, nor a row beside itself: keys, history, full loads, backfills."""

from __future__ import annotations

from typing import Any

import pytest

from memory_runs import Works, counted, postgres_works, replay, statuses, works
from millstream_api import Endpoint, RunOptions
from millstream_api.run_options import Window
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server", "postgres_works", "works"]

MERGE = {"primaryKey": ["id"], "writeDisposition": "merge"}
SMALL = {"checks": [{"type": "range", "column": "v", "max": 9}]}
BIG = {"checks": [{"type": "range", "column": "v", "max": 99}]}


CURSOR = MERGE | {"cursor": {"field": "rev"}}
MERGES = {
    "a newer row in the target stays": (CURSOR, 5, 7, [(1, 7)], {"superseded": 1}),
    "an equally new row in the target stays": (CURSOR, 5, 5, [(1, 5)], {"superseded": 1}),
    "an older row in the target is updated": (CURSOR, 5, 3, [(1, 5)], {"replayed": 1}),
    "without a cursor the row in the target stays": (MERGE, 5, 3, [(1, 3)], {"superseded": 1}),
    "a row without a cursor's value is the oldest": (CURSOR, None, 3, [(1, 3)], {"superseded": 1}),
}


@pytest.mark.parametrize(("stream", "bad", "good", "loaded", "status"), MERGES.values(), ids=MERGES.keys())
def test_a_merge_never_overwrites_a_newer_row(
    works: Works, stream: dict[str, Any], bad: int | None, good: int, loaded: list[Any], status: dict[str, int]
) -> None:
    works.types = {"id": "bigint", "rev": "bigint", "v": "bigint"}
    works.rows = [{"id": 1, "rev": bad, "v": 50}, {"id": 1, "rev": good, "v": 1}]
    assert counted(works.run(stream | SMALL)) == (2, 1, 1, 0, 0)
    report = replay(works, stream | BIG)
    assert report.exit_code == 0, report.message
    assert works.ask("SELECT id, rev FROM raw.s") == loaded
    assert statuses(works) == status


def test_of_several_rows_of_one_key_the_newest_is_loaded(works: Works) -> None:
    works.types = {"id": "bigint", "rev": "numeric" if works.database else "numeric(9,0)", "v": "bigint"}
    works.rows = [{"id": 1, "rev": at, "v": 50} for at in (9, 10, 2)] + [{"id": 2, "rev": 1, "v": 50}]
    works.run(CURSOR | SMALL)
    report = replay(works, CURSOR | BIG)
    assert counted(report) == (4, 2, 0, 2, 0), report.message
    assert works.ask("SELECT id, CAST(rev AS text) FROM raw.s ORDER BY id") == [(1, "10"), (2, "1")]
    assert statuses(works) == {"replayed": 2, "superseded": 2}


@pytest.mark.parametrize("key", [[], ["id"]])
def test_rows_of_an_older_full_load_are_not_put_into_a_newer_table(works: Works, key: list[str]) -> None:
    full = {"mode": "full", "writeDisposition": "replace", "primaryKey": key}
    works.rows = [{"id": 1, "v": 1}, {"id": 2, "v": 50}]
    for _ in range(2):
        works.run(full | SMALL)
    report = replay(works, full | BIG)
    assert (report.exit_code, counted(report)) == (0, (2, 1, 0, 1, 0)), report.message
    assert "1 superseded by newer rows" in report.message
    assert works.ask("SELECT id FROM raw.s ORDER BY id") == [(1,), (2,)]
    reasons = works.ask("SELECT status, reason FROM _millstream.quarantine ORDER BY id")
    assert reasons == [("superseded", "run 'run-2' has read the whole stream again since"), ("replayed", None)]
    assert counted(works.run(full | BIG)) == (2, 2, 0, 0, 0)


HISTORY = {"primaryKey": ["id"], "writeDisposition": "scd2", "scd2": {"effectiveAt": "at"}}


def test_history_takes_a_row_at_the_time_it_took_effect(postgres_works: Works) -> None:
    works = postgres_works
    works.types = {"id": "bigint", "at": "timestamptz", "v": "bigint"}
    works.rows = [{"id": 1, "at": f"2026-01-0{day}T00:00:00Z", "v": value} for day, value in ((1, 1), (2, 50), (3, 2))]
    assert counted(works.run(HISTORY | SMALL)) == (3, 2, 1, 0, 0)
    report = replay(works, HISTORY | BIG)
    assert counted(report) == (1, 1, 0, 0, 0), report.message
    assert works.ask("SELECT v, valid_from::date::text, valid_to::date::text FROM raw.s ORDER BY valid_from") == [
        (1, "2026-01-01", "2026-01-02"),
        (50, "2026-01-02", "2026-01-03"),
        (2, "2026-01-03", None),
    ]


def test_history_by_the_time_of_the_run_takes_no_row_that_is_older_than_what_it_has(postgres_works: Works) -> None:
    works = postgres_works
    by_run = {"primaryKey": ["id"], "writeDisposition": "scd2"}
    works.rows = [{"id": 1, "v": 50}, {"id": 1, "v": 1}, {"id": 2, "v": 50}]
    works.run(by_run | SMALL)
    assert counted(replay(works, by_run | BIG)) == (2, 1, 0, 1, 0)
    assert works.ask("SELECT id, v FROM raw.s WHERE valid_to IS NULL ORDER BY id") == [(1, 1), (2, 50)]


def test_what_a_backfill_has_read_again_is_not_loaded_twice(works: Works, postgres_database: Postgres) -> None:
    postgres_database.execute("CREATE TABLE s AS SELECT g AS id, 50 AS v FROM generate_series(0, 3) g")
    postgres_database.execute("ALTER TABLE s ADD PRIMARY KEY (id)")
    works.source = Endpoint(name="p", type="postgres", config=dict(postgres_database.config))
    forward = {"name": "public.s", "cursor": {"field": "id"}}
    works.run(forward | SMALL)
    window = Window.model_validate({"from": "1", "to": "3", "step": 1})
    checks = {"checks": [{"type": "expression", "sql": "id <> 2"}]}
    report = works.run(forward | checks, options=RunOptions(trigger="backfill", window=window), name="again")
    assert counted(report) == (2, 1, 1, 0, 0), report.message
    report = replay(works, forward | BIG)
    assert counted(report) == (5, 3, 0, 2, 0), report.message
    assert works.ask("SELECT id FROM raw.s ORDER BY id") == [(0,), (1,), (2,), (3,)]
    reasons = works.ask("SELECT DISTINCT reason FROM _millstream.quarantine WHERE status = 'superseded'")
    assert reasons == [("backfill 'again' has read it again since",)]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"deletes": {"column": "gone"}}, "a replay does not follow `deletes.column`"),
        ({"nested": {"objects": "columns"}}, "a replay does not take `nested` values apart"),
    ],
)
def test_what_a_replay_cannot_do_is_refused(more: dict[str, Any], words: str, postgres_works: Works) -> None:
    works = postgres_works
    works.rows = [{"id": 1, "v": 50, "gone": False}]
    works.run(MERGE | more | SMALL)
    report = replay(works, MERGE | more | BIG)
    assert (report.exit_code, words in report.message) == (78, True), report.message
    assert statuses(works) == {"open": 1}
