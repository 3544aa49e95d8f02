"""A sweep of absent keys under fire: what comes into the target while keys are read stays, whoever brings it.

A row that is taken out by mistake is lost for good: the forward load has passed its cursor.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from chaos.attempts import PATIENCE_S, Attempt, Warm
from chaos.seeds import seed
from chaos.truth import let_end
from millstream_api import Endpoint, RunOptions, RunPlan
from millstream_api.pipeline import PipelineSpec
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

STREAM: dict[str, Any] = {
    "name": "public.items", "target": "raw.items", "mode": "incremental", "cursor": {"field": "rev"},
    "writeDisposition": "merge", "primaryKey": ["id"], "deletes": {"reconcileEvery": "0s"},
}  # fmt: skip
HISTORY = {**STREAM, "writeDisposition": "scd2"}
MARKS = {"deletes": {"reconcileEvery": "0s", "column": "gone"}}
ROWS = 2000
FORWARD = RunOptions()
BACKFILL = RunOptions.model_validate(
    {"trigger": "backfill", "window": {"from": "0", "to": str(2 * ROWS), "step": str(ROWS)}}
)
NEW = (ROWS + 1, "new", 1, False)  # its cursor lies behind the forward load's position


class Place:
    """The tables, the runs, what is done to the tables in mid-sweep, and what must be there."""

    def __init__(self, database: Postgres, warm: Warm, folder: Path) -> None:
        self.database, self.warm, self.folder = database, warm, folder
        self.stream = STREAM
        self.number = 0
        database.execute("CREATE TABLE items (id bigint PRIMARY KEY, name text, rev bigint NOT NULL, gone boolean)")
        database.execute(f"INSERT INTO items SELECT g, 'n' || g, g, NULL FROM generate_series(1, {ROWS}) g")

    def start(self, run: str, failpoint: str = "", options: RunOptions = FORWARD, name: str = "p") -> Attempt:
        """Start an attempt of a run of pipeline `name`."""
        self.number += 1
        end = Endpoint(name="db", type="postgres", config=dict(self.database.config))
        spec = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": [self.stream]}
        plan = RunPlan(
            action="run", namespace="n", name=name, source=end, warehouse=end,
            pipeline=PipelineSpec.model_validate(spec),
        )  # fmt: skip
        path = self.folder / f"plan-{self.number}.json"
        path.write_text(plan.document())
        return Attempt(self.warm, self.folder, path, run, self.number, failpoint, options=options)

    def run(self, run: str, options: RunOptions = FORWARD, name: str = "p") -> dict[str, Any]:
        """Run to the end and return the report."""
        return ended(self.start(run, options=options, name=name))

    def finish(self, run: str, options: RunOptions = FORWARD) -> None:
        """Run until it is done, as a Job's retries do: one killed before may still have a session."""
        deadline = time.monotonic() + PATIENCE_S
        while (report := self.run(run, options))["exitCode"] != 0:
            assert report["exitCode"] == 75, report
            assert time.monotonic() < deadline, report
            time.sleep(0.05)

    def asleep_with_keys(self) -> Attempt:
        """Load everything, let row 7 go, and return a run that sleeps with all keys of the source in its hand."""
        assert self.run("first")["exitCode"] == 0
        self.database.execute("DELETE FROM items WHERE id = 7")
        sweeper = self.start("second", "keys-read:1:stop")
        assert sweeper.asleep()
        return sweeper

    def born(self) -> None:
        """Let a key come into being at the source."""
        self.database.execute(f"INSERT INTO items VALUES {NEW}")

    def backfilled(self) -> None:
        self.born()
        assert self.run("back", BACKFILL)["exitCode"] == 0

    def loaded_by_another(self) -> None:
        """Another pipeline loads the table for the first time: no ledger could have told the sweep."""
        self.born()
        self.stream = STREAM | {"deletes": {}}
        assert self.run("run", name="another")["exitCode"] == 0

    def by_hand(self) -> None:
        self.born()
        self.database.execute(f"INSERT INTO raw.items VALUES {NEW}")

    def by_hand_in_a_subtransaction(self) -> None:
        self.born()
        with psycopg2.connect(self.database.dsn) as connection, connection.cursor() as cursor:
            cursor.execute(f"SAVEPOINT a; INSERT INTO raw.items VALUES {NEW}; RELEASE SAVEPOINT a")
        connection.close()

    def left(self) -> list[tuple[Any, ...]]:
        """Return how source and target differ."""
        valid = "WHERE valid_to IS NULL" if self.stream["writeDisposition"] == "scd2" else ""
        here = "SELECT id, name, rev FROM items WHERE gone IS NOT TRUE"
        there = f"SELECT id, name, rev FROM raw.items {valid}"
        return self.database.execute(
            f"SELECT 'lost', id FROM ({here} EXCEPT {there}) l "
            f"UNION ALL SELECT 'too much', id FROM ({there} EXCEPT {here}) m"
        )


