"""What the controller does when the API server refuses what follows from a spec; the client here plays that server."""

from __future__ import annotations

import time
from typing import Any

import pytest

from api.manifests import Body, retention_spec
from api.policies import WAREHOUSE, view
from millstream_operator.cluster.errors import ApiError, ForbiddenError, PermanentApiError
from millstream_operator.cluster.store import Store
from millstream_operator.controller import Controller
from millstream_operator.metrics import Metrics
from millstream_operator.objects.difference import stamped
from millstream_operator.objects.podtemplate import RunnerDefaults
from millstream_operator.queue import Key, WorkQueue
from millstream_operator.reconcile import retentionpolicy
from millstream_operator.reconcile.observed import Context

KEY = Key("RetentionPolicy", "shop", "keep")
HELD = retention_spec(holds=[{"name": "case7", "table": "raw.flights"}], pod={"labels": {"team": "a b"}})


class Server:
    """Takes everything but objects of some kinds, and CronJobs only as they are, suspended."""

    def __init__(self, error: ApiError, *refused: str) -> None:
        self.error, self.refused = error, refused
        self.written: list[str] = []
        self.reasons: list[str] = []

    async def apply(self, manifest: Body) -> Body:
        suspended = manifest["kind"] == "CronJob" and manifest["spec"]["suspend"]
        if manifest["kind"] in self.refused and not suspended:
            raise self.error
        self.written.append(f"{manifest['kind']} suspended" if suspended else manifest["kind"])
        return manifest | {
            "metadata": manifest["metadata"] | {"resourceVersion": "9", "uid": f"uid-{len(self.written)}"}
        }

    async def apply_status(self, body: Body, status: Body) -> Body:
        ready = next(item for item in status["conditions"] if item["type"] == "Ready")
        self.reasons.append(ready["reason"])
        return body | {"status": status, "metadata": body["metadata"] | {"resourceVersion": "10"}}

    async def delete(self, ref: Any) -> None:
        self.written.append(f"no {ref.name}")

    def held(self) -> bool:
        """Whether the lease is ours: always."""
        return True

    def record(self, body: Body, note: Any) -> None:
        """Events are not looked at here."""


def controlled(server: Server, ctx: Context) -> Controller:
    """Return a controller that knows a policy whose spec was changed while a run of the older one is active."""
    store, metrics = Store(), Metrics()
    queue, runner = WorkQueue(time.monotonic, metrics), RunnerDefaults("runner:1")
    anything: Any = server
    for number, made in enumerate(map(stamped, retentionpolicy.reconcile(view(), ctx).apply)):
        kept = made | {"metadata": made["metadata"] | {"uid": f"u{number}", "resourceVersion": "1"}}
        store.put(kept)
        if made["kind"] == "CronJob":
            meta = made["spec"]["jobTemplate"]["metadata"]
            named = {"name": "keep-1", "namespace": "shop", "uid": "u-run", "resourceVersion": "1"}
            store.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta | named, "status": {"active": 1}})
    store.put(WAREHOUSE)
    store.put(view(HELD, meta={"generation": 2, "resourceVersion": "5"}).body)
    return Controller(anything, store, queue, anything, metrics, anything, runner)


@pytest.mark.parametrize(
    ("refused", "written"),
    [
        (("CronJob",), ["ConfigMap", "CronJob suspended", "no keep-1"]),
        (("ConfigMap",), ["CronJob suspended", "no keep-1"]),
        (("Job",), ["ConfigMap", "CronJob", "no keep-1"]),  # the schedule has the hold already
    ],
)
async def test_nothing_goes_on_with_the_older_spec(ctx: Context, refused: tuple[str, ...], written: list[str]) -> None:
    server = Server(PermanentApiError("labels: a b", 422), *refused)
    controller = controlled(server, ctx)
    assert await controller._look(KEY) == "terminal"
    assert (server.written, server.reasons) == (written, ["InvalidSpec"])


async def test_a_missing_right_stops_it_too_and_is_tried_again(ctx: Context) -> None:
    server = Server(ForbiddenError("denied by a webhook", 403), "CronJob")
    controller = controlled(server, ctx)
    with pytest.raises(ForbiddenError):
        await controller._look(KEY)
    assert server.written == ["ConfigMap", "CronJob suspended", "no keep-1"]
    server.refused = ()
    await controller._look(KEY)
    assert server.written[3:5] == ["CronJob", "Job"]
    assert server.reasons == ["Forbidden", "Planning"]
