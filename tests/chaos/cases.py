"""Cases drawn by chance: what is loaded, how, and the faults it must survive. A seed is the whole case."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from millstream_pipelines.failpoints import Place

BATCH_ROWS = 400
Warehouse = Literal["postgres", "duckdb", "parquet"]
Special = Literal["", "marks", "absence", "nested", "poison"]
Kind = Literal["place", "kill", "sleep", "twins", "terminate", "network", "source", "crash"]

PLACES = get_args(Place)
# A pod that sleeps there holds a lock that no successor of its stream can end; see `_postgres/metadata.py`.
_NO_SLEEP = ("migrated",)
_NO_ERROR = ("ending", "reporting")
_SWEEPING = ("keys-read", "swept", "reconciled")
# Not in every case.
_SELDOM = ("migrated", "old-rows-deleted", "staged", "quarantined", "merged", "transform-built", *_SWEEPING)
# What a replay passes, too.
_REPLAYED = ("lock-asked", "shaped", "begun", "in-copy", "staged", "merged", "settled", "position-advanced",
             "ledger-entered", "ending", "reporting")  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One fault. Which fields count depends on `kind`; `at` is a share of a typical attempt's duration."""

    kind: Kind
    place: str = ""
    nth: int = 1
    action: str = "kill"
    at: float = 0.0
    side: Literal["source", "warehouse"] = "warehouse"
    spoil: Literal["reset", "half-close", "delay", "black-hole"] = "reset"
    direction: Literal["up", "down"] = "up"
    after: int = 0
    runners: int = 2
    clock_h: float = 0.0
    grow: int = 0
    lose: int | None = None
    """Which part of the source's rows is deleted before."""
    another_run: bool = False

    def __str__(self) -> str:
        kept = {item.name: getattr(self, item.name) for item in fields(self)[1:]}
        told = [f"{name}={value}" for name, value in kept.items() if value != _PLAIN[name]]
        return f"{self.kind}({', '.join(told)})"


_PLAIN = {item.name: item.default for item in fields(Fault)}


@dataclass(frozen=True)
class Case:
    """One pipeline and what befalls it."""

    seed: int
    warehouse: Warehouse
    source: Literal["postgres", "unruly"]
    mode: Literal["full", "incremental"]
    disposition: Literal["append", "replace", "merge", "scd2"]
    rows: int
    groups: int
    dirty: bool
    exact: bool
    """The stream takes the rows as they are: no cast, no row check; the shortest path there is."""
    filtered: bool
    held: bool
    """A set check of severity error holds the whole run in one transaction."""
    transform: str
    special: Special
    """marks: some rows delete their key. absence: rows are deleted at the source, and all keys are read. nested: lists
    become a child table. poison: a constraint of the target refuses rows."""
    faults: tuple[Fault, ...]
    replay: tuple[Fault, ...] = ()
    """What befalls a replay of all rows that were set aside, behind all else; none without a fault."""

    def __str__(self) -> str:
        told = asdict(self)
        del told["faults"], told["replay"]
        lines = "".join(f"\n  {number}. {fault}" for number, fault in enumerate(self.faults, 1))
        lines += "".join(f"\n  in the replay: {fault}" for fault in self.replay)
        return json.dumps(told) + lines

    @property
    def grows(self) -> bool:
        """Whether rows may come to the source between the attempts."""
        return (self.mode, self.disposition) != ("full", "append")

    @property
    def is_replayable(self) -> bool:
        """Whether rows are set aside that a fix lets in, and a replay is built for them."""
        if self.warehouse == "parquet" or self.special not in ("", "poison"):
            return False
        return self.special == "poison" or (self.dirty and not self.exact)

    @property
    def repeats(self) -> bool:
        """Whether it may be run again when all is done: a held stream would find its rows twice."""
        return self.grows or not self.held


