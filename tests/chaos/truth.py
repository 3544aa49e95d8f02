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
from parquet_case import asked
from servers.postgres import Postgres

Ask = Callable[[str], list[tuple[Any, ...]]]
STREAM, TARGET, TOTALS = "public.source", "raw.target", "marts.totals"
_SHORT = ("id", "grp", "name", "code", "amount", "note")
_LONG = (*_SHORT, "at", "price", "uid", "payload", "span")

CREATE = f"""
CREATE TABLE {STREAM} (id bigint PRIMARY KEY, grp bigint NOT NULL, name text, code text, amount bigint, note text,
  at timestamptz NOT NULL, price numeric(12,2), uid uuid, payload jsonb, span text)
"""


def source_rows(case: Case, first: int, last: int) -> str:
    """Return the SQL that adds rows `first` to `last`; about 3 % break a rule when the case is dirty."""
    dirty = "true" if case.dirty else "false"
    return f"""
    INSERT INTO {STREAM} SELECT g, g * 7919 % {case.groups}, md5(g::text),
      CASE WHEN {dirty} AND g % 71 = 3 THEN 'n/a' ELSE (g * 3)::text END,
      CASE WHEN {dirty} AND g % 59 = 5 THEN -1 ELSE g % 997 END,
      CASE WHEN g % 5 <> 0 THEN 'note ' || g END,
      timestamptz '2026-01-01 00:00+00' + g * interval '1.001 s', g / 7.0, md5('u' || g)::uuid,
      jsonb_build_object('g', g, 'of', {case.groups}),
      format('[%s,%s)', g, g + CASE WHEN {dirty} AND g % 397 = 11 THEN -5 ELSE 5 END)
    FROM generate_series({first}, {last}) g
    """


def stream(case: Case) -> dict[str, Any]:
    """Return the stream of the case's pipeline."""
    given: dict[str, Any] = {
        "name": STREAM, "target": TARGET, "mode": case.mode, "writeDisposition": case.disposition,
    }  # fmt: skip
    checks: list[dict[str, Any]] = []
    if case.mode == "incremental":
        given["cursor"] = {"field": "id"}
    if case.disposition in ("merge", "scd2"):
        given["primaryKey"] = [key(case)]
    if case.disposition == "scd2":
        given["scd2"] = {"effectiveAt": "at"}
    if not case.exact:
        given["columns"] = [{"name": "code", "type": "bigint"}]
        if case.source == "postgres" and case.warehouse == "postgres":
            given["columns"].append({"name": "span", "type": "int8range"})
        checks.append({"type": "range", "column": "amount", "min": 0})
    if case.filtered:
        given["filter"] = "id % 11 <> 0"
    if case.held:
        checks.append({"type": "unique", "column": "name"})
    return given | {"checks": checks}


def transforms(case: Case) -> list[dict[str, Any]]:
    """Return the transforms of the case's pipeline."""
    if not case.transform:
        return []
    sql = f"SELECT grp, count(*) AS n, sum(amount) AS amount FROM {TARGET} GROUP BY grp"
    return [{"name": "totals", "target": TOTALS, "materialize": case.transform, "sql": sql, "primaryKey": ["grp"]}]


def key(case: Case) -> str:
    """Return the key of a merge: rows of one group replace each other where the cursor orders them."""
    if case.disposition == "scd2":
        return "grp"
    return "grp" if case.disposition == "merge" and case.mode == "incremental" else "id"


def _rules(case: Case) -> str:
    """Return a CASE that names the rule a row breaks first, NULL for a good one."""
    if case.exact:
        return "NULL::text"
    lost = "WHEN id % 83 = 7 THEN 'malformed_row' " if case.source == "unruly" and case.dirty else ""
    early = f"{lost}WHEN code !~ '^[0-9]+$' THEN 'cast(code)' WHEN amount < 0 THEN 'range(amount)'"
    late = "WHEN id % 397 = 11 THEN 'cast(span)'" if _spans(case) and case.dirty else ""  # only the server refuses it
    return f"CASE {early} {late} END"


def _spans(case: Case) -> bool:
    return case.source == "postgres" and case.warehouse == "postgres" and not case.exact


def _read(case: Case, rows: str) -> str:
    """Return the rows that are shaped at all: those the filter keeps, and those nobody could parse."""
    kept = f"({_rules(case)}) = 'malformed_row' OR " if case.source == "unruly" else ""
    return f"(SELECT *, {_rules(case)} AS rule FROM {rows} WHERE {kept}{'id % 11 <> 0' if case.filtered else 'true'}) r"