def ended(attempt: Attempt) -> dict[str, Any]:
    """Wait for its end and return its report."""
    attempt.end()
    report = attempt.report()
    assert report is not None, attempt.log()
    return report


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm(tmp_path_factory.mktemp("warm"), 400) as made:
        yield made


@pytest.fixture
def place(postgres_database: Postgres, warm: Warm, tmp_path: Path) -> Place:
    return Place(postgres_database, warm, tmp_path)


MEANWHILE = [Place.backfilled, Place.loaded_by_another, Place.by_hand, Place.by_hand_in_a_subtransaction]


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_what_comes_between_the_reading_of_keys_and_the_sweep_stays(
    meanwhile: Callable[[Place], None], place: Place
) -> None:
    sweeper = place.asleep_with_keys()
    meanwhile(place)
    sweeper.wake()
    is_shared = meanwhile is Place.loaded_by_another
    assert ended(sweeper)["reason"] == ("InvalidConfiguration" if is_shared else "Succeeded")
    assert place.left() == ([("too much", 7)] if is_shared else [])


@pytest.mark.parametrize("savepoint", ["", "SAVEPOINT a;"])
def test_a_transaction_that_began_before_the_keys_were_read(savepoint: str, place: Place) -> None:
    assert place.run("first")["exitCode"] == 0
    with psycopg2.connect(place.database.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_current_xact_id(); {savepoint} INSERT INTO raw.items VALUES {NEW}")
        place.database.execute("CREATE TABLE later AS SELECT 1")  # a larger number, and done
        sweeper = place.start("second", "keys-read:1:stop")
        assert sweeper.asleep()
        place.born()
    connection.close()
    sweeper.wake()
    assert ended(sweeper)["exitCode"] == 0
    assert place.left() == []


def test_a_row_that_changes_while_the_sweep_waits_for_it_stays(place: Place) -> None:
    sweeper = place.asleep_with_keys()
    with psycopg2.connect(place.database.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE raw.items SET name = 'again' WHERE id = 7")
        sweeper.wake()
        while not place.database.execute("SELECT 1 FROM pg_locks WHERE NOT granted"):
            time.sleep(0.01)
        place.database.execute("INSERT INTO items VALUES (7, 'again', 7, NULL)")
    connection.close()
    assert ended(sweeper)["totals"].get("deleted", 0) == 0
    assert place.left() == []


def test_a_transaction_of_another_database_defers_nothing(place: Place, postgres_server: Postgres) -> None:
    assert place.run("first")["exitCode"] == 0
    place.database.execute("DELETE FROM items WHERE id = 7")
    with postgres_server.fresh_database() as other, closing(psycopg2.connect(other.dsn)) as connection:
        connection.cursor().execute("SELECT pg_current_xact_id()")
        place.database.execute("UPDATE raw.items SET name = 'x' WHERE id = 7")
        assert place.run("second")["exitCode"] == 0
    assert place.left() == []


@pytest.mark.parametrize("at", ["keys-read", "swept", "ledger-entered", "reconciled"])
@pytest.mark.parametrize("stream", [STREAM | MARKS, HISTORY | MARKS], ids=["merge", "history"])
def test_killed_in_mid_sweep(stream: dict[str, Any], at: str, place: Place) -> None:
    place.stream = stream
    assert place.run("first")["exitCode"] == 0
    place.database.execute("DELETE FROM items WHERE id % 10 = 1")
    place.database.execute(f"UPDATE items SET gone = true, rev = rev + {ROWS} WHERE id % 10 = 2")
    nth = 2 if at == "ledger-entered" else 1  # first the marked rows are committed
    assert place.start("second", f"{at}:{nth}:kill").end() == -9
    let_end(place.database.execute)
    assert place.run("second")["exitCode"] == 0
    assert place.left() == []
    taken = "SELECT sum(deleted), sum(read), sum(loaded) FROM _millstream.ledger"
    assert place.database.execute(taken) == [(ROWS // 5, ROWS + ROWS // 10, ROWS + ROWS // 10)]


def test_backfills_beside_sweeps_killed_at_random_instants(place: Place) -> None:
    print(f"MILLSTREAM_TEST_SEED={seed()}")
    chance = random.Random(seed())
    assert place.run("first")["exitCode"] == 0
    for number in range(1, 9):
        new, run = ROWS + number * 100, f"run-{number}"
        place.database.execute(f"DELETE FROM items WHERE id % 97 = {number}")
        sweeper = place.start(run)
        place.database.execute(
            f"INSERT INTO items SELECT g, 'late', g % {ROWS}, NULL FROM generate_series({new}, {new + 50}) g"
        )
        back = place.start(f"back-{number}", options=BACKFILL)
        for attempt in (back, sweeper) if number % 2 else (sweeper,):
            if not attempt.ended(chance.uniform(0, 0.15)):
                attempt.kill()
        back.end()
        place.finish(f"back-{number}", BACKFILL)
    let_end(place.database.execute)  # what the session of a dead attempt wrote is young as long as it is there
    place.finish("last")
    assert place.left() == []
