"""When a write is needed, and when it is not."""

from __future__ import annotations

from typing import Any

import pytest

from millstream_operator.objects.difference import differs, stamped


def cronjob(**spec: Any) -> dict[str, Any]:
    return {"kind": "CronJob", "metadata": {"name": "a", "labels": {"x": "1"}}, "spec": spec}


def live(manifest: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = stamped(manifest)
    return body | {"spec": body["spec"] | more, "metadata": body["metadata"] | {"resourceVersion": "7"}}


def test_nothing_there_differs() -> None:
    assert differs(stamped(cronjob()), None)


def test_server_defaults_do_not_differ() -> None:
    wanted = cronjob(schedule="* * * * *")
    assert not differs(stamped(wanted), live(wanted, suspend=False, jobTemplate={"spec": {}}))


@pytest.mark.parametrize(
    ("want", "have"),
    [("0.5", "500m"), ("1000m", "1"), ("1Gi", "1024Mi"), ("0.1", "100m"), ("1e3", "1000")],
)
def test_quantities_are_compared_by_value(want: str, have: str) -> None:
    wanted = cronjob(cpu=want)
    assert not differs(stamped(wanted), live(wanted, cpu=have))


@pytest.mark.parametrize("change", [{"schedule": "0 * * * *"}, {"items": [1, 2]}, {"cpu": "501m"}, {"env": None}])
def test_changes_by_others_differ(change: dict[str, Any]) -> None:
    wanted = cronjob(schedule="* * * * *", items=[1], cpu="500m", env=[{"name": "A"}])
    assert differs(stamped(wanted), live(wanted, **change))


def test_a_field_we_no_longer_set_differs() -> None:
    before = cronjob(schedule="* * * * *", nodeSelector={"a": "b"})
    assert differs(stamped(cronjob(schedule="* * * * *")), live(before))


def test_configmaps_are_compared_without_content() -> None:
    wanted = {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}, "immutable": True}
    cached = {"kind": "ConfigMap", "metadata": stamped(wanted)["metadata"]}
    assert not differs(stamped(wanted), cached)
