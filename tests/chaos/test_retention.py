"""Policies under fire: killed at every step and at random instants, twins, restores, while others write and read.

MILLSTREAM_CHAOS_RETENTION_KILLS says how many kills (100 by default).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from chaos.attempts import Warm
from chaos.retained import TABLE, Retained, Traffic
from chaos.seeds import seed
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

KILLS = int(os.environ.get("MILLSTREAM_CHAOS_RETENTION_KILLS") or 100)
LANES, CLIENTS = 2, 3
_OUT = ("partition-made", "retiring", "detached", "exported", "read-back", "manifest-written", "archived", "dropping",
        "dropped", "reporting")  # fmt: skip
_BACK = ("restored", "partition-checked", "partition-attached", "reporting")
PLACES = {*_OUT, *_BACK}
_TYPICAL_S = 0.4


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm(tmp_path_factory.mktemp("warm"), 1000) as made:
        yield made


@contextmanager
def traffic(database: Postgres) -> Iterator[list[Traffic]]:
    """Let clients write and read during the block; no statement of theirs may fail."""
    clients = [Traffic(database, number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()
    assert [client.failure for client in clients if client.failure] == []


class Lane(threading.Thread):
    """One table, day after day, until enough runs were killed in all lanes, which share `hits`."""

    def __init__(self, number: int, place: Retained, hits: Counter[str]) -> None:
        super().__init__(name=f"lane-{number}")
        self._chance, self._place, self.hits = random.Random(f"{seed()} {number}"), place, hits
        self.days = self.late = self._runs = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._place.finish()
            with traffic(self._place.database) as clients:
                while self.hits.total() < KILLS or PLACES - set(self.hits):
                    self._day()
                    self._place.check()
            self.late = sum(client.late for client in clients)
            self._place.check()
        except BaseException as error:
            self.failure = error

    def _day(self) -> None:
        """Let a day pass, have its run killed a few times, and bring it to its end; now and then a range comes back."""
        self.days += 1
        self._place.later(self._chance.choice((12, 24, 24, 36)))
        self._killed_and_finished(_OUT, None)
        away = [item for item in self._place.away() if item[0] != "expired"]
        if away and self._chance.random() < (0.7 if set(_BACK) - set(self.hits) else 0.25):
            state, partition, low, high, _ = self._chance.choice(away)
            restore = {"table": TABLE, "from": _bound(low), "to": _bound(high)}
            if state == "detached" or self._chance.random() < 0.7:
                self._killed_and_finished(_BACK, {"restore": restore})
            else:
                self._killed_and_finished(("restored", "reporting"), {"restore": restore | {"into": "back"}})
                self._place.compare_and_drop("back", partition)
            self._place.finish()

    def _killed_and_finished(self, places: tuple[str, ...], options: dict[str, Any] | None) -> None:
        self._runs += 1
        self._place.run = f"run-{self._runs}"
        for _ in range(self._chance.randint(4, 8)):
            kind = self._chance.choices(("place", "instant", "twins"), (6, 5, 1))[0]
            if kind == "place":
                missing = [place for place in places if not self.hits[place]]
                at = self._chance.choice(missing or places)
                if self._place.start(f"{at}:1:kill", options).end() == -9:
                    self.hits[at] += 1
                continue
            attempts = [self._place.start(options=options) for _ in range(2 if kind == "twins" else 1)]
            time.sleep(self._chance.uniform(0, _TYPICAL_S))
            if attempts[0].kill():
                self.hits[kind] += 1
            for attempt in attempts[1:]:
                assert attempt.end() in (0, 75), attempt.log()
        self._place.finish(options)


def _bound(text: str) -> str:
    return text.replace(" ", "T").replace("+00", "Z")


def test_every_row_is_in_one_place_whenever_a_run_is_killed(
    postgres_server: Postgres, warm: Warm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        places = [
            Retained(stack.enter_context(postgres_server.fresh_database()), warm, tmp_path / f"lane-{number}")
            for number in range(LANES)
        ]
        hits: Counter[str] = Counter()
        lanes = [Lane(number, place, hits) for number, place in enumerate(places)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    with capsys.disabled():
        states = dict(sum((place.states for place in places), Counter[str]()))
        print(f"\nMILLSTREAM_TEST_SEED={seed()}: {hits.total()} kills {dict(hits)}, {sum(x.days for x in lanes)} days, "
              f"ranges seen {states}, {sum(x.late for x in lanes)} late rows refused")  # fmt: skip
    for lane in lanes:
        if lane.failure is not None:
            raise lane.failure
    assert hits.total() >= KILLS
    assert set(hits) >= PLACES


def test_of_twins_one_leaves_the_table_alone(postgres_database: Postgres, warm: Warm, tmp_path: Path) -> None:
    place = Retained(postgres_database, warm, tmp_path)
    place.finish()
    place.later(24 * 5)
    sleeping = place.start("exported:1:stop")
    assert sleeping.asleep()
    for options in (None, {"restore": {"table": TABLE, "from": "2000-01-01", "to": "2100-01-01"}}):
        twin = place.start(options=options)
        assert twin.end() == 75
        assert (twin.report() or {})["reason"] == "TableBusy"
    sleeping.wake()
    assert sleeping.end() == 0
    place.check()
