"""A RetentionPolicy on a real node: from the first plan to rows that left, came back and outlive the policy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import NAMESPACE, TAKES_S, Place

pytestmark = pytest.mark.node

API = {"apiVersion": "millstream.dev/v1alpha1"}
MONTHS = ["2013-08", "2013-09", "2013-10"]
ROWS = 500  # in each of them


def policy(**more: Any) -> dict[str, Any]:
    """A policy for `kept.flights` whose runs start on demand, one minute a year aside."""
    table = {"name": "kept.flights", "partitionBy": {"column": "time_hour", "interval": "1 month"}}
    archive = {"url": "file:///archive/dw", "volumeClaim": "cold"}
    spec = {
        "warehouseRef": {"name": "dw"},
        "tables": [table],
        "keep": {"age": "13 months"},
        "archive": archive,
        "approval": "manual",
        "grace": "0 days",
        "schedule": {"cron": "0 0 1 1 *"},
    }
    return {**API, "kind": "RetentionPolicy", "metadata": {"name": "kept"}, "spec": spec | more}


@pytest.fixture
def kept(place: Place, claim: str) -> Place:
    """A table with three partitions of old rows and one up to this month, in a Warehouse that is Ready."""
    place.rows(
        "CREATE SCHEMA kept; CREATE TABLE kept.flights (time_hour timestamptz NOT NULL, id bigint, tail text, "
        "PRIMARY KEY (time_hour, id)) PARTITION BY RANGE (time_hour)"
    )
    ends = [f"{month}-01 00:00+00" for month in (*MONTHS, "2013-11")]
    today = f"{datetime.now(UTC):%Y-%m}-01 00:00+00"
    for number, (first, last) in enumerate(pairwise([*ends, today])):
        bounds = f"FOR VALUES FROM ('{first}') TO ('{last}')"
        place.rows(f"CREATE TABLE kept.flights_{number} PARTITION OF kept.flights {bounds}")
    for first in ends[:-1]:
        place.rows(
            f"INSERT INTO kept.flights SELECT timestamptz '{first}' + g * interval '1 hour', g, 'N' || g "
            f"FROM generate_series(1, {ROWS}) g"
        )
    spec = {"type": "postgres", "config": {"host": "postgres", "database": "dw"}, "secretRef": {"name": "dw-login"}}
    place.apply({**API, "kind": "Warehouse", "metadata": {"name": "dw"}, "spec": spec})  # the example's own
    place.wait("warehouse", "dw")
    return place


@pytest.fixture
def claim(place: Place, tmp_path: Path) -> Iterator[str]:
    """A PersistentVolumeClaim of the cluster's own storage; where it has none, of a folder of the node."""
    name, size = "cold", {"storage": "1Gi"}
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}}
    if not any(
        "default-class" in str(item["metadata"].get("annotations")) for item in place.kubectl.list("storageclass")
    ):
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o777 if folder == tmp_path else 0o711)  # a kubelet gives no group a folder of its node
        on = {
            "accessModes": spec["accessModes"],
            "capacity": size,
            "storageClassName": "",
            "hostPath": {"path": str(tmp_path)},
        }
        place.kubectl.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": on})
        spec |= {"storageClassName": "", "volumeName": name}
    place.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})
    yield name
    place.kubectl.delete("persistentvolumeclaim", name, NAMESPACE)
    place.kubectl("delete", "persistentvolume", name, "--ignore-not-found")


def test_rows_leave_with_approval_and_come_back(kept: Place) -> None:
    place = kept
    place.apply(policy())
    place.wait("retentionpolicy", "kept", "jsonpath={.status.lastDryRun.outcome}=Succeeded")
    place.wait("retentionpolicy", "kept")
    planned = status(place)["plan"]
    assert [step["step"] for step in planned["plan"] if step["from"] < "2014"] == ["detach"] * 3
    assert (partitions(place), planned.get("digest", "")) == (4, "")  # the plan alone changed nothing

    run(place, "one")
    made = partitions(place)
    assert made in (5, 6)  # a month more where one ends meanwhile
    assert {"live": made, "archived": 3, "dropped": 0}.items() <= status(place).items(), status(place)
    assert condition(place, "Archived") == ("True", "ArchivesVerified")
    place.wait("retentionpolicy", "kept", 'jsonpath={.status.conditions[?(@.type=="Ready")].reason}=AwaitingApproval')
    annotate(place, "approve=000000000000")
    place.wait("retentionpolicy", "kept", 'jsonpath={.status.conditions[?(@.type=="Ready")].reason}=ApprovalRefused')
    annotate(place, f"approve={status(place)['plan']['digest']}")
    place.wait("retentionpolicy", "kept", "jsonpath={.status.dropped}=3")
    assert status(place)["lastRun"]["outcome"] == "Succeeded"
    assert partitions(place) >= made
    assert place.rows("SELECT count(*) FROM kept.flights") == [(0,)]

    restore = {"table": "kept.flights", "from": "2013-08-01", "to": "2013-10-01"}
    spec = {"trigger": "restore", "policyRef": {"name": "kept"}, "restore": restore}
    place.apply({**API, "kind": "PipelineRun", "metadata": {"name": "kept-back"}, "spec": spec})
    place.wait("pipelinerun", "kept-back", "jsonpath={.status.finishedAt}", 2 * TAKES_S)
    back = place.get("pipelinerun", "kept-back")["status"]
    assert (back["phase"], back["rowsLoaded"]) == ("Succeeded", 2 * ROWS), back
    eventually(lambda: status(place).get("lastRestore", {}).get("name") == "kept-back", "the policy to say so")
    counted = "SELECT count(*), min(time_hour) = '2013-08-01 01:00+00', count(DISTINCT tail) FROM kept.flights"
    assert place.rows(counted) == [(2 * ROWS, True, ROWS)]

    place.kubectl.delete("retentionpolicy", "kept", NAMESPACE)
    eventually(lambda: children(place) == [], "its children to go")
    assert place.rows(counted) == [(2 * ROWS, True, ROWS)]


