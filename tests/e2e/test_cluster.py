"""From `kubectl apply` to checked rows, on a real node with real pods."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from typing import Any

import psycopg2
import pytest
import yaml

from cluster.plugin import TestNode
from e2e.conftest import NAMESPACE, ROOT, TAKES_S, Place, run_of
from servers import postgres

pytestmark = pytest.mark.node

FLIGHTS = ROOT / "examples" / "01-files-to-postgres" / "data"
SCHEDULED = ROOT / "examples" / "07-on-a-cluster"
API = {"apiVersion": "millstream.dev/v1alpha1"}


def pipeline(name: str, source: str, **spec: Any) -> dict[str, Any]:
    """A Pipeline into the warehouse `dw`."""
    base = {"sourceRef": {"name": source}, "warehouseRef": {"name": "dw"}, "retries": {"limit": 0}}
    return {**API, "kind": "Pipeline", "metadata": {"name": name}, "spec": base | spec}


def source(name: str, kind: str, config: dict[str, Any], secret: str = "") -> dict[str, Any]:
    """A DataSource."""
    reference = {"secretRef": {"name": secret}} if secret else {}
    return {
        **API,
        "kind": "DataSource",
        "metadata": {"name": name},
        "spec": {"type": kind, "config": config} | reference,
    }


def memory(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A DataSource that holds its rows."""
    return source(name, "memory", {"streams": {"rows": {"rows": rows}}})


@pytest.fixture(scope="module")
def warehouse(place: Place) -> Place:
    place.apply((SCHEDULED / "warehouse.yaml").read_text())
    place.wait("warehouse", "dw")
    for path in FLIGHTS.glob("*.csv"):
        place.upload(f"flights/{path.name}", path.read_bytes())
    # Due every minute: other tests go on until it is.
    place.apply((SCHEDULED / "source.yaml").read_text(), (SCHEDULED / "pipeline.yaml").read_text())
    place.wait("datasource", "flight-files")
    place.wait("pipeline", "flights")
    return place


def test_annotation_asks_for_a_run(warehouse: Place) -> None:
    place = warehouse
    place.apply(memory("two-rows", [{"id": 1}, {"id": 2}]))
    place.apply(pipeline("annotated", "two-rows", streams=[{"name": "rows", "target": "raw.annotated"}]))
    place.wait("pipeline", "annotated")
    place.kubectl("annotate", "pipeline/annotated", "millstream.dev/run=now", f"--namespace={NAMESPACE}")
    place.wait("pipeline", "annotated", "jsonpath={.status.lastRun.outcome}=Succeeded")
    assert place.rows("SELECT count(*) FROM raw.annotated") == [(2,)]


def test_backfill_loads_its_window_again_and_leaves_the_rest(warehouse: Place) -> None:
    place = warehouse
    place.apply(memory("forty-rows", [{"id": number, "name": f"row {number}"} for number in range(40)]))
    stream = {"name": "rows", "target": "raw.forty", "mode": "incremental", "cursor": {"field": "id"}}
    stream |= {"primaryKey": ["id"], "writeDisposition": "merge"}
    place.apply(pipeline("forty", "forty-rows", streams=[stream]))
    place.wait("pipeline", "forty")
    assert place.run("forty", "forty-1")["rowsLoaded"] == 40
    place.rows("DELETE FROM raw.forty WHERE id BETWEEN 10 AND 19")
    place.rows("UPDATE raw.forty SET name = 'changed'")
    window = {"from": "10", "to": "25", "step": 5}
    status = place.run("forty", "forty-again", trigger="backfill", window=window)
    assert (status["phase"], status["progress"], status["rowsLoaded"]) == ("Succeeded", "3/3", 15), status
    counted = "SELECT count(*), count(*) FILTER (WHERE name = 'row ' || id), min(id) FILTER (WHERE name LIKE 'row%') "
    assert place.rows(counted + "FROM raw.forty") == [(40, 15, 10)]
    place.wait("pipeline", "forty", "jsonpath={.status.rowsLoadedTotal}=55")
    assert place.get("pipeline", "forty")["status"]["lastRun"]["name"] == "forty-1"
    unknown = place.run("forty", "forty-typo", trigger="backfill", window=window, streams=["row"])
    assert (unknown["phase"], "job" in unknown) == ("Failed", False)
    nowhere = place.run("forty", "forty-nowhere", trigger="backfill", window={"from": "x", "to": "y"})
    assert (nowhere["phase"], nowhere["exitCode"], nowhere["attempts"]) == ("Failed", 78, 1)


