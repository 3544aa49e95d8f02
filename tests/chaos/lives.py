"""The life of one table under fire: turned, split, cut by days that leave, restored, loaded into, held, erased from.

All that is drawn is drawn from the life's number, so one life can be played again by itself.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chaos.attempts import Attempt, Warm
from chaos.clients import BACK, traffic
from chaos.retained import LOADED_FROM, TABLE, Retained
from chaos.seeds import seed
from chaos.whereabouts import Whereabouts
from servers.postgres import Postgres

TURN = ("convert-checking", "partition-checked", "converting", "converted", "convert-validated")
SPLIT = ("split-prepared", "split-begun", "split-batch", "split-copied", "split-indexed", "split-verified",
         "split-renewed", "split-switching", "split-switched", "split-keyed", "split-settled")  # fmt: skip
GIVEN_UP = ("abandoning", "abandoned")
OUT = ("partition-made", "retiring", "detached", "deleting", "dropping", "dropped", "split-ending", "split-ended",
       "exported", "read-back", "manifest-written", "archived", "reporting")  # fmt: skip
_DUE = {
    "create": OUT[:1], "detach": (*OUT[1:3], *OUT[8:12]), "archive": OUT[8:12], "expire": OUT[3:4], "drop": OUT[4:6],
}  # fmt: skip
BACK_AGAIN = ("restoring", "restored", "partition-checked", "partition-attached", "reporting")
ERASE = ("erased", "erasing", "exported", "read-back", "manifest-written", "superseded", "deleting")
PLACES = {*TURN, *SPLIT, *GIVEN_UP, *OUT, *BACK_AGAIN, *ERASE}
LOADED_ROWS = 60
_INSTANTS_S = (0.1, 0.2, 0.4)  # a run that has little to do takes 0.1


class Life:
    """One table's, from its first row to the last day. `hits`: how often a living attempt was killed, and where."""

    def __init__(self, number: int, database: Postgres, warm: Warm, folder: Path) -> None:
        self.hits: Counter[str] = Counter()
        self.late = self.days = 0
        self._number, self._chance = number, random.Random(f"{seed()} {number}")
        self._place = Retained(database, warm, folder)
        self.whereabouts = Whereabouts(self._place)
        self._runs = self._loaded = 0

    def play(self) -> None:
        """Play all of it. AssertionError says what is not as it must be."""
        place, chance = self._place, self._chance
        stories = [self._restored, self._restored_beside, self._held, self._unapproved, self._loaded_into, self._twins]
        chance.shuffle(stories)
        with traffic(place.database) as clients:
            self._turned()
            self._finished()
            for self.days, story in enumerate(stories, 1):
                place.later(chance.choice((24, 24, 36)))
                self._under_fire(*((), 6) if self.days % 3 == 0 else (self._due(), 0))
                self._finished()
                place.later(0 if self.days == 1 else chance.choice((12, 24)))  # on day 2 the split's grace is over
                story()
                self._finished()
                if self.days == 4:
                    self._erased()
        self.late = sum(client.late for client in clients)
        self.whereabouts.check()
        self.whereabouts.close()

    def _turned(self) -> None:
        """Turn the table and split it; both are given up once, and begun anew.

        Who dies at the first place behind the last change never comes by the next one, so lives take turns.
        """
        if self._number % 4 == 3:
            self._under_fire((), 10)
            return
        self._given_up(TURN[:1])
        self._under_fire((*TURN[:3], TURN[3 + self._number % 2]), 0)
        self._given_up(SPLIT[: self._chance.randint(1, 6)])
        self._under_fire((*SPLIT[:8], SPLIT[8 + self._number % 4]), 0)

    def _given_up(self, places: Sequence[str]) -> None:
        self._under_fire(places, 0)
        self._under_fire(GIVEN_UP, 0, {"abandon": True})
        self._finished({"abandon": True})

    # -- kills --------------------------------------------------------------------------------------------------

    def _under_fire(self, places: Sequence[str], instants: int, options: dict[str, Any] | None = None,
                    **words: Any) -> None:  # fmt: skip
        """Kill runs at these places, in the order in which one reaches them, and then at instants."""
        self._another_run()
        for at in places:
            if self._place.start(f"{at}:1:kill", options, **words).end() == -9:
                self.hits[at] += 1
            self.whereabouts.trusted()
        for _ in range(instants):
            self._killed_soon(self._place.start(options=options, **words))
            self.whereabouts.trusted()

    def _due(self) -> list[str]:
        """Return the places that the next run comes by, as its plan tells."""
        report = self._place.finish({"dryRun": True}).report() or {}
        places = {"reporting"}
        for step in report["retention"]["plan"]:
            if not step.get("blockedBy"):
                split = step["step"] == "drop" and step["partition"].endswith("_before")
                places |= {*OUT[6:8]} if split else {*_DUE[step["step"]]}
        return sorted(places, key=OUT.index)

    def _killed_soon(self, attempt: Attempt) -> None:
        time.sleep(self._chance.uniform(0, self._chance.choice(_INSTANTS_S)))
        self.hits["instant"] += attempt.kill()

    def _finished(self, options: dict[str, Any] | None = None) -> None:
        self._place.finish(options)
        self.whereabouts.check()

    def _another_run(self) -> None:
        self._runs += 1
        self._place.run = f"run-{self._runs}"

    # -- what happens beside the days ---------------------------------------------------------------------------

    def _twins(self) -> None:
        """Two runs at the same time, one killed: the other one works, or leaves the table alone."""
        for _ in range(6):
            killed, other = self._place.start(), self._place.start()
            self._killed_soon(killed)
            assert other.end() in (0, 75), other.log()

    def _restored(self) -> None:
        away = [item for item in self._place.away() if item[0] != "expired" and item[2] is not None]
        if away:
            state, _, low, high, _ = self._chance.choice(away)
            restore = {"restore": {"table": TABLE, "from": _bound(low), "to": _bound(high)}}
            self._under_fire(BACK_AGAIN if state == "dropped" else BACK_AGAIN[2:], 1, restore)
            self._finished(restore)

    def _restored_beside(self) -> None:
        away = [item for item in self._place.away() if item[0] in ("archived", "dropped") and item[2] is not None]
        if away:
            _, partition, low, high, _ = self._chance.choice(away)
            restore = {"table": TABLE, "from": _bound(low), "to": _bound(high), "into": "back"}
            self._under_fire(("restoring", "restored", "reporting"), 2, {"restore": restore})
            self._place.finish({"restore": restore})
            self.whereabouts.compare_and_drop("back", partition)

    def _held(self) -> None:
        """A hold comes and goes: while it is there, nothing of its range is dropped or expires."""
        hold = [{"name": "case", "table": TABLE, "to": self._day(-self._chance.randint(0, 8))}]
        held = f"coalesce(low, '-infinity')::timestamptz < '{hold[0]['to']}'"
        for _ in range(3):
            before = self._gone(held)
            self._under_fire((), 2, holds=hold)
            assert self._gone(held) == before
            self._under_fire((), 1)

    def _unapproved(self) -> None:
        """Approval by hand comes and goes: nothing is dropped or expires without the plan's digest."""
        before = self._gone("true")
        self._under_fire(("detached", "exported", "manifest-written"), 1, approval="manual")
        self._place.finish(approval="manual")
        self._under_fire((), 1, {"approved": "0123456789ab"}, approval="manual")
        assert self._gone("true") == before
        report = self._place.finish({"dryRun": True}, approval="manual").report() or {}
        digest = {"approved": report["retention"].get("digest", "")}
        self._under_fire(("dropping", "dropped"), 1, digest, approval="manual")

    def _loaded_into(self) -> None:
        """A load brings rows for ranges that are not there yet, and for some that have left; it is killed, and runs."""
        self._place.database.execute(
            f"INSERT INTO public.source SELECT moved.now() + (n - {LOADED_ROWS / 2}) * interval '7 hours', "
            f"{LOADED_FROM + self._loaded} + n, n, jsonb_build_object('n', n) FROM generate_series(1, {LOADED_ROWS}) n"
        )
        self._loaded += LOADED_ROWS
        for at in ("partition-made:1:kill", "", "partition-made:3:kill", ""):
            policy, load = self._place.start(), self._place.load(at)
            self._killed_soon(self._chance.choice((policy, load)))
            for attempt in (policy, load):
                status = attempt.end()
                assert status in (0, 75, -9), attempt.log()
            self.hits["load"] += bool(at) and load.status == -9
        self._place.finish_load()

    def _erased(self) -> None:
        """Rows of one kind leave every place; the receipt says how many there were, whatever was killed."""
        self._place.finish_load()
        self.whereabouts.check()
        ((last,),) = self._place.database.execute("SELECT last_value FROM public.ids")
        where = f"mod(id, 11) = {self._chance.randrange(11)} AND (id < {last - 3 * BACK} OR id > {LOADED_FROM})"
        counted = self.whereabouts.matching(where)
        self._place.erasures.append(where)
        self._place.later(24)  # so that ranges leave by the same runs
        self._under_fire(ERASE, 1)
        self._under_fire(("superseded",), 1, holds=[{"name": "case", "table": TABLE, "to": self._day(-5)}])
        self._finished()
        assert self.whereabouts.matching(where) == (0, 0, 0, 0)
        ((*told, done),) = self._place.database.execute(
            "SELECT live_rows, detached_rows, quarantined_rows, archived_rows, done_at IS NOT NULL "
            f"FROM _millstream.erasures WHERE reason = 'r-{len(self._place.erasures) - 1}'"
        )
        assert (tuple(told), done) == (counted, True)

    def _day(self, days: int) -> str:
        query = f"SELECT date_trunc('day', moved.now() + interval '{days} days')::text"
        return _bound(self._place.database.execute(query)[0][0])

    def _gone(self, condition: str) -> list[Any]:
        query = "SELECT id FROM _millstream.retired WHERE state IN ('dropped', 'expired')"
        return self._place.database.execute(f"{query} AND {condition} ORDER BY id")


def _bound(text: str) -> str:
    return text.replace(" ", "T").replace("+00", "Z")


__all__ = ["PLACES", "Life"]
