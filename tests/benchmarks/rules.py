"""Eight rules in flight over rows of which one in a thousand is bad: the rules' CPU seconds, and every bad row found.

The limit is the same conditions as Arrow expressions written by hand, which find the rows and do nothing with them.
Both are timed by `rules_probe` over the same batches, in turn; the run itself is the command's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from tests.benchmarks import dataset
from tests.benchmarks.command import Run, run, write_manifests
from tests.benchmarks.line import Line, Ours
from tests.measuring import measured


class Rules(Line):
    name = "rules"
    title = "8 rules in flight, 0.1 % bad: CPU s of the rules"
    note = "limit s and wall s are CPU seconds of the rules alone, in one process over the same batches"

    @property
    def goal_s(self) -> float | None:
        return 3.4 * self.rows / 3_000_000  # what eight Arrow rules took before, no bad row among them

    def prepare(self) -> None:
        self.server.sql("CREATE SCHEMA IF NOT EXISTS raw")
        self._probed: list[tuple[float, float]] = []
        source = {"type": "postgres", "config": self.server.config}
        for suffix, origin in (("", "source"), ("_tenth", "source_tenth")):
            table = f"dirty{suffix}"
            self.server.sql(f"DROP TABLE IF EXISTS {table}", dataset.dirty(table, origin))
            stream = {"name": f"public.{table}", "target": "raw.rules", "checks": dataset.CHECKS}
            write_manifests(self.bench.folder, f"rules{suffix}", source, self.bench.warehouse, [stream])

    def limits(self) -> Mapping[str, Callable[[], float]]:
        def by_hand() -> float:
            line = [sys.executable, "-m", "tests.benchmarks.rules_probe", json.dumps(self.server.config)]
            done = measured(line, self.bench.root)
            if done.code:
                raise SystemExit(f"the probe of the rules ended with {done.code}: {done.err[-2000:]}")
            hand_s, ours_s, bad = json.loads(done.out)
            if bad != [self.rows // dataset.BAD_EVERY] * 2:
                raise SystemExit(f"{self.name}: by hand {bad[0]} rows are bad, by ours {bad[1]}")
            self._probed.append((hand_s, ours_s))
            return float(hand_s)

        return {"Arrow by hand": by_hand}

    def before(self) -> None:
        self.server.sql("DROP TABLE IF EXISTS raw.rules")

    def ours(self) -> Ours:
        return Ours(self._probed[-1][1], run(self.bench.folder, self.name))

    def verify(self, found: Run) -> None:
        bad = self.rows // dataset.BAD_EVERY
        if (found.count("quarantined"), found.count("loaded")) != (bad, self.rows - bad):
            raise SystemExit(f"{self.name}: {found.report['totals']} where {bad} rows are bad")
        self.same(dataset.Content("source", where=f"id % {dataset.BAD_EVERY} <> 0"), dataset.Content("raw.rules"))
        place = "(\"row\" ->> 'id')::bigint"
        kept = f"SELECT count(DISTINCT {place}) FROM _millstream.quarantine WHERE {place} % {dataset.BAD_EVERY} = 0"
        if self.server.scalar(kept) != str(bad):
            raise SystemExit(f"{self.name}: not every bad row is in quarantine")

    def tenth(self) -> Run | None:
        return run(self.bench.folder, "rules_tenth")

    def clear(self) -> None:
        self.server.sql("DROP TABLE IF EXISTS dirty, dirty_tenth")
        super().clear()