def test_rows_that_were_set_aside_are_loaded_after_the_fix(warehouse: Place) -> None:
    place = warehouse
    place.apply(memory("late-rows", [{"id": number, "delay": 5 - number} for number in range(10)]))
    stream = {"name": "rows", "target": "raw.late", "primaryKey": ["id"], "writeDisposition": "merge"}
    check = {"type": "range", "column": "delay", "min": 0}
    place.apply(pipeline("late", "late-rows", streams=[stream | {"checks": [check]}]))
    place.wait("pipeline", "late")
    status = place.run("late", "late-1")
    assert (status["rowsLoaded"], status["rowsQuarantined"]) == (6, 4)
    place.apply(pipeline("late", "late-rows", streams=[stream | {"checks": [check | {"min": -5}]}]))
    status = place.run("late", "late-mended", trigger="replay")
    assert (status["phase"], status["rowsLoaded"]) == ("Succeeded", 4), status
    assert place.rows("SELECT count(*), min(delay) FROM raw.late") == [(10, -4)]


def test_scheduled_run_fires_and_is_adopted(warehouse: Place) -> None:
    place = warehouse
    until = time.monotonic() + 2 * TAKES_S
    while not (runs := _runs_of(place, "flights")) and time.monotonic() < until:
        time.sleep(1)
    run = min(runs, key=lambda item: item["metadata"]["creationTimestamp"])
    assert run["spec"]["trigger"] == "schedule"
    assert run["spec"]["scheduledFor"].endswith(":00Z")
    place.wait("pipelinerun", run["metadata"]["name"])
    status = place.get("pipelinerun", run["metadata"]["name"])["status"]
    assert (status["phase"], status["rowsRead"], status["rowsLoaded"], status["exitCode"]) == ("Succeeded", 300, 300, 0)
    assert place.rows("SELECT count(*), count(tail_hash), count(DISTINCT origin) FROM raw.flights")[0][0] == 300
    assert place.rows("SELECT sum(flights) FROM marts.daily_delays") == [(300,)]
    streams = place.get("datasource", "flight-files")["status"]["streams"]
    assert [stream["name"] for stream in streams] == ["flights"]
    conditions = {item["type"]: item for item in place.get("pipeline", "flights")["status"]["conditions"]}
    assert conditions["Fresh"]["status"] == "False"  # flights of 2013; a warning by default
    place.apply(_suspended())


def _runs_of(place: Place, name: str) -> list[dict[str, Any]]:
    runs = place.kubectl.list("pipelinerun", NAMESPACE)
    return [run for run in runs if run["spec"]["pipelineRef"]["name"] == name]


def _suspended() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((SCHEDULED / "pipeline.yaml").read_text())
    document["spec"]["suspend"] = True
    return document


