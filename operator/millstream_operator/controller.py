"""Looks at one key: cache → view → decision → API server. Knows no kind's rules, only how outcomes are carried out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from millstream_operator.cluster.client import Client
from millstream_operator.cluster.errors import (
    ApiError,
    ForbiddenError,
    LeaseLostError,
    NotFoundError,
    PermanentApiError,
    TemporaryApiError,
)
from millstream_operator.cluster.lease import Lease
from millstream_operator.cluster.recorder import Recorder
from millstream_operator.cluster.resources import BY_KIND, cached
from millstream_operator.cluster.store import Store, key_of
from millstream_operator.metrics import Metrics
from millstream_operator.objects.difference import differs, stamped
from millstream_operator.objects.podtemplate import RunnerDefaults
from millstream_operator.queue import Key, WorkQueue
from millstream_operator.reconcile import datasource, pipeline, pipelinerun, refusal, retentionpolicy, warehouse
from millstream_operator.reconcile.observed import Context
from millstream_operator.reconcile.outcome import Outcome
from millstream_operator.reconcile.standing import Standing
from millstream_operator.routing import concerned
from millstream_operator.views import Views

Body = dict[str, Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kind:
    view: Callable[[Body], Awaitable[Any]]
    reconcile: Callable[[Any, Context], Outcome]
    refused: Callable[[Any, Context, Standing], Outcome] = refusal.reconcile


class Controller:
    """Carries out decisions."""

    def __init__(
        self,
        client: Client,
        store: Store,
        queue: WorkQueue,
        recorder: Recorder,
        metrics: Metrics,
        lease: Lease,
        runner: RunnerDefaults,
    ) -> None:
        self._client, self._store, self._queue = client, store, queue
        self._recorder, self._metrics, self._lease, self._runner = recorder, metrics, lease, runner
        views = Views(store, client)
        self._kinds = {
            "DataSource": _Kind(views.probe, datasource.reconcile),
            "Warehouse": _Kind(views.probe, warehouse.reconcile),
            "Pipeline": _Kind(views.pipeline, pipeline.reconcile),
            "PipelineRun": _Kind(views.run, pipelinerun.reconcile),
            "RetentionPolicy": _Kind(views.policy, retentionpolicy.reconcile, retentionpolicy.refused),
        }

    def __copy__(self) -> Controller:
        """Kopf copies its memo for every object; there is only one controller."""
        return self

    def notice(self, body: Body) -> None:
        """Want everyone looked at whom a change of `body` may concern."""
        for key in concerned(self._store, body):
            self._queue.add(key)

    def observe(self, body: Body, deleted: bool) -> None:
        """Take an event about an object of ours (from Kopf)."""
        body = cached(BY_KIND[body["kind"]], body)
        if self._store.remove(body) if deleted else self._store.put(body):
            self.notice(body)

    async def work(self) -> None:
        """Be one worker: take keys and look at them, until cancelled. An error of one key harms no other."""
        while True:
            key = await self._queue.take()
            result = "error"
            try:
                result = await self._look(key)
                self._queue.forget(key)
            except TemporaryApiError as error:
                delay_s = self._queue.retry(key, error.retry_after_s)
                _log.warning("reconcile.retry", extra={**_fields(key), "reason": str(error), "retry_s": delay_s})
            except LeaseLostError:
                raise
            except Exception:
                delay_s = self._queue.retry(key)
                _log.exception("reconcile.failed", extra={**_fields(key), "retry_s": delay_s})
            finally:
                self._metrics.worked(key, result)
                self._queue.done(key)

    async def _look(self, key: Key) -> str:
        body = self._store.get(*key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            self._gone(key)
            return "success"
        self._metrics.known(key)
        kind = self._kinds[key.kind]
        outcome = kind.reconcile(await kind.view(body), self._context())
        try:
            await self._carry_out(key, body, outcome)
        except NotFoundError:
            return "success"  # deleted under our hands; the event is on its way
        except (PermanentApiError, ForbiddenError) as error:
            return await self._refused(key, body, error)
        if outcome.requeue_s is None:
            return "success"
        self._queue.add_after(key, outcome.requeue_s)
        return "requeue_after"

    def _gone(self, key: Key) -> None:
        self._queue.drop(key)
        self._metrics.forget(key)

    async def _carry_out(self, key: Key, body: Body, outcome: Outcome) -> None:
        for manifest in outcome.apply:
            await self._apply(stamped(manifest))
        if outcome.status is not None:
            await self._tell(body, outcome.status)
        for note in outcome.notes:
            self._recorder.record(body, note)
            _log.info("turning_point", extra={**_fields(key), "reason": note.reason, "message_text": note.message})
        for facts in outcome.counted:
            self._metrics.counted(key, facts)
        for ref in outcome.delete:
            self._fence()
            await self._client.delete(ref)

    async def _apply(self, manifest: Body) -> None:
        meta = manifest["metadata"]
        if differs(manifest, self._store.get(manifest["kind"], meta["namespace"], meta["name"])):
            self._fence()
            self._keep(await self._client.apply(manifest))

    async def _tell(self, body: Body, status: Body) -> None:
        """Write the status on the newest version we know, if it still is the same object."""
        current = self._store.get(*key_of(body))
        if current is None or current["metadata"]["uid"] != body["metadata"]["uid"]:
            raise NotFoundError("the object was deleted meanwhile")
        if status != current.get("status"):
            self._fence()
            self._keep(await self._client.apply_status(current, status))

    async def _refused(self, key: Key, body: Body, error: ApiError) -> str:
        """Say what the API server did not accept. Only a missing right or quota is worth trying again."""
        _log.error("reconcile.refused", extra={**_fields(key), "reason": str(error)})
        for_good = isinstance(error, PermanentApiError)
        kind, newest = self._kinds[key.kind], self._store.get(*key) or body
        outcome = kind.refused(await kind.view(newest), self._context(), refusal.standing(str(error), for_good))
        # Told first: what stops the old may be refused, too.
        await self._carry_out(key, newest, replace(outcome, apply=(), delete=()))
        await self._carry_out(key, newest, Outcome(outcome.apply, delete=outcome.delete))
        if for_good:
            return "terminal"
        raise error

    def _keep(self, answer: Body) -> None:
        """Put what we wrote into the cache at once: the next look must not decide on what was before."""
        body = cached(BY_KIND[answer["kind"]], answer)
        if self._store.put(body):
            self.notice(body)

    def _fence(self) -> None:
        if not self._lease.held():
            raise LeaseLostError("the lease is no longer ours; nothing more is written")

    def _context(self) -> Context:
        return Context(datetime.now(UTC), self._runner)


def _fields(key: Key) -> dict[str, str]:
    return {"kind": key.kind, "namespace": key.namespace, "object": key.name}
