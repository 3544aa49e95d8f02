"""The ledger closes: a row that vanishes on the way, or a chunk from the ledger, fails the run and is named."""

from __future__ import annotations

import pytest

from memory_runs import PIPELINE, Works, counted, postgres_works, works
from millstream_pipelines.accounting import Accounts
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.metadata import Metadata
from millstream_pipelines.warehouses._duckdb import metadata as duckdb_metadata
from millstream_pipelines.warehouses._postgres import metadata as postgres_metadata
from millstream_pipelines.warehouses.base import Chunk, Counts
from servers.plugin import postgres_database, postgres_server

__all__ = ["postgres_database", "postgres_server", "postgres_works", "works"]

MERGE = {"primaryKey": ["id"], "writeDisposition": "merge"}
STREAMS = {
    "append": {},
    "append through the stage": {},
    "merge": MERGE,
    "replace": {"writeDisposition": "replace", "mode": "full"},
}


def drop_rows(works: Works, table: str, condition: str) -> None:
    works.ask(
        f"CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS "
        f"'BEGIN IF {condition} THEN RETURN NULL; END IF; RETURN NEW; END'"
    )
    works.ask(f"CREATE TRIGGER lose BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION public.lose()")


@pytest.mark.parametrize("name", STREAMS)
def test_rows_that_the_target_drops_in_silence(name: str, postgres_works: Works) -> None:
    works = postgres_works
    works.types = {"id": "bigint", "amount": "numeric"} if "stage" in name else {"id": "bigint"}
    works.rows = [{"id": 1}]
    assert works.run(STREAMS[name]).exit_code == 0
    drop_rows(works, "raw.s", "NEW.id IN (3, 4)")
    works.rows = [{"id": n} for n in (1, 2, 3, 4, 5, 5)]
    for _ in range(2):  # a retry does not help
        report = works.run(STREAMS[name], name="again")
        assert (report.exit_code, report.reason) == (65, "AccountingGap"), report.message
        assert "stream 's' chunk 2: " in report.message
        assert "2 are not accounted for" in report.message
        assert "nothing of it was committed" in report.message
    assert works.ask("SELECT id FROM raw.s") == [(1,)]
    works.ask("DROP TRIGGER lose ON raw.s")
    assert works.run(STREAMS[name], name="again").exit_code == 0


def test_a_ledger_that_loses_a_chunk(postgres_works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream_pipelines.seen._COMMIT_ROWS", 1)
    works = postgres_works
    works.batch_rows = 10
    works.rows = [{"id": n} for n in range(10)]
    assert works.run().exit_code == 0
    drop_rows(works, "_millstream.ledger", "NEW.seq = 3")
    works.rows = [{"id": n} for n in range(35)]
    report = works.run()
    assert (report.exit_code, report.reason) == (65, "AccountingGap")
    assert (
        "stream 's': chunk 4: 10 rows were read and committed, the ledger says 5, a difference of 5" in report.message
    )


FIRST = {"postgres": [postgres_metadata._MIGRATIONS[0]], "duckdb": [*duckdb_metadata._MIGRATIONS[0]]}
ONE, TWO = Counts(read=1, loaded=1), Counts(read=2, loaded=2)
OPEN = Counts(read=2, loaded=1)


@pytest.mark.parametrize(
    ("mine", "ledger", "words"),
    [
        ([], [], None),
        ([ONE, TWO], [Chunk(7, ONE), Chunk(8, TWO)], None),
        ([ONE, TWO], [Chunk(7, ONE)], "1 of 2 chunks that were committed are not in the ledger"),
        ([ONE], [Chunk(7, TWO)], "chunk 7: 1 rows were read and committed, the ledger says 2, a difference of -1"),
        ([ONE], [Chunk(7, ONE), Chunk(8, ONE)], "chunk 8 is in the ledger, but this attempt did not commit it"),
        ([TWO], [Chunk(7, OPEN)], "chunk 7: 2 rows were read but 1 are not accounted for"),
    ],
)
def test_what_is_compared(mine: list[Counts], ledger: list[Chunk], words: str | None) -> None:
    accounts = Accounts("stream 's'")
    for counts in mine:
        accounts.committed(counts)
    if words is None:
        accounts.verify(ledger)
        assert accounts.chunks == mine
        return
    with pytest.raises(DataError, match=words) as caught:
        accounts.verify(ledger)
    assert caught.value.reason == "AccountingGap"


def test_the_view_sums_each_run(works: Works) -> None:
    works.rows = [{"id": n if n else None} for n in range(5)]
    checked = {"checks": [{"type": "not_null", "column": "id"}]}
    assert counted(works.run(checked)) == (5, 4, 1, 0, 0)
    works.rows = [*works.rows, {"id": 9}]
    works.run(checked)
    seen = works.ask(
        "SELECT stream, run, target, chunks, first_seq, last_seq, read, loaded, quarantined, gap, "
        "first_commit <= last_commit FROM _millstream.accounting WHERE pipeline = 'test/p' ORDER BY run"
    )
    assert seen == [
        ("s", "run-1", "raw.s", 1, 1, 1, 5, 4, 1, 0, True),
        ("s", "run-2", "raw.s", 1, 2, 2, 1, 1, 0, 0, True),
    ]


def test_a_schema_of_an_older_version_is_brought_up_to_date_by_a_run(works: Works) -> None:
    works.rows = [{"id": 1}]
    works.run()
    works.ask("DROP SCHEMA _millstream CASCADE")
    works.ask("CREATE SCHEMA _millstream")
    works.ask("CREATE TABLE _millstream.version (version int PRIMARY KEY, applied_at timestamptz DEFAULT now())")
    works.ask("INSERT INTO _millstream.version (version) VALUES (1)")
    for statement in FIRST[works.warehouse.type]:
        works.ask(statement)
    with works.opened() as warehouse, pytest.raises(ConfigurationError, match="made by an older version"):
        Metadata(warehouse, PIPELINE).exists()
    works.run()
    with works.opened() as warehouse:
        assert Metadata(warehouse, PIPELINE).exists()
        assert [row["run"] for row in Metadata(warehouse, PIPELINE).accounting()] == ["run-2"]