@pytest.fixture
def api(installed: TestNode, warehouse: Place) -> Iterator[None]:
    """The API of the REST example, as the Service `api`."""
    spec = importlib.util.spec_from_file_location("api", ROOT / "examples" / "03-rest-to-postgres" / "server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with ThreadingHTTPServer(("0.0.0.0", 0), module.Handler) as server:
        installed.publish(NAMESPACE, "api", 80, server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("folder", sorted(path.name for path in (ROOT / "examples").glob("0[1-6]-*")))
def test_example_runs_on_the_cluster(warehouse: Place, folder: str) -> None:
    place, prefix = warehouse, f"x{folder[:2]}-"
    objects = [item for item in place.example(folder) if item["metadata"]["name"] != "dw"]
    for item in objects:  # examples share names with each other; on one cluster each gets its own
        if item["kind"] in ("DataSource", "Pipeline"):
            item["metadata"]["name"] = prefix + item["metadata"]["name"]
        if item["kind"] == "Pipeline":
            item["spec"]["sourceRef"]["name"] = prefix + item["spec"]["sourceRef"]["name"]
            if "schedule" in item["spec"]:  # whose time may come now, and take the rows
                item["spec"]["schedule"]["cron"] = "0 0 1 1 *"
    place.apply(*objects)
    named = [(item["kind"].lower(), item["metadata"]["name"]) for item in objects if item["kind"] != "Secret"]
    for kind, name in named:
        place.wait(kind, name)
    for name in [name for kind, name in named if kind == "pipeline"]:
        status = place.run(name, f"{name}-1")
        assert status["phase"] == "Succeeded", json.dumps(status, indent=1)
        sums = ("rowsLoaded", "rowsQuarantined", "rowsDuplicate", "rowsFiltered")
        assert status["rowsRead"] == sum(status[key] for key in sums) > 0


SHARDS = 3


def test_a_run_in_shards_survives_a_pod_that_is_deleted(warehouse: Place) -> None:
    place = warehouse
    shop = replace(place.warehouse, database="shop")
    shop.execute("CREATE TABLE visits AS SELECT g AS id, md5(g::text) AS page FROM generate_series(1, 30000) g")
    shop.execute("ALTER TABLE visits ADD PRIMARY KEY (id)")
    place.apply(source("visits", "postgres", {"host": "postgres", "database": "shop"}, "dw-login"))
    stream = {"name": "public.visits", "target": "raw.visits", "writeDisposition": "replace"}
    spec = {"streams": [stream], "extract": {"shards": SHARDS}, "retries": {"limit": 2}}
    place.apply(pipeline("visits", "visits", **spec))
    place.wait("pipeline", "visits")
    with psycopg2.connect(shop.dsn) as held, held.cursor() as cursor:
        cursor.execute("LOCK TABLE visits")  # all shards are in the middle of their run until it is given free
        place.apply(run_of("visits", "visits-1"))
        place.wait("pipelinerun", "visits-1", "jsonpath={.status.phase}=Running")
        job = place.get("pipelinerun", "visits-1")["status"]["job"]
        place.kubectl.wait("job", job, f"jsonpath={{.status.ready}}={SHARDS}", NAMESPACE, TAKES_S)
        selector = f"batch.kubernetes.io/job-name={job},batch.kubernetes.io/job-completion-index=1"
        killed = place.kubectl.list("pod", NAMESPACE, selector)[0]["metadata"]["name"]
        # Gone before the lock is given free: a slow kubelet would let it come to its end.
        place.kubectl("delete", "pod", killed, f"--namespace={NAMESPACE}", "--grace-period=1")
    held.close()
    status = place.run("visits", "visits-1")
    assert (status["phase"], status["rowsRead"], status["rowsLoaded"]) == ("Succeeded", 30000, 30000), status
    assert (status["progress"], status["attempts"]) == ("3/3", 2)
    digest = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} t"
    assert place.rows(digest.format("raw.visits")) == shop.execute(digest.format("visits"))
    left = "SELECT relname FROM pg_class WHERE relnamespace = '_millstream'::regnamespace AND relname LIKE '%stage%'"
    assert place.rows(left) == []


def test_failing_check_ends_with_65_and_no_retry(warehouse: Place) -> None:
    place = warehouse
    place.apply(memory("one-row", [{"id": 1}]))
    spec = {
        "streams": [{"name": "rows", "target": "raw.checked"}],
        "checks": [{"type": "row_count", "target": "raw.checked", "min": 2}],
        "retries": {"limit": 3, "backoffSeconds": 1},
    }
    place.apply(pipeline("checked", "one-row", **spec))
    place.wait("pipeline", "checked")
    status = place.run("checked", "checked-1")
    assert (status["phase"], status["exitCode"], status["attempts"]) == ("ChecksFailed", 65, 1)
    assert "row_count" in json.dumps(status["conditions"])


def test_source_that_went_away_ends_with_75_after_retries(warehouse: Place, installed: TestNode) -> None:
    place = warehouse
    with postgres.serving() as server:
        server.execute("CREATE TABLE orders (id bigint PRIMARY KEY)")
        installed.publish(NAMESPACE, "orders-db", 5432, server.port)
        place.secret("orders-login", user=server.user, password=server.password)
        place.apply(source("orders", "postgres", {"host": "orders-db", "database": "postgres"}, "orders-login"))
        spec = {"streams": [{"name": "public.orders", "target": "raw.orders"}], "retries": {"limit": 1}}
        place.apply(pipeline("orders", "orders", **spec))
        place.wait("datasource", "orders")
        place.wait("pipeline", "orders")
    status = place.run("orders", "orders-1")
    assert (status["phase"], status["exitCode"], status["attempts"]) == ("Failed", 75, 2)


def test_wrong_password_names_the_secret_and_never_its_value(warehouse: Place) -> None:
    place = warehouse
    place.secret("wrong-login", user="nobody-here", password="a-wrong-value-5150")
    spec = {"type": "postgres", "config": {"host": "postgres", "database": "dw"}, "secretRef": {"name": "wrong-login"}}
    place.apply({**API, "kind": "Warehouse", "metadata": {"name": "locked"}, "spec": spec})
    place.wait("warehouse", "locked", "condition=Stalled")
    line = place.kubectl("get", "warehouse", "locked", f"--namespace={NAMESPACE}")
    assert "False" in line
    text = place.kubectl("describe", "warehouse", "locked", f"--namespace={NAMESPACE}")
    assert "wrong-login" in text
    assert "a-wrong-value-5150" not in text
    place.secret("wrong-login", user=place.warehouse.user, password=place.warehouse.password)
    place.kubectl("annotate", "warehouse/locked", "example.com/look=again", f"--namespace={NAMESPACE}")
    place.wait("warehouse", "locked")


def test_configuration_error_is_stalled_and_not_retried(warehouse: Place) -> None:
    place = warehouse
    place.apply(source("typo", "postgress", {}))
    place.wait("datasource", "typo", "condition=Stalled")
    text = json.dumps(place.get("datasource", "typo")["status"]["conditions"])
    assert "did you mean 'postgres'?" in text


def test_deletion_leaves_nothing_but_the_rows(warehouse: Place) -> None:
    place = warehouse
    place.apply(memory("leaving-rows", [{"id": 1}]))
    place.apply(pipeline("leaving", "leaving-rows", streams=[{"name": "rows", "target": "raw.leaving"}]))
    place.wait("pipeline", "leaving")
    assert place.run("leaving", "leaving-1")["phase"] == "Succeeded"
    place.kubectl.delete("pipeline", "leaving", NAMESPACE)
    place.kubectl.delete("datasource", "leaving-rows", NAMESPACE)
    until = time.monotonic() + TAKES_S
    while (left := _children(place, "leaving")) and time.monotonic() < until:
        time.sleep(0.5)
    assert left == []
    assert place.rows("SELECT count(*) FROM raw.leaving") == [(1,)]


def _children(place: Place, stem: str) -> list[str]:
    found = []
    for kind in ("pipelinerun", "job", "cronjob", "configmap", "pod"):
        names = [item["metadata"]["name"] for item in place.kubectl.list(kind, NAMESPACE)]
        found += [f"{kind}/{name}" for name in names if name.startswith((stem, f"probe-{stem}"))]
    return found
