"""Whole streams into PostgreSQL: what the run makes of rows that only the server can refuse."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api import RunOptions
from millstream_api.pipeline import ErrorBudget
from millstream_api.stream import StreamSpec
from millstream_pipelines.errors import DataError
from millstream_pipelines.progress import Silence
from millstream_pipelines.registry import configured
from millstream_pipelines.sources.memory import MemorySource
from millstream_pipelines.stream_run import StreamRun
from postgres_case import PostgresCase


class TestRun(PostgresCase):
    """A stream whose column is an enum of the server."""

    def run_of(self, moods: list[str], **budget: Any) -> StreamRun:
        self.execute(f"CREATE SCHEMA IF NOT EXISTS {self.table.split('.')[0]}")
        self.execute(f"CREATE TYPE suite_{self.suffix}.mood AS ENUM ('sad', 'happy')")
        self.execute(f"CREATE TABLE {self.table} (id bigint, mood suite_{self.suffix}.mood)")
        rows = [{"id": number, "mood": mood} for number, mood in enumerate(moods)]
        config = {"batchRows": 2, "streams": {"people": {"rows": rows}}}
        return StreamRun(
            stream=StreamSpec.model_validate({"name": "people", "target": self.table}),
            budget=ErrorBudget.model_validate(budget),
            source=MemorySource(configured(MemorySource.Config, config, {}, "source 'm'"), "source 'm'"),
            warehouse=self.open(),
            identity=f"suite/{self.suffix}",
            run="run-1",
            holder="pod-1",
            options=RunOptions(),
            progress=Silence(),
        )

    def test_they_are_set_aside_and_counted(self) -> None:
        run = self.run_of(["sad", "angry", "happy"])
        run.go()
        counts = run.result.counts
        assert (counts.read, counts.loaded, counts.quarantined) == (3, 2, 1)
        assert self.seen("id") == [(0,), (2,)]

    def test_they_count_against_the_error_budget(self) -> None:
        run = self.run_of(["sad", "angry", "happy"], maxQuarantinedRows=0)
        with pytest.raises(DataError, match="1 of 3 rows") as caught:
            run.go()
        assert caught.value.reason == "ErrorBudgetSpent"
        assert self.seen("id") == []
