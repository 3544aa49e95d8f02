"""What the pods of an Indexed Job said, as one report."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api.run_report import RunReport, StreamReport
from millstream_operator.cluster.reports import job_facts
from millstream_operator.reconcile.observed import JobFacts
from millstream_operator.reconcile.shards import indexes

Body = dict[str, Any]
SHARDS = 3


def told(index: int, code: int = 0, rows: int = 10, minute: int = 1, **more: Any) -> Body:
    """A pod that ended with a report of its slice."""
    counts = {"name": "flights", "target": "raw.flights", "read": rows, "loaded": rows, "bytes_read": 8 * rows}
    report = RunReport(
        exit_code=code,
        reason="R",
        message=f"words of {index}",
        streams=[StreamReport(**counts)],
        totals=StreamReport(**(counts | {"name": "total", "target": ""})),
        **({"shards": SHARDS} | more),
    )
    return pod(index, code, report.fitted().decode(), minute)


def pod(index: int, code: int, message: str = "", minute: int = 1, **more: Any) -> Body:
    end = {"exitCode": code, "message": message, "finishedAt": f"2026-03-01T10:{minute:02}:00Z", **more}
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    statuses = [{"name": "runner", "state": {"terminated": end}}]
    return {
        "metadata": {"labels": labels},
        "status": {"phase": "Failed" if code else "Succeeded", "containerStatuses": statuses},
    }


def facts(*pods: Body, ends: str = "", **status: Any) -> JobFacts:
    conditions = [{"type": ends, "status": "True"}] if ends else []
    meta = {"name": "flights-1", "uid": "u"}
    job = {"metadata": meta, "spec": {"completions": SHARDS}, "status": {"conditions": conditions, **status}}
    return job_facts(job, pods)


def counts(found: JobFacts) -> tuple[int, int]:
    assert found.report is not None
    assert found.report.totals is not None
    return found.report.totals.read, found.report.totals.loaded


def test_the_shard_that_publishes_tells_the_truth() -> None:
    pods = [told(0), told(1, rows=70, minute=3, published=True), told(2, minute=2)]
    found = facts(*pods, ends="Complete", succeeded=3, completedIndexes="0-2")
    assert (found.state, found.exit_code, found.attempts, found.shards_done) == ("succeeded", 0, 1, 3)
    assert counts(found) == (70, 70)


def test_a_lost_word_of_the_publisher_is_added_up() -> None:
    found = facts(told(0), told(1), told(2, rows=5), ends="Complete", succeeded=3, failed=1)
    assert (counts(found), found.attempts) == ((25, 25), 2)
    assert found.report is not None
    assert [(item.name, item.target, item.loaded) for item in found.report.streams] == [("flights", "raw.flights", 25)]


def test_before_it_is_published_rows_are_read_and_not_loaded() -> None:
    found = facts(told(0), told(2, rows=5), active=1, succeeded=2, completedIndexes="0,2")
    assert (found.state, found.exit_code, found.shards_done, counts(found)) == ("active", None, 2, (15, 0))
    assert facts(active=3).report is None


@pytest.mark.parametrize(
    ("pods", "status", "code", "words"),
    [
        ((told(0), told(1, 78), told(2, 75, minute=5)), {}, 78, "shard 1 (of 3, from 0): words of 1"),
        ((told(0, 75, minute=5), told(2, 75)), {"failedIndexes": "2"}, 75, "shard 2 (of 3, from 0): words of 2"),
        ((told(0, 75), told(0, 75, minute=4), told(1)), {}, 75, "shard 0 (of 3, from 0): words of 0"),
    ],
)
def test_the_shard_that_failed_is_named(pods: tuple[Body, ...], status: Body, code: int, words: str) -> None:
    found = facts(*pods, ends="Failed", failed=4, **status)
    assert (found.state, found.exit_code, found.attempts) == ("failed", code, 2)
    assert found.report is not None
    assert (found.report.message, counts(found)[1]) == (words, 0)


def test_a_shard_that_died_without_a_word_is_named() -> None:
    found = facts(told(0), pod(1, 137, reason="OOMKilled"), ends="Failed", failedIndexes="1")
    assert (found.exit_code, found.report) == (137, None)
    assert found.trouble.startswith("shard 1 (of 3, from 0): the pod was killed because it used more memory")


@pytest.mark.parametrize(("text", "expected"), [("", []), ("0", [0]), ("0,3-5", [0, 3, 4, 5])])
def test_index_lists(text: str, expected: list[int]) -> None:
    assert indexes(text) == expected
