"""One case on a real database: its faults are played one after another, then it is run to the end and judged."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos import manifest, truth
from chaos.attempts import PATIENCE_S, Attempt, Warm
from chaos.cases import BATCH_ROWS, Case, Fault
from chaos.proxy import Proxy
from millstream_api import Endpoint, RunOptions, RunPlan
from millstream_api.pipeline import PipelineSpec
from servers.postgres import Crash, Postgres

# A fault is retried, never taken for bad data or a wrong manifest. 1: an error outside all that reports.
_ALLOWED = (0, 75, -9)
_NETWORK_TIMEOUT_S = 2
_LOCK_TIMEOUT_S = 3
_READER, _LOADER = "millstream-reads", "millstream"


@dataclass
class Tally:
    """What was done: only faults that hit a living attempt count."""

    faults: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    drawn: int = 0
    attempts: int = 0
    cases: int = 0
    shifted: int = 0
    retries: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


class Bench:
    """Plays one case. `typical_s`: how long an attempt takes, for faults at random instants.

    `lake`: where Parquet files go, in place of a folder.
    """

    def __init__(
        self,
        case: Case,
        database: Postgres,
        warm: Warm,
        folder: Path,
        typical_s: float,
        crash: Crash | None = None,
        lake: Mapping[str, Any] | None = None,
    ) -> None:
        self.case, self.database, self.warm, self.folder = case, database, warm, folder
        self.tally = Tally(cases=1)
        self.typical_s = typical_s
        self._crash = crash
        self._number = 0
        self._runs = 1
        self._replays = False
        self._rows = case.rows
        self._reports: dict[str, dict[str, Any]] = {}
        self._alive: list[Attempt] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._file = str(folder / "warehouse.duckdb")
        self._lake = {"url": str(folder / "lake"), "commitRows": BATCH_ROWS, **(lake or {})}
        self._session = truth.Session(database)
        self._session.ask(manifest.create(case))
        self._session.ask(manifest.source_rows(case, 1, case.rows))

    def play(self) -> Tally:
        """Play all faults, run to the end, judge; then replay, judge. AssertionError says what is not true."""
        try:
            for fault in self.case.faults:
                self._prepare(fault)
                self.tally.drawn += 1
                getattr(self, f"_play_{fault.kind}")(fault)
            self._runs += self.case.grows
            self._finish()
            self._truth().judge(self._reports)
            if self.case.replay:
                self._replay()
                self._truth().judge_replay(self._reports)
        finally:
            for attempt in self._alive:
                attempt.kill()
            self._session.close()
        return self.tally

    def _truth(self) -> truth.Truth:
        ask = self._session.ask
        asking = {
            "postgres": lambda: ask,
            "duckdb": lambda: truth.asking_duckdb(self._file),
            "parquet": lambda: truth.asking_parquet(self._lake),
        }
        return truth.Truth(self.case, ask, asking[self.case.warehouse](), fixed=self._replays)

    def _replay(self) -> None:
        """Fix what has set rows aside, and replay them under fire."""
        self._replays = True
        self._reports = {}
        self._session.ask(manifest.fix(self.case))
        for fault in self.case.replay:
            self._runs += fault.another_run
            self.tally.drawn += 1
            getattr(self, f"_play_{fault.kind}")(fault)
        self._finish()

    # -- attempts -----------------------------------------------------------------------------------------------

    @property
    def run(self) -> str:
        """The run that attempts belong to now."""
        return f"{'fix' if self._replays else 'run'}-{self._runs}"

    def _prepare(self, fault: Fault) -> None:
        done = bool(self._reports.get(self.run))
        if fault.another_run or (done and self.case.repeats):
            self._runs += 1
        if fault.grow:
            self._session.ask(manifest.source_rows(self.case, self._rows + 1, self._rows + fault.grow))
            self._rows += fault.grow
        if fault.lose is not None and self._session.ask("SELECT to_regclass('_millstream.state')")[0][0]:
            self._session.ask(manifest.lost_rows(self.case, fault.lose))

    def another_run(self) -> None:
        """Let the attempts that follow belong to a new run."""
        self._runs += 1

    def start(self, fault: Fault | None = None, plan: Path | None = None, failpoint: str = "") -> Attempt:
        """Start an attempt of the current run."""
        self._number += 1
        self.tally.attempts += 1
        shift_s = fault.clock_h * 3600 if fault else 0.0
        self.tally.shifted += bool(shift_s)
        path = plan or self._plan()
        self._reports.pop(self.run, None)
        options = RunOptions(trigger="replay") if self._replays else RunOptions()
        attempt = Attempt(self.warm, self.folder, path, self.run, self._number, failpoint, shift_s, options)
        self._alive.append(attempt)
        return self._alive[-1]

    def _end(self, attempt: Attempt) -> int:
        status = attempt.end()
        report = attempt.report()
        what = f"attempt {attempt.number} ended with {status}: {report or ''}\n{attempt.log()}"
        if self._replays and report and report["reason"] == "StillFailing":
            status = 0  # done, and other rows are as bad as before
        assert status in _ALLOWED, what
        if status == 0:
            assert report is not None, what
        self._alive.remove(attempt)
        if status == 0 and report and all(other.run != attempt.run for other in self._alive):
            self._reports[attempt.run] = report  # of twins, only the last one's says what all have done
        return status

    def _finish(self) -> None:
        """Run to the end, as a Job's retries and the next schedule would."""
        self._let_sessions_end()
        deadline = time.monotonic() + PATIENCE_S
        while self._end(last := self.start()) != 0:
            self.tally.retries += 1
            assert time.monotonic() < deadline, f"the last run does not come to its end:\n{last.log()}"
            time.sleep(0.02)

    def _let_sessions_end(self) -> None:
        """What a dead attempt's session wrote is young as long as it is there, and a sweep spares it."""
        if self.case.special == "absence":
            truth.let_end(self._session.ask)

    def _plan(self, source: dict[str, Any] | None = None, warehouse: dict[str, Any] | None = None) -> Path:
        """Write the plan; `source` and `warehouse` replace fields of the configurations."""
        case, reach = self.case, dict(self.database.config)
        wait = {"networkTimeoutSeconds": _NETWORK_TIMEOUT_S}
        reads = reach | wait | {"options": {"application_name": _READER}}
        loads: dict[str, Any] = reach | wait | {"lockTimeoutSeconds": _LOCK_TIMEOUT_S}
        if case.source == "unruly":
            reads = {"rows": self._rows, "groups": case.groups, "batch_rows": BATCH_ROWS, "dirty": case.dirty}
        if case.warehouse == "duckdb":
            loads = {"path": self._file, "threads": 1}
        if case.warehouse == "parquet":
            loads = dict(self._lake)
        stream = manifest.stream(case, fixed=self._replays)
        spec = {"sourceRef": {"name": "s"}, "warehouseRef": {"name": "w"}, "streams": [stream]}
        plan = RunPlan(
            action="run", namespace="chaos", name="pipeline",
            source=Endpoint(name="s", type=case.source, config=reads | (source or {})),
            warehouse=Endpoint(name="w", type=case.warehouse, config=loads | (warehouse or {})),
            pipeline=PipelineSpec.model_validate(spec | {"transforms": manifest.transforms(case)}),
        )  # fmt: skip
        path = self.folder / f"plan-{self._number}.json"
        path.write_text(plan.document())
        return path

    # -- faults -------------------------------------------------------------------------------------------------

    def _hit(self, fault: Fault, true: bool) -> None:
        if true:
            self.tally.faults[f"{fault.kind} {fault.action}" if fault.kind == "place" else fault.kind] += 1
            if fault.place:
                self.tally.places[fault.place] += 1

    def _play_place(self, fault: Fault) -> None:
        attempt = self.start(fault, failpoint=f"{fault.place}:{fault.nth}:{fault.action}")
        status = self._end(attempt)
        self._hit(fault, status == -9 or "FailpointError" in attempt.log())

    def _play_kill(self, fault: Fault) -> None:
        attempt = self.start(fault)
        hit = not attempt.ended(fault.at * self.typical_s) and attempt.kill()
        self._end(attempt)
        self._hit(fault, hit)

    def _play_sleep(self, fault: Fault) -> None:
        """A pod falls asleep, a successor does all the work, the sleeper wakes and must do no harm."""
        place = f"{fault.place}:{fault.nth}:stop" if fault.place else ""
        sleeper = self.start(fault, failpoint=place)
        in_time = fault.place or not sleeper.ended(fault.at * self.typical_s)
        asleep = bool(in_time) and (sleeper.asleep() if fault.place else sleeper.stop())
        if asleep:
            successor = self.start(fault)
            status = self._end(successor)
            if self.case.warehouse == "postgres" and fault.place not in ("", "lock-asked"):
                assert status == 0, f"a sleeper at {fault.place} kept its successor out: {successor.log()}"
            sleeper.wake()
        self._end(sleeper)
        self._hit(fault, asleep)

    def _play_twins(self, fault: Fault) -> None:
        """Several runners at once; one of them may be killed."""
        first = self.start(fault)
        others = []
        for _ in range(fault.runners - 1):
            self._runs += fault.another_run
            others.append(self.start(fault))
        together = not first.ended(0)
        if fault.at < 0.5 and not first.ended(fault.at * self.typical_s):
            first.kill()
        for attempt in (first, *others):
            self._end(attempt)
        self._hit(fault, together)

    def _play_terminate(self, fault: Fault) -> None:
        """The server ends sessions of ours, as an administrator does."""
        attempt = self.start(fault)
        attempt.ended(fault.at * self.typical_s)
        name = _READER if fault.side == "source" else _LOADER
        ended = self._session.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            f"WHERE datname = current_database() AND application_name = '{name}'"
        )
        self._end(attempt)
        self._hit(fault, bool(ended[0][0]))

    def _play_network(self, fault: Fault) -> None:
        with self._proxied(fault) as (proxy, plan):
            self._end(self.start(fault, plan))
            self._hit(fault, proxy.spoiled)
            if proxy.spoiled:
                self.tally.faults[f"({fault.spoil}, {fault.side})"] += 1

    @contextmanager
    def _proxied(self, fault: Fault) -> Iterator[tuple[Proxy, Path]]:
        proxy = Proxy(self.database.host, self.database.port, fault.spoil, fault.direction, fault.after)
        try:
            yield proxy, self._plan(**{fault.side: {"port": proxy.port}})
        finally:
            proxy.close()

    def _play_crash(self, fault: Fault) -> None:
        """The whole server, source and warehouse, ends without a word and is started again."""
        assert self._crash is not None, "this case needs a server of its own"
        attempt = self.start(fault)
        attempt.ended(fault.at * self.typical_s)
        alive = not attempt.ended(0)
        self._session.close()
        self._crash(signal.SIGKILL if fault.nth % 2 else signal.SIGQUIT)
        self._end(attempt)
        self._hit(fault, alive)

    def _play_source(self, fault: Fault) -> None:
        how = "unforeseen" if fault.nth % 2 else "retriable"
        attempt = self.start(fault, self._plan({"fails_after_rows": fault.after, "fails_as": how}))
        self._end(attempt)
        self._hit(fault, "broke off" in str(attempt.report()))
