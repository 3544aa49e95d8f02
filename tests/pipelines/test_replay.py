"""Rows of the quarantine through the current manifest, in both warehouses: each is loaded once or still there."""

from __future__ import annotations

from memory_runs import PIPELINE, Works, counted, postgres_works, replay, statuses, works
from millstream_api import RunOptions
from millstream_api.run_options import Replay
from servers.plugin import postgres_database, postgres_server

__all__ = ["postgres_database", "postgres_server", "postgres_works", "works"]

MERGE = {"primaryKey": ["id"], "writeDisposition": "merge"}
SMALL = {"checks": [{"type": "range", "column": "v", "max": 9}]}
BIG = {"checks": [{"type": "range", "column": "v", "max": 99}]}


def test_rows_that_pass_now_are_loaded_and_the_rest_stays(works: Works) -> None:
    works.rows = [{"v": 1}, {"v": 50}, {"v": 60}, {"v": 500}]
    assert counted(works.run(SMALL)) == (4, 1, 3, 0, 0)
    position = works.ask("SELECT CAST(position AS text) FROM _millstream.state")
    report = replay(works, BIG, run="fix")
    assert (report.exit_code, report.reason, counted(report)) == (65, "StillFailing", (3, 2, 1, 0, 0))
    assert "1 quarantined rows still fail: 1 by range(v)" in report.message
    assert works.ask("SELECT v FROM raw.s ORDER BY v") == [(1,), (50,), (60,)]
    assert works.ask("SELECT CAST(position AS text) FROM _millstream.state") == position
    closed = works.ask("SELECT status, replay_run, attempts, closed_by FROM _millstream.quarantine ORDER BY id")
    assert closed == [("replayed", "fix", 1, "replay")] * 2 + [("open", "fix", 1, None)]
    [(message,)] = works.ask("SELECT message FROM _millstream.quarantine WHERE status = 'open'")
    assert "at most 99" in message
    books = works.ask(
        "SELECT run, origin, read, loaded, quarantined, gap FROM _millstream.accounting ORDER BY first_seq"
    )
    assert books == [("run-1", "source", 4, 1, 3, 0), ("fix", "quarantine", 3, 2, 1, 0)]
    again = replay(works, {}, run="fix-2")
    assert (again.exit_code, counted(again)) == (0, (1, 1, 0, 0, 0))
    nothing = replay(works, {})
    assert (nothing.exit_code, nothing.message) == (0, "nothing to replay")
    assert statuses(works) == {"replayed": 3}


def test_an_attempt_of_the_same_replay_does_not_try_a_row_twice(works: Works) -> None:
    works.rows = [{"v": 50}]
    works.run(SMALL)
    for _ in range(2):
        report = replay(works, SMALL, run="fix")
        assert (report.exit_code, counted(report)) == (65, (1, 0, 1, 0, 0))
    assert works.ask("SELECT attempts FROM _millstream.quarantine") == [(1,)]


def test_a_changed_cast_expression_and_filter_are_applied(works: Works) -> None:
    works.types = {"id": "bigint", "n": "text", "m": "bigint"}
    works.rows = [{"id": 1, "n": "1,5", "m": 2}, {"id": 2, "n": "2,5", "m": 3}, {"id": 3, "n": "x", "m": 4}]
    assert counted(works.run({"columns": [{"name": "n", "type": "numeric(9,2)"}]})) == (3, 0, 3, 0, 0)
    fixed = {
        "columns": [{"name": "n", "expression": "replace(n, ',', '.')", "type": "numeric(9,2)"}],
        "filter": "m > 2",
    }
    report = replay(works, fixed)
    assert counted(report) == (3, 1, 1, 0, 1), report.message
    assert works.ask("SELECT id, CAST(n AS text) FROM raw.s") == [(2, "2.50")]
    assert statuses(works) == {"replayed": 1, "filtered": 1, "open": 1}