def test_the_year_of_flights_of_the_example(place: Place) -> None:
    """Twelve months are cut, ten archived in S3 and dropped, one held; one comes back."""
    objects = {item["kind"]: item for item in place.example("16-retention")}
    objects["RetentionPolicy"]["metadata"]["name"] = "year"
    table = objects["RetentionPolicy"]["spec"]["tables"][0]["name"]
    place.apply(objects["Warehouse"], objects["RetentionPolicy"], objects["DataSource"])
    place.wait("retentionpolicy", "year", "jsonpath={.status.lastDryRun.outcome}=Succeeded")
    place.wait("retentionpolicy", "year")
    place.apply(objects["Pipeline"])
    place.wait("pipeline", "flights-2013")
    loaded = place.run("flights-2013", "flights-2013-1")
    assert (loaded["phase"], loaded["rowsLoaded"]) == ("Succeeded", 600), loaded
    assert partitions(place, table) == 12
    run(place, "second", "year")
    seen = status(place, "year")
    assert {"archived": 10, "dropped": 10}.items() <= seen.items(), seen
    assert condition(place, "Blocked", "year")[0] == "True"
    assert place.rows(f"SELECT count(*) FROM {table}") == [(100,)]
    assert len(list((place.s3.folder / "landing" / "16-retention-archive").rglob("_manifest.json"))) == 10
    restore = {"table": table, "from": "2013-01-01", "to": "2013-02-01"}
    spec = {"trigger": "restore", "policyRef": {"name": "year"}, "restore": restore}
    place.apply({**API, "kind": "PipelineRun", "metadata": {"name": "year-back"}, "spec": spec})
    place.wait("pipelinerun", "year-back", "jsonpath={.status.finishedAt}", 2 * TAKES_S)
    assert place.get("pipelinerun", "year-back")["status"]["phase"] == "Succeeded"
    assert place.rows(f"SELECT count(*) FROM {table}") == [(150,)]


def status(place: Place, name: str = "kept") -> dict[str, Any]:
    found: dict[str, Any] = place.get("retentionpolicy", name)["status"]
    return found


def condition(place: Place, kind: str, name: str = "kept") -> tuple[str, str]:
    return next((item["status"], item["reason"]) for item in status(place, name)["conditions"] if item["type"] == kind)


def annotate(place: Place, text: str, name: str = "kept") -> None:
    words = (f"retentionpolicy/{name}", f"millstream.dev/{text}", "--overwrite", f"--namespace={NAMESPACE}")
    place.kubectl("annotate", *words)


def run(place: Place, wish: str, name: str = "kept") -> None:
    """Ask for a run, as users do, and wait for its end."""
    before = status(place, name).get("lastRun", {}).get("job")
    annotate(place, f"run={wish}", name)
    eventually(lambda: status(place, name).get("lastRun", {}).get("job") not in (None, before), f"run {wish} to end")
    assert status(place, name)["lastRun"]["outcome"] == "Succeeded", status(place, name)


def partitions(place: Place, table: str = "kept.flights") -> int:
    return int(place.rows(f"SELECT count(*) FROM pg_inherits WHERE inhparent = '{table}'::regclass")[0][0])


def children(place: Place) -> list[str]:
    selector = "millstream.dev/owner-kind in (RetentionPolicy, PipelineRun),millstream.dev/owner in (kept, kept-back)"
    kinds = ("job", "cronjob", "configmap", "pod")
    found = [
        f"{kind}/{item['metadata']['name']}" for kind in kinds for item in place.kubectl.list(kind, NAMESPACE, selector)
    ]
    runs = [item["metadata"]["name"] for item in place.kubectl.list("pipelinerun", NAMESPACE)]
    return [*found, *(name for name in runs if name == "kept-back")]


def eventually(question: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + TAKES_S
    while not question():
        assert time.monotonic() < until, f"waited {TAKES_S} s for {what}"
        time.sleep(0.5)