# Kind → weight, per place where cases are played. A crash costs a second, and takes every session of its server.
KINDS: dict[str, dict[Kind, int]] = {
    "postgres": {"place": 45, "kill": 18, "sleep": 8, "twins": 8, "terminate": 8, "network": 10, "source": 25},
    "duckdb": {"place": 45, "kill": 20, "sleep": 6, "twins": 6, "network": 6, "source": 25},
    "parquet": {"place": 45, "kill": 20, "sleep": 8, "twins": 12, "network": 4, "source": 25},
    "crash": {"crash": 30, "place": 20, "kill": 10, "twins": 10},
}
_REPLAY_KINDS: dict[Kind, int] = {"place": 50, "kill": 25, "sleep": 10, "twins": 10, "terminate": 5}
FAULTS_PER_CASE = 10


def named(name: str) -> Case:
    """Return the case of a name, such as `postgres-123`: where it is played, and its seed."""
    where, _, seed = name.partition("-")
    warehouse: Warehouse = "duckdb" if where == "duckdb" else "parquet" if where == "parquet" else "postgres"
    return drawn(int(seed), warehouse, KINDS[where], FAULTS_PER_CASE)


def drawn(seed: int, warehouse: Warehouse, kinds: dict[Kind, int], faults: int) -> Case:
    """Return the case of a seed. `kinds`: kind → weight; `faults`: about how many befall it."""
    chance = random.Random(seed)
    mode = chance.choice(("full", "incremental", "incremental"))
    history = ("scd2",) if warehouse == "postgres" else ()
    merge = ("merge",) if warehouse != "parquet" else ()
    ways = ("append", *merge, *history) if mode == "incremental" else ("append", "replace", *merge)
    disposition = chance.choice(ways)
    exact = chance.random() < 0.25
    dirty = not exact and chance.random() < 0.7
    source = "unruly" if not exact and disposition != "scd2" and chance.random() < 0.25 else "postgres"
    rows = chance.randint(2000, 2800)
    shape: dict[str, Any] = {
        "seed": seed, "warehouse": warehouse, "source": source, "mode": mode, "disposition": disposition, "rows": rows,
        "groups": chance.choice((97, 1009)), "dirty": dirty, "exact": exact,
        "filtered": not exact and chance.random() < 0.3, "held": chance.random() < 0.2,
        "transform": "" if warehouse == "parquet" else chance.choice(("", "", "table", "incremental", "view")),
    }  # fmt: skip
    shape |= _special(chance, Case(**shape, special="", faults=()))
    case = Case(**shape, faults=())
    count = chance.randint(faults - 3, faults + 3)
    drawn_faults = tuple(_fault(chance, case, kinds, number == 0) for number in range(count))
    replay: tuple[Fault, ...] = ()
    if case.is_replayable and chance.random() < 0.25:
        replay = tuple(_replay_fault(chance, case) for _ in range(chance.randint(2, 4)))
    return Case(**shape, faults=drawn_faults, replay=replay)


def _special(chance: random.Random, case: Case) -> dict[str, Any]:
    """Return which of the rarer ways a case goes, and what follows from that."""
    choices: list[Special] = []
    if (case.warehouse, case.source) == ("postgres", "postgres"):
        choices += ["poison", *(["nested"] if case.disposition != "scd2" else [])]
        choices += ["marks", *["absence"] * 3] if case.disposition in ("merge", "scd2") else []
    special = chance.choice(choices) if choices and chance.random() < 0.3 else ""
    changes: dict[str, Any] = {"special": special}
    if special in ("marks", "absence") and case.transform == "incremental":
        changes["transform"] = "table"  # the other one keeps groups that have gone
    if special == "absence" and case.mode == "full":
        changes["dirty"] = False  # which run has met which bad row could not be told from its count
    return changes


