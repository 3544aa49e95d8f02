"""The runner's pod keeps the contract with the engine and the `restricted` standard."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_api.meta import PodOverrides
from millstream_operator.objects.job import run_spec
from millstream_operator.objects.podtemplate import PodRequest, RunnerDefaults, pod_template

DEFAULTS = RunnerDefaults("runner:1", "Never", "runs")


def template(**more: Any) -> dict[str, Any]:
    request = PodRequest(command="run", plan="p-1", labels={"ours": "1"}, secrets={"source": "s"}, **more)
    return pod_template(request, DEFAULTS)


def environment(pod: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in pod["spec"]["containers"][0]["env"]}


def test_contract_with_the_engine() -> None:
    pod = template(env={"MILLSTREAM_OPTIONS": "{}"})
    container = pod["spec"]["containers"][0]
    assert (container["name"], container["image"], container["args"]) == ("runner", "runner:1", ["run"])
    assert environment(pod)["MILLSTREAM_PLAN"] == "/millstream/plan/plan.json"
    assert environment(pod)["MILLSTREAM_OPTIONS"] == "{}"
    assert environment(pod)["MILLSTREAM_RUN"]["fieldRef"]["fieldPath"] == (
        "metadata.labels['batch.kubernetes.io/job-name']"
    )
    mounts = {item["mountPath"]: item["name"] for item in container["volumeMounts"]}
    assert mounts == {"/millstream/plan": "plan", "/tmp": "tmp", "/millstream/secrets/source": "secret-source"}  # noqa: S108
    assert container["terminationMessagePolicy"] == "File"


def test_restricted_standard() -> None:
    spec = template()["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    container = spec["containers"][0]["securityContext"]
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_overrides_never_replace_what_is_ours() -> None:
    wish = PodOverrides(
        image="mine:2",
        memory="1Gi",
        cpu_limit="2",
        labels={"ours": "hijacked", "team": "a"},
        env={"MILLSTREAM_PLAN": "/etc/passwd", "TZ": "UTC"},
        node_selector={"disk": "ssd"},
    )
    pod = template(overrides=wish)
    container = pod["spec"]["containers"][0]
    assert pod["metadata"]["labels"] == {"ours": "1", "team": "a"}
    assert environment(pod)["MILLSTREAM_PLAN"] == "/millstream/plan/plan.json"
    assert environment(pod)["TZ"] == "UTC"
    assert container["image"] == "mine:2"
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "1Gi"},
        "limits": {"memory": "1Gi", "cpu": "2"},
    }
    assert pod["spec"]["nodeSelector"] == {"disk": "ssd"}


@pytest.mark.parametrize(("retries", "timeout"), [(0, 60), (20, 86400)])
def test_exit_codes_end_the_job(retries: int, timeout: int) -> None:
    spec = run_spec(template(), retries, timeout)
    rules = spec["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"] == {"containerName": "runner", "operator": "In", "values": [65, 78]}
    assert rules[0]["action"] == "FailJob"
    assert rules[1]["action"] == "Ignore"
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (retries, timeout)
    assert spec["podReplacementPolicy"] == "Failed"


def test_shards_are_the_indexes_of_the_job() -> None:
    spec = run_spec(template(), 2, 60, shards=3)
    same = ("podFailurePolicy", "podReplacementPolicy", "template", "activeDeadlineSeconds")
    whole = run_spec(template(), 2, 60)
    assert {key: spec.pop(key) for key in same} == {key: whole[key] for key in same}
    assert spec == {
        "completionMode": "Indexed",
        "completions": 3,
        "parallelism": 3,
        "backoffLimitPerIndex": 2,
        "maxFailedIndexes": 0,
    }