class Truth:
    """Asks both sides of one case."""

    def __init__(self, case: Case, source: Ask, warehouse: Ask) -> None:
        self.case, self.source, self.load = case, source, warehouse
        self.faults: list[str] = []

    def must(self, true: bool, what: str, *seen: Any) -> None:
        """Note what is not true."""
        if not true:
            self.faults.append(f"{what}: {', '.join(str(item)[:600] for item in seen)}")

    def judge(self, reports: dict[str, dict[str, Any]]) -> None:
        """Ask everything. `reports`: run → the report of its last attempt that succeeded. AssertionError names all."""
        ledger = self.load(
            "SELECT seq, run, read, loaded, quarantined, duplicate, filtered FROM _millstream.ledger ORDER BY seq"
        )
        self._rows(len({row[1] for row in ledger}))
        self._ledger(ledger)
        self._quarantine(ledger)
        self._reports(ledger, reports)
        self._left_over()
        assert not self.faults, "\n".join(self.faults)

    def _columns(self) -> dict[str, str]:
        """Return column → its text at the source, as the target must have it."""
        texts = {name: f"{name}::text" for name in (_LONG if self.case.source == "postgres" else _SHORT)}
        if not self.case.exact:
            texts["code"] = "code::bigint::text"
        if _spans(self.case):
            texts["span"] = "span::int8range::text"
        if self.case.disposition == "scd2":
            texts |= {"valid_from": "at::text", "valid_to": "valid_to::text"}
        return texts

    def _rows(self, runs: int) -> None:
        case, columns = self.case, self._columns()
        good = f"SELECT * FROM {_read(case, STREAM)} WHERE rule IS NULL"
        if case.disposition == "merge":
            good = f"SELECT DISTINCT ON ({key(case)}) * FROM ({good}) g ORDER BY {key(case)}, id DESC"
        if case.disposition == "scd2":
            good = f"SELECT *, lead(at) OVER (PARTITION BY grp ORDER BY at) AS valid_to FROM ({good}) g"
        times = runs if (case.mode, case.disposition) == ("full", "append") else 1
        wanted = f"(SELECT {', '.join(f'{text} AS {name}' for name, text in columns.items())} FROM ({good}) g) w"
        if case.warehouse == "postgres":
            whole = f"concat_ws('|', {', '.join(columns)})"  # that values stayed in their rows
            sums = ", ".join(f"coalesce(sum(hashtextextended({item}, 0)), 0)" for item in (*columns, whole))
            expected = self.source(f"SELECT count(*), {sums} FROM {wanted}")[0]
            as_text = ", ".join(f"{name}::text" for name in columns)
            found = self.load(f"SELECT count(*), {sums} FROM (SELECT {as_text} FROM {TARGET}) t")[0]
            expected = tuple(value * times for value in expected)
            self.must(found == expected, f"count, hash per column {list(columns)}, of rows", found, expected)
        else:
            given = self.source(f"SELECT {', '.join(columns)} FROM {wanted}")
            texts = ", ".join(f"{name}::VARCHAR" for name in columns if name not in ("at", "payload"))
            places = [place for place, name in enumerate(columns) if name not in ("at", "payload")]
            rows = Counter(self.load(f"SELECT {texts} FROM {TARGET}"))
            self.must(
                rows == Counter(tuple(row[place] for place in places) for row in given for _ in range(times)),
                "rows (found, expected)", len(rows), len(given),
            )  # fmt: skip
        if case.transform:
            pick = f"SELECT grp, count(*), sum(amount) FROM {TARGET} GROUP BY grp"
            built = f"SELECT grp, n, amount FROM {TOTALS}"
            self.must(sorted(self.load(built)) == sorted(self.load(pick)), "the transform follows its table")

    def _ledger(self, ledger: list[tuple[Any, ...]]) -> None:
        case = self.case
        self.must([row[0] for row in ledger] == list(range(1, len(ledger) + 1)), "gapless seq", [r[0] for r in ledger])
        for row in ledger:
            self.must(row[2] == sum(row[3:]), "the ledger's row closes", row)
        total = self.source(f"SELECT count(*) FROM {STREAM}")[0][0]
        if case.mode == "incremental":
            self.must(sum(row[2] for row in ledger) == total, "rows read once", ledger, total)
        else:
            self.must(len({row[1] for row in ledger}) == len(ledger), "a full run is one chunk", ledger)
            self.must(bool(ledger) and ledger[-1][2] == total, "the last full run has read all", ledger, total)
        seq, position = self.load("SELECT seq, position::text FROM _millstream.state")[0]
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
            self.load(f"SELECT run, rule, ({raw})::bigint FROM _millstream.quarantine WHERE status = 'open'")
        )
        expected: Counter[tuple[Any, ...]] = Counter()
        bad = f"SELECT rule, id FROM {_read(case, STREAM)} WHERE rule IS NOT NULL"
        rows = self.source(bad) if case.dirty else []
        if case.mode == "incremental":
            found = Counter({("", *item[1:]): count for item, count in _without_run(found).items()})
            expected = Counter(("", *row) for row in rows)
        else:
            for entry in ledger:  # the source only grows, so a run that read n rows read the first n
                expected += Counter((entry[1], *row) for row in rows if row[1] <= entry[2])
        self.must(found == expected, "quarantine (too many, missing)", found - expected, expected - found)
        chunks = self.load("SELECT seq, count(*) FROM _millstream.quarantine WHERE status = 'open' GROUP BY seq")
        self.must(dict(chunks) == {row[0]: row[4] for row in ledger if row[4]}, "quarantine per chunk", chunks)

    def _reports(self, ledger: list[tuple[Any, ...]], reports: dict[str, dict[str, Any]]) -> None:
        names = ("read", "loaded", "quarantined", "duplicate", "filtered")
        for run, report in reports.items():
            summed = tuple(sum(row[place] for row in ledger if row[1] == run) for place in range(2, 7))
            told = tuple(report["totals"].get(name, 0) for name in names)
            self.must(told == summed, f"the report of {run} is its ledger's sum", told, summed)

    def _left_over(self) -> None:
        """Sessions end with their processes, and with them locks and stages."""
        if self.case.warehouse != "postgres":
            return
        ours = (
            "SELECT pid, state, query FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'millstream%'"
        )
        deadline = time.monotonic() + 30
        while (left := self.load(ours)) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.must(not left, "sessions left over", left)
        locks = self.load(
            "SELECT locktype, mode FROM pg_locks WHERE locktype = 'advisory' AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        self.must(not locks, "locks left over", locks)
        stages = self.load("SELECT relname FROM pg_class WHERE relname LIKE 'millstream%'")
        self.must(not stages, "stages left over", stages)


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
