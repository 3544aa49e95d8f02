"""What is read from a Job and its pods."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api.run_report import RunReport
from millstream_operator.cluster.reports import job_facts

Body = dict[str, Any]
COMPLETE = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-03-01T10:07:00Z"}
FAILED = {
    "type": "Failed",
    "status": "True",
    "reason": "PodFailurePolicy",
    "lastTransitionTime": "2026-03-01T10:08:00Z",
}


def job(*conditions: Body, **status: Any) -> Body:
    meta = {"name": "flights-1", "namespace": "shop", "uid": "u", "ownerReferences": [{"kind": "CronJob", "name": "c"}]}
    return {"metadata": meta, "status": {"conditions": list(conditions), **status}}


def pod(code: int | None = None, message: str = "", at: str = "2026-03-01T10:07:00Z", **state: Any) -> Body:
    if code is not None:
        state = {"terminated": {"exitCode": code, "message": message, "finishedAt": at, **state}}
    return {"status": {"phase": "Running", "containerStatuses": [{"name": "runner", "state": state}]}}


def test_success() -> None:
    told = RunReport(exit_code=0, reason="Done", message="ok").fitted().decode()
    facts = job_facts(job(COMPLETE, completionTime="2026-03-01T10:06:59Z", succeeded=1), [pod(0, told)])
    assert (facts.state, facts.exit_code, facts.scheduled, facts.run) == ("succeeded", 0, True, "flights-1")
    assert facts.report is not None
    assert facts.report.message == "ok"
    assert facts.finished == "2026-03-01T10:06:59Z"


def test_what_a_job_was_made_for() -> None:
    made = job()
    names = ("plan", "configuration", "approved")
    said = {f"millstream.dev/{name}": name[:4] for name in names} | {"millstream.dev/generation": "3"}
    made["metadata"]["annotations"] = said
    facts = job_facts(made, [])
    assert (facts.generation, facts.plan, facts.configuration, facts.approved) == (3, "plan", "conf", "appr")


def test_newest_attempt_speaks() -> None:
    first = RunReport(exit_code=75, reason="Down", message="first").fitted().decode()
    last = RunReport(exit_code=78, reason="Bad", message="last").fitted().decode()
    pods = [pod(78, last, "2026-03-01T10:09:00Z"), pod(75, first, "2026-03-01T10:01:00Z")]
    facts = job_facts(job(FAILED, failed=2), pods)
    assert (facts.state, facts.exit_code, facts.attempts, facts.reason) == ("failed", 78, 2, "PodFailurePolicy")
    assert facts.finished == "2026-03-01T10:08:00Z"


def test_of_two_that_ended_in_one_second_the_success_speaks() -> None:
    first = RunReport(exit_code=75, reason="Down", message="first").fitted().decode()
    last = RunReport(exit_code=0, reason="Done", message="last").fitted().decode()
    for pods in ([pod(75, first), pod(0, last)], [pod(0, last), pod(75, first)]):
        facts = job_facts(job(COMPLETE, succeeded=1, failed=1), pods)
        assert (facts.exit_code, facts.report and facts.report.message) == (0, "last")


@pytest.mark.parametrize("message", ["", "Traceback (most recent call last)", '{"exitCode": "what"}', "{"])
def test_no_report_is_no_error(message: str) -> None:
    assert job_facts(job(FAILED), [pod(1, message)]).report is None


def test_half_way_conditions_are_not_the_end() -> None:
    half = {"type": "FailureTarget", "status": "True"}
    assert job_facts(job(half), [pod(65)]).state == "active"


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        ([pod(137, reason="OOMKilled")], "more memory than its limit"),
        ([pod(143)], "exit code 143"),
        ([{"status": {"phase": "Failed", "reason": "Evicted", "message": "disk"}}], "evicted"),
        ([pod(waiting={"reason": "ImagePullBackOff", "message": "no such image"})], "ImagePullBackOff: no such image"),
        ([pod(waiting={"reason": "ContainerCreating"})], ""),
        (
            [{"status": {"phase": "Pending", "conditions": [{"reason": "Unschedulable", "message": "0/3 nodes"}]}}],
            "waits for a node: 0/3 nodes",
        ),
        ([], ""),
    ],
)
def test_trouble_is_told(pods: list[Body], words: str) -> None:
    assert words in job_facts(job(), pods).trouble
    assert bool(job_facts(job(), pods).trouble) == bool(words)