def _replay_fault(chance: random.Random, case: Case) -> Fault:
    fault = _fault(chance, case, _REPLAY_KINDS, False)
    place, nth = fault.place, fault.nth
    if place:
        place, nth = chance.choice([item for item in _REPLAYED if _reachable(item, case)]), chance.choice((1, 1, 2))
        if fault.kind == "sleep":
            nth = 1
    action = fault.action if place not in _NO_ERROR else "kill"
    return replace(fault, place=place, nth=nth, action=action, grow=0, lose=None, side="warehouse")


def _fault(chance: random.Random, case: Case, kinds: dict[Kind, int], first: bool) -> Fault:
    possible = {kind: weight for kind, weight in kinds.items() if kind != "source" or case.source == "unruly"}
    kind = chance.choices(list(possible), list(possible.values()))[0]
    given: dict[str, Any] = {"kind": kind, "at": round(chance.uniform(0.05, 0.9), 3)}
    if chance.random() < 0.15:
        given["clock_h"] = round(chance.uniform(-30, 30), 2)
    if case.grows and chance.random() < (0.9 if case.mode == "incremental" else 0.2):
        given["grow"] = chance.randint(BATCH_ROWS, 3 * BATCH_ROWS)
    if case.special == "absence" and chance.random() < 0.5:
        given["lose"] = chance.randrange(29)
    if chance.random() < 0.15 and case.repeats:
        given["another_run"] = True
    if kind == "place" or (kind == "sleep" and chance.random() < 0.6):
        given |= _placed(chance, case, "stop" if kind == "sleep" else "", first)
    elif kind == "twins":
        given["runners"] = chance.choice((2, 2, 3))
    elif kind == "terminate":
        given["side"] = chance.choice(("source", "warehouse", "warehouse"))
    elif kind == "network":
        given |= _spoiled(chance, case)
    elif kind == "source":
        given |= {"after": chance.randint(1, case.rows), "nth": chance.randint(1, 2)}
    elif kind == "crash":
        given["nth"] = chance.randint(1, 2)
    return Fault(**given)


def _placed(chance: random.Random, case: Case, action: str, first: bool) -> dict[str, Any]:
    places = [place for place in PLACES if _reachable(place, case) and (first or place != "migrated")]
    if action == "stop":
        places = [place for place in places if place not in _NO_SLEEP]
    place = chance.choices(places, [3 if place in _SELDOM else 1 for place in places])[0]
    if not action:
        action = "error" if chance.random() < 0.15 and place not in _NO_ERROR else "kill"
    once = case.held or case.mode == "full"
    many = place in ("source-read", "in-copy", "written", "staged", "quarantined")
    often = place in ("begun", "merged", "settled", "position-advanced", "ledger-entered", "committed") and not once
    return {"place": place, "action": action, "nth": chance.choice((1, 1, 2, 2, 3, 4)) if many or often else 1}


def _reachable(place: str, case: Case) -> bool:
    if place == "in-copy":
        return case.warehouse == "postgres"
    if place == "lock-asked":
        return case.warehouse == "postgres"
    if place in ("staged", "merged"):
        return case.disposition in ("merge", "scd2")
    return {
        "old-rows-deleted": case.disposition == "replace" and case.warehouse != "parquet",
        "quarantined": case.dirty,
        "keys-read": case.special == "absence" and case.mode == "incremental",
        "swept": case.special == "absence",
        "reconciled": case.special == "absence" and case.mode == "incremental",
        "transform-built": bool(case.transform),
    }.get(place, True)


def _spoiled(chance: random.Random, case: Case) -> dict[str, Any]:
    side = chance.choice(("source", "warehouse")) if case.source == "postgres" else "warehouse"
    if case.warehouse != "postgres":
        side = "source"
    loud = "down" if side == "source" else "up"  # the way the rows take
    direction = chance.choice((loud, loud, "up" if loud == "down" else "down"))
    most = case.rows * 100 if direction == loud else 12_000
    spoil = chance.choices(("reset", "half-close", "delay", "black-hole"), (5, 4, 2, 1))[0]
    return {"side": side, "spoil": spoil, "direction": direction, "after": chance.randint(1, most)}