def test_only_what_is_chosen(works: Works) -> None:
    for value in (50, 60):
        works.rows = [*works.rows, {"v": value}]
        works.run(SMALL)
    works.rows = [*works.rows, {"v": None}]
    works.run({"checks": [{"type": "not_null", "column": "v"}]})
    numbers = [row[0] for row in works.ask("SELECT id FROM _millstream.quarantine ORDER BY id")]
    assert counted(replay(works, run="r", rule="no such rule")) == (0, 0, 0, 0, 0)
    assert counted(replay(works, run="a", ids=[numbers[1]])) == (1, 1, 0, 0, 0)
    options = RunOptions(trigger="replay", replay=Replay(run="run-1"))
    assert counted(works.run(options=options)) == (1, 1, 0, 0, 0)
    assert counted(replay(works, run="c", rule="not_null(v)")) == (1, 1, 0, 0, 0)
    assert works.ask("SELECT v FROM raw.s WHERE v IS NOT NULL ORDER BY v") == [(50,), (60,)]


def test_rows_that_were_never_parsed_are_counted_and_left(works: Works) -> None:
    works.rows = [{"v": 50}, {"_raw": "v;5"}, {"_raw": "broken"}]
    works.run(SMALL)
    report = replay(works)
    assert (report.exit_code, counted(report)) == (0, (1, 1, 0, 0, 0))
    assert "2 open rows were never parsed by the source and cannot be replayed" in report.message
    assert statuses(works) == {"replayed": 1, "open": 2}
    only_raw = replay(works)
    assert only_raw.exit_code == 0
    assert only_raw.message.startswith("nothing to replay; 2 open rows")


def test_a_masked_value_is_not_masked_twice(works: Works) -> None:
    masked = {
        "columns": [
            {"name": "mail", "mask": "hash"},
            {"name": "secret", "mask": "redact"},
            {"name": "n", "type": "bigint"},
        ]
    }
    works.types = {"mail": "text", "secret": "bigint", "n": "text", "v": "bigint"}
    row = {"mail": "a@b.c", "secret": 7, "n": "1", "v": 50}
    works.rows = [row | {"v": 1}, row, row | {"n": "1x"}]
    assert counted(works.run(masked | SMALL)) == (3, 1, 2, 0, 0)
    [(stored,)] = works.ask("SELECT count(*) FROM _millstream.quarantine WHERE CAST(\"row\" AS text) LIKE '%a@b.c%'")
    assert stored == 0
    fixed = {"columns": [*masked["columns"][:2], {"name": "n", "expression": "replace(n, 'x', '')", "type": "bigint"}]}
    report = replay(works, fixed | BIG)
    assert counted(report) == (2, 2, 0, 0, 0), report.message
    assert works.ask("SELECT DISTINCT mail, secret, n FROM raw.s") == works.ask(
        "SELECT mail, secret, n FROM raw.s LIMIT 1"
    )
    assert len(works.ask("SELECT mail FROM raw.s")) == 3


def test_a_row_whose_masked_value_is_needed_says_so(works: Works) -> None:
    works.types = {"mail": "text", "n": "text"}
    works.rows = [{"mail": "a@b.c", "n": "1x"}]
    number = {"name": "n", "type": "bigint"}
    works.run({"columns": [{"name": "mail", "mask": "hash"}, number]})
    stripped = {"name": "n", "expression": "replace(n, 'x', '')", "type": "bigint"}
    for column, words in (
        ({"name": "mail"}, "column 'mail' is masked no more"),
        ({"name": "mail", "expression": "upper(mail)", "mask": "hash"}, "column 'mail' reads 'mail'"),
    ):
        report = replay(works, {"columns": [column, stripped]})
        assert (report.exit_code, counted(report)) == (65, (1, 0, 1, 0, 0))
        [(rule, message)] = works.ask("SELECT rule, message FROM _millstream.quarantine")
        assert rule == "masked"
        assert words in message
    assert replay(works, {"columns": [{"name": "mail", "mask": "hash"}, stripped]}).exit_code == 0


def test_where_masks_take_what_shaping_needs_the_row_is_kept_as_shaped(works: Works) -> None:
    works.types = {"mail": "text", "v": "bigint"}
    works.rows = [{"mail": "A@b.c", "v": 50}, {"mail": "A@b.c", "v": 1}]
    masked = {"columns": [{"name": "who", "expression": "lower(mail)", "mask": "hash"}, {"name": "mail", "drop": True}]}
    works.run(masked | SMALL)
    assert works.ask("SELECT form FROM _millstream.quarantine") == [("shaped",)]
    assert counted(replay(works, masked | BIG)) == (1, 1, 0, 0, 0)
    assert len(works.ask("SELECT DISTINCT who FROM raw.s")) == 1
    assert works.ask("SELECT v FROM raw.s ORDER BY v") == [(1,), (50,)]


