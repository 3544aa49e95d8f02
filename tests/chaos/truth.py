"""What must be true after a case, asked of source and warehouse by SQL: every row once, and every row accounted for."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import duckdb
import psycopg2

from chaos.cases import Case
from chaos.manifest import CHILD, STREAM, TARGET, TOTALS, columns, key, rules
from parquet_case import asked
from servers.postgres import Postgres

Ask = Callable[[str], list[tuple[Any, ...]]]
EVER = f"(SELECT * FROM {STREAM} UNION ALL SELECT * FROM {STREAM}_gone) e"
CHILDREN = f"{STREAM}/items"


class Truth:
    """Asks both sides of one case."""

    def __init__(self, case: Case, source: Ask, warehouse: Ask, *, fixed: bool = False) -> None:
        self.case, self.source, self.load, self.fixed = case, source, warehouse, fixed
        self.faults: list[str] = []

    def must(self, true: bool, what: str, *seen: Any) -> None:
        """Note what is not true."""
        if not true:
            self.faults.append(f"{what}: {', '.join(str(item)[:600] for item in seen)}")

    def judge(self, reports: dict[str, dict[str, Any]]) -> None:
        """Ask everything. `reports`: run → the report of its last attempt that succeeded. AssertionError names all."""
        ledger = self._entered("source")
        self._rows(len({row[1] for row in ledger}))
        self._ledger(ledger)
        self._quarantine(ledger)
        self._reports("source", reports)
        self._left_over()
        assert not self.faults, "\n".join(self.faults)

    def judge_replay(self, reports: dict[str, dict[str, Any]]) -> None:
        """Ask what must be true when all rows that were set aside have been replayed under a fixed manifest."""
        ledger = self._entered("quarantine")
        self._rows(len({row[1] for row in self._entered("source")}))
        self._verdicts(ledger)
        self._reports("quarantine", reports)
        self._left_over()
        assert not self.faults, "\n".join(self.faults)

    def _entered(self, origin: str) -> list[tuple[Any, ...]]:
        deleted = "deleted" if self.case.warehouse == "postgres" else "0"
        return self.load(
            f"SELECT seq, run, read, loaded, quarantined, duplicate, filtered, {deleted} FROM _millstream.ledger "
            f"WHERE stream = '{STREAM}' AND origin = '{origin}' ORDER BY seq"
        )

    def _read(self, rows: str) -> str:
        """Return the rows that are shaped at all: those the filter keeps, and those nobody could parse."""
        case, rule = self.case, rules(self.case, fixed=self.fixed)
        kept = f"({rule}) = 'malformed_row' OR " if case.source == "unruly" else ""
        return f"(SELECT *, {rule} AS rule FROM {rows} WHERE {kept}{'id % 11 <> 0' if case.filtered else 'true'}) r"

    def _good(self) -> str:
        """Return the rows that the target must have."""
        case = self.case
        rows = EVER if case.special == "absence" and case.disposition == "scd2" else STREAM
        good = f"SELECT * FROM {self._read(rows)} WHERE rule IS NULL"
        if case.disposition == "merge":
            good = f"SELECT DISTINCT ON ({key(case)}) * FROM ({good}) g ORDER BY {key(case)}, id DESC"
        if case.disposition == "scd2" and case.special == "absence":
            gone = f"NOT EXISTS (SELECT FROM {STREAM} s WHERE s.id = g.id)"
            good = f"SELECT *, CASE WHEN {gone} THEN at END AS valid_to FROM ({good}) g"
        elif case.disposition == "scd2":
            good = f"SELECT *, lead(at) OVER (PARTITION BY grp ORDER BY at) AS valid_to FROM ({good}) g"
        return f"SELECT * FROM ({good}) m WHERE gone IS NULL" if case.special == "marks" else good

    def _rows(self, runs: int) -> None:
        case, texts = self.case, columns(self.case)
        seen = {name: f"{name}::text" for name in texts}
        if case.special == "absence" and case.disposition == "scd2":  # it ends when the sweep comes by
            texts["valid_to"] = seen["valid_to"] = "(valid_to IS NULL)::text"
        times = runs if (case.mode, case.disposition) == ("full", "append") else 1
        wanted = f"(SELECT {_listed(texts)} FROM ({self._good()}) g) w"
        if case.warehouse == "postgres":
            self._same(list(texts), wanted, f"(SELECT {_listed(seen)} FROM {TARGET}) t", times)
        else:
            given = self.source(f"SELECT {', '.join(texts)} FROM {wanted}")
            plain = ", ".join(f"{name}::VARCHAR" for name in texts if name not in ("at", "payload"))
            places = [place for place, name in enumerate(texts) if name not in ("at", "payload")]
            rows = Counter(self.load(f"SELECT {plain} FROM {TARGET}"))
            self.must(
                rows == Counter(tuple(row[place] for place in places) for row in given for _ in range(times)),
                "rows (found, expected)", len(rows), len(given),
            )  # fmt: skip
        if case.special == "nested":
            self._children(times)
        if case.transform and not self.fixed:
            pick = f"SELECT grp, count(*), sum(amount) FROM {TARGET} GROUP BY grp"
            built = f"SELECT grp, n, amount FROM {TOTALS}"
            self.must(sorted(self.load(built)) == sorted(self.load(pick)), "the transform follows its table")

    def _same(self, names: list[str], wanted: str, found: str, times: int = 1) -> None:
        whole = f"concat_ws('|', {', '.join(names)})"  # that values stayed in their rows
        sums = ", ".join(f"coalesce(sum(hashtextextended({item}, 0)), 0)" for item in (*names, whole))
        expected = tuple(value * times for value in self.source(f"SELECT count(*), {sums} FROM {wanted}")[0])
        seen = self.load(f"SELECT count(*), {sums} FROM {found}")[0]
        self.must(seen == expected, f"count, hash per column {names}, of rows", seen, expected)

    def _children(self, times: int) -> None:
        """The elements of the lists of the rows that the target has, and of no other, in their places."""
        elements = "jsonb_array_elements(items) WITH ORDINALITY AS e (value, place)"
        texts = {
            "parent": f"g.{key(self.case)}::text", "_index": "(e.place - 1)::text", "n": "e.value ->> 'n'",
            "v": "e.value ->> 'v'",
        }  # fmt: skip
        seen = {name: f"{name}::text" for name in texts} | {"parent": f"_parent_{key(self.case)}::text"}
        wanted = f"(SELECT {_listed(texts)} FROM ({self._good()}) g, {elements}) w"
        self._same(list(texts), wanted, f"(SELECT {_listed(seen)} FROM {CHILD}) t", times)
        aside = self.load(f"SELECT rule, count(*) FROM _millstream.quarantine WHERE stream = '{CHILDREN}' GROUP BY 1")
        ledger = self.load(f"SELECT sum(quarantined) FROM _millstream.ledger WHERE stream = '{CHILDREN}'")
        late = f"SELECT sum(jsonb_array_length(items)) FROM {self._read(STREAM)} WHERE rule = 'cast(span)'"
        kept = int(self.source(late)[0][0] or 0)
        self.must(sum(row[1] for row in aside) == ledger[0][0], "children set aside are in the ledger", aside, ledger)
        if self.case.mode == "incremental":
            self.must(dict(aside) == ({"parent": kept} if kept else {}), "children of refused rows", aside, kept)

    def _ledger(self, ledger: list[tuple[Any, ...]]) -> None:
        case = self.case
        self.must([row[0] for row in ledger] == list(range(1, len(ledger) + 1)), "gapless seq", [r[0] for r in ledger])
        for row in ledger:
            self.must(row[2] == sum(row[3:7]), "the ledger's row closes", row)
        total = self.source(f"SELECT count(*) FROM {EVER if case.mode == 'incremental' else STREAM}")[0][0]
        if case.mode == "incremental":
            self.must(sum(row[2] for row in ledger) == total, "rows read once", ledger, total)
            if case.special == "absence":
                lost = self.source(f"SELECT count(*) FROM {self._read(f'{STREAM}_gone')} WHERE rule IS NULL")[0][0]
                self.must(sum(row[7] for row in ledger) == lost, "rows taken out once", ledger, lost)
        else:
            self.must(len({row[1] for row in ledger}) == len(ledger), "a full run is one chunk", ledger)
            self.must(bool(ledger) and ledger[-1][2] == total, "the last full run has read all", ledger, total)
        seq, position = self.load(f"SELECT seq, position::text FROM _millstream.state WHERE stream = '{STREAM}'")[0]
        self.must(seq == len(ledger), "state.seq is the last of the ledger", seq, len(ledger))
        last = {"id": total} if case.source == "unruly" else {"field": "id", "cursor": total}
        if case.mode == "full":
            last = {"_millstream_run": ledger[-1][1]} if ledger else {}
        found = json.loads(position or "{}")
        self.must({name: found.get(name) for name in last} == last, "position is the last cursor", position, last)

    def _quarantine(self, ledger: list[tuple[Any, ...]]) -> None:
        case = self.case
        raw = "CASE WHEN rule = 'malformed_row' THEN \"row\"->>'_raw' ELSE \"row\"->>'id' END"
        found = Counter(
            self.load(f"SELECT run, rule, ({raw})::bigint FROM _millstream.quarantine WHERE stream = '{STREAM}'")
        )
        expected: Counter[tuple[Any, ...]] = Counter()
        rows = self.source(f"SELECT rule, id FROM {self._read(EVER)} WHERE rule IS NOT NULL")
        if case.mode == "incremental":
            found = Counter({("", *item[1:]): count for item, count in _without_run(found).items()})
            expected = Counter(("", *row) for row in rows)
        else:
            for entry in ledger:  # the source only grows, so a run that read n rows read the first n
                expected += Counter((entry[1], *row) for row in rows if row[1] <= entry[2])
        self.must(found == expected, "quarantine (too many, missing)", found - expected, expected - found)
        chunks = self.load(f"SELECT seq, count(*) FROM _millstream.quarantine WHERE stream = '{STREAM}' GROUP BY seq")
        self.must(dict(chunks) == {row[0]: row[4] for row in ledger if row[4]}, "quarantine per chunk", chunks)

    def _verdicts(self, ledger: list[tuple[Any, ...]]) -> None:
        """Each row of the quarantine that the fixed manifest takes is closed, once; each other one is open."""
        raw = "CASE WHEN rule = 'malformed_row' THEN \"row\"->>'_raw' ELSE \"row\"->>'id' END"
        quarantine = f"FROM _millstream.quarantine WHERE stream = '{STREAM}'"
        now = dict(self.source(f"SELECT id, rule FROM {self._read(EVER)}"))
        last = self._entered("source")[-1][1]
        # One that a newer row of its key has outdone never comes as far as the server, which would refuse it.
        fit = (None, "cast(span)") if key(self.case) == "grp" and self.case.disposition == "merge" else (None,)
        wrong = []
        for number, run, rule, status in self.load(f"SELECT ({raw})::bigint, run, rule, status {quarantine}"):
            if self.case.disposition == "replace" and run != last and rule != "malformed_row":
                good = status == "superseded"  # a later run has read the row again
            else:
                good = rule == now[number] if status == "open" else now[number] in fit
            wrong += [] if good else [(number, run, rule, status, now[number])]
        self.must(not wrong, "verdicts (id, run, rule, status, what is wrong with it now)", wrong)
        statuses = dict(self.load(f"SELECT status, count(*) {quarantine} GROUP BY status"))
        summed = [sum(row[place] for row in ledger) for place in (3, 5, 6)]
        closed = [statuses.get(name, 0) for name in ("replayed", "superseded", "filtered")]
        self.must(summed == closed, "loaded, superseded, filtered by ledger and by quarantine", summed, closed)

    def _reports(self, origin: str, reports: dict[str, dict[str, Any]]) -> None:
        """Children count with their parents."""
        names = ("read", "loaded", "quarantined", "duplicate", "filtered")
        for run, report in reports.items():
            sums = ", ".join(f"coalesce(sum({name}), 0)" for name in names)
            entered = f"FROM _millstream.ledger WHERE run = '{run}' AND origin = '{origin}'"
            summed = tuple(int(value) for value in self.load(f"SELECT {sums} {entered}")[0])
            told = tuple(report["totals"].get(name, 0) for name in names)
            self.must(told == summed, f"the report of {run} is its ledger's sum", told, summed)

    def _left_over(self) -> None:
        """Sessions end with their processes, and with them locks and stages."""
        if self.case.warehouse != "postgres":
            return
        left = let_end(self.load)
        self.must(not left, "sessions left over", left)
        locks = self.load(
            "SELECT locktype, mode FROM pg_locks WHERE locktype = 'advisory' AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        self.must(not locks, "locks left over", locks)
        stages = self.load("SELECT relname FROM pg_class WHERE relname LIKE 'millstream%'")
        self.must(not stages, "stages left over", stages)


def let_end(ask: Ask) -> list[tuple[Any, ...]]:
    """Wait for the end of all sessions of ours; return those that do not end."""
    ours = (
        "SELECT pid, state, query FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'millstream%'"
    )
    deadline = time.monotonic() + 30
    while (left := ask(ours)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _listed(texts: dict[str, str]) -> str:
    return ", ".join(f"{text} AS {name}" for name, text in texts.items())


def _without_run(found: Counter[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    summed: Counter[tuple[Any, ...]] = Counter()
    for (_, rule, row), count in found.items():
        summed[("", rule, row)] += count
    return summed


class Session:
    """A session of our own that lasts: to connect costs more than most questions. Opened anew when the server left."""

    def __init__(self, database: Postgres) -> None:
        self._database = database
        self._connection: Any = None

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg2.connect(self._database.dsn)
            self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def close(self) -> None:
        """End it."""
        if self._connection is not None:
            self._connection.close()


def asking_duckdb(path: str) -> Ask:
    """Return a way to ask a DuckDB file that nobody has open."""

    def ask(sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(path, read_only=True) as connection:
            return connection.sql(sql).fetchall()

    return ask


def asking_parquet(config: dict[str, Any]) -> Ask:
    """Return a way to ask the files that the log names."""
    return lambda sql: asked(config, sql.replace(TARGET, ".".join(f'"{part}"' for part in TARGET.split("."))))
