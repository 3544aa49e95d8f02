"""While everybody is shut out, a split looks at the rows that changed since a moment ago, and at no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from millstream_pipelines.errors import RetriableError
from millstream_pipelines.retention import convert as converting
from millstream_pipelines.retention import copying, split
from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import table_facts
from retained import BY, NOW, furnished, patient
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

TABLE = "public.events"
READ = """
SELECT relname, seq_tup_read FROM pg_stat_xact_user_tables
WHERE seq_tup_read > 0 AND (relname = 'events_before' OR relname LIKE 'events_p%')
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a session that alters tables has sent, one text for each way to the server and back."""
    sent: list[str] = []
    real = Ddl.execute

    def execute(self: Ddl, statement: str, arguments: Any = None) -> None:
        sent.append(statement)
        real(self, statement, arguments)

    monkeypatch.setattr(Ddl, "execute", execute)
    return sent


def test_the_lock_is_held_for_few_ways_to_the_server(postgres_database: Postgres, asked: list[str]) -> None:
    with furnished(postgres_database), patient(postgres_database) as ddl:
        for work in (
            lambda: convert(ddl, table_facts(ddl, TABLE), BY, NOW),
            lambda: split.advance(ddl, TABLE, BY, 60, now=NOW),
        ):
            asked.clear()
            work()
            locked = [number for number, text in enumerate(asked) if 'LOCK TABLE ONLY "public"."events"' in text][-1]
            noted = next(n for n, text in enumerate(asked) if n > locked and "_millstream.conversions" in text)
            assert noted - locked < 6, asked[locked : noted + 1]
        assert len(table_facts(ddl, TABLE).partitions) == 10


SLOW = """
CREATE FUNCTION public.slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); END $$;
CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION public.slow()
"""


def test_what_would_shut_everybody_out_for_too_long_is_taken_back(
    postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(place: str) -> None:
        if place in ("partition-checked", "split-verified"):
            postgres_database.execute(SLOW)

    def with_slow_statements(work: Callable[[], object]) -> None:
        with monkeypatch.context() as patch:
            for module in (converting, split):
                patch.setattr(module, "reached", slow)
            with pytest.raises(RetriableError, match=r"5 times it took longer than lockTimeout \(400 ms\)") as refused:
                work()
        assert refused.value.reason == "TableLocked"
        postgres_database.execute("DROP EVENT TRIGGER slow; DROP FUNCTION public.slow")

    with furnished(postgres_database), patient(postgres_database, 0.4) as ddl:
        content = postgres_database.execute("SELECT count(*), sum(amount) FROM events")
        for work, state in (
            (lambda: convert(ddl, table_facts(ddl, TABLE), BY, NOW), "plain"),
            (lambda: split.advance(ddl, TABLE, BY, 60, now=NOW), "ranges"),
        ):
            with_slow_statements(work)
            assert table_facts(ddl, TABLE).shape == state
            assert postgres_database.execute("SELECT count(*), sum(amount) FROM events") == content
            work()
        assert len(table_facts(ddl, TABLE).partitions) == 10
        assert postgres_database.execute("SELECT count(*), sum(amount) FROM events") == content


def test_no_table_is_read_from_end_to_end_under_the_lock(
    postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with furnished(postgres_database), patient(postgres_database) as ddl:
        postgres_database.execute("INSERT INTO events (at) SELECT '2026-05-01' FROM generate_series(1, 30000)")
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        read: list[tuple[Any, ...]] = []

        def renewed(place: str) -> None:
            if place == "split-renewed":
                postgres_database.execute("UPDATE events SET note = 'late' WHERE id < 20")
                ddl.rows("SELECT pg_stat_force_next_flush()")  # what was read until now is not counted again

        def switching(place: str) -> None:
            if place == "split-switching":
                read.extend(ddl.rows(READ))

        monkeypatch.setattr(copying, "reached", renewed)
        monkeypatch.setattr(split, "reached", switching)
        assert "is split" in split.advance(ddl, TABLE, BY, 60, now=NOW)
        assert postgres_database.execute("SELECT count(*) FROM events WHERE note = 'late'") == [(19,)]
        assert read == []