def test_rows_of_an_older_runner(works: Works) -> None:
    works.types = {"a": "bigint", "n": "text"}
    renamed = {"columns": [{"name": "b", "source": "a"}, {"name": "n", "type": "bigint"}]}
    works.rows = [{"a": 1, "n": "1"}]
    works.run(renamed)
    for rule, row in (("cast(n)", '{"a": 2, "n": "2x"}'), ("range(b)", '{"b": 3, "n": 3}'), ("bad", '{"_raw": "x"}')):
        works.ask(
            'INSERT INTO _millstream.quarantine (pipeline, stream, target, run, seq, rule, message, "row") '
            f"VALUES ('{PIPELINE}', 's', 'raw.s', 'old', 1, '{rule}', 'why', '{row}')"
        )
    fixed = {"columns": [renamed["columns"][0], {"name": "n", "expression": "replace(n, 'x', '')", "type": "bigint"}]}
    report = replay(works, fixed)
    assert counted(report) == (2, 2, 0, 0, 0), report.message
    assert works.ask("SELECT b, n FROM raw.s ORDER BY b") == [(1, 1), (2, 2), (3, 3)]
    assert statuses(works) == {"replayed": 2, "open": 1}


def test_what_the_target_refuses_stays_and_the_rows_beside_it_are_loaded(postgres_works: Works) -> None:
    works = postgres_works
    works.ask("CREATE SCHEMA raw")
    works.ask("CREATE TYPE raw.mood AS ENUM ('sad', 'happy')")
    works.ask("CREATE TABLE raw.s (id bigint, v bigint, mood raw.mood, CHECK (id <> 7))")
    works.types = {"id": "bigint", "v": "bigint", "mood": "text"}
    moods = ["sad", "angry", "happy"]
    works.rows = [{"id": n, "v": 50, "mood": moods[n % 3]} for n in range(9)]
    works.run(SMALL)
    report = replay(works, BIG)
    assert (report.exit_code, counted(report)) == (65, (9, 6, 3, 0, 0)), report.message
    assert "3 by cast(mood)" in report.message
    works.ask("ALTER TYPE raw.mood ADD VALUE 'angry'")
    report = replay(works, BIG)
    assert counted(report) == (3, 2, 1, 0, 0)
    assert "1 by constraint(s_id_check)" in report.message
    assert works.ask("SELECT count(*), count(DISTINCT id) FROM raw.s") == [(8, 8)]


def test_a_check_of_the_whole_table_holds(works: Works) -> None:
    unique = [{"type": "unique", "columns": ["id"]}]
    works.rows = [{"id": 1, "v": 1}, {"id": 1, "v": 50}, {"id": 2, "v": 60}]
    works.run({"checks": SMALL["checks"] + unique})
    report = replay(works, {"checks": BIG["checks"] + unique})
    assert (report.exit_code, counted(report)) == (65, (2, 1, 1, 0, 0)), report.message
    assert works.ask("SELECT id FROM raw.s ORDER BY id") == [(1,), (2,)]


def test_transforms_follow_a_replay_that_loaded(works: Works) -> None:
    made = {
        "transforms": [
            {"name": "t", "target": "marts.t", "materialize": "table", "sql": "SELECT count(*) AS n FROM raw.s"}
        ]
    }
    works.rows = [{"v": 1}, {"v": 50}]
    works.run(SMALL, **made)
    assert works.ask("SELECT n FROM marts.t") == [(1,)]
    assert replay(works, BIG, spec=made).exit_code == 0
    assert works.ask("SELECT n FROM marts.t") == [(2,)]


def test_an_unknown_stream_is_told(works: Works) -> None:
    works.rows = [{"v": 1}]
    report = works.run(options=RunOptions(trigger="replay", streams=["x"]))
    assert report.exit_code == 78
    assert "unknown stream 'x'; known: s" in report.message
