"""A row that vanishes between reader and ledger fails the run: chunk and difference are named, nothing is committed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import manifest
from chaos.attempts import Warm
from chaos.bench import Bench
from chaos.cases import BATCH_ROWS, Case
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

ROWS, LOST = 2000, 777
DROPS = f"""
CREATE FUNCTION public.drops() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN IF NEW.id = {LOST} THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER drops BEFORE INSERT ON {manifest.TARGET} FOR EACH ROW EXECUTE FUNCTION public.drops()
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm(tmp_path_factory.mktemp("warm"), BATCH_ROWS) as started:
        yield started


@pytest.mark.parametrize("exact", [False, True], ids=["checked", "as it is"])
@pytest.mark.parametrize(
    ("mode", "disposition"),
    [
        ("incremental", "append"),
        ("incremental", "merge"),
        ("incremental", "scd2"),
        ("full", "merge"),
        ("full", "replace"),
    ],
)
def test_a_run_whose_sum_does_not_close_fails(
    mode: str, disposition: str, exact: bool, warm: Warm, postgres_database: Postgres, tmp_path: Path
) -> None:
    case = Case(
        seed=0, warehouse="postgres", source="postgres", mode=mode, disposition=disposition, rows=1, groups=10**6,
        dirty=False, exact=exact, filtered=False, held=False, transform="", special="", faults=(),
    )  # fmt: skip
    bench = Bench(case, postgres_database, warm, tmp_path, typical_s=0.2)
    assert bench.start().end() == 0  # the target is there
    postgres_database.execute(DROPS)
    postgres_database.execute(manifest.source_rows(case, 2, ROWS))
    bench.another_run()
    failed = bench.start()
    code = failed.end()
    report = failed.report()
    assert report is not None
    assert (code, report["reason"]) == (65, "AccountingGap"), report
    chunk = 2 if mode == "full" else 2 + (LOST - 2) // BATCH_ROWS
    assert f"chunk {chunk}: " in report["message"]
    assert "but 1 are not accounted for" in report["message"]
    assert "nothing of it was committed" in report["message"]
    kept = postgres_database.execute("SELECT coalesce(sum(read), 0), coalesce(sum(loaded), 0) FROM _millstream.ledger")
    rows = postgres_database.execute(f"SELECT count(*) FROM {manifest.TARGET}")[0][0]
    assert kept == [(rows, rows)]
    assert postgres_database.execute("SELECT max(seq) FROM _millstream.ledger") == [(chunk - 1,)]
    postgres_database.execute(f"DROP TRIGGER drops ON {manifest.TARGET}")
    bench.play()  # a later run repairs it
