"""From the cache to what a decision looks at. The only reads from the API server here are a Secret's metadata, the
Pipeline of a run that may start, and a finished Job's pods when the cache has not heard their last words yet."""

from __future__ import annotations

from typing import Any

from millstream_operator.cluster.client import Client
from millstream_operator.cluster.reports import job_facts
from millstream_operator.cluster.resources import BY_KIND, SECRET, cached
from millstream_operator.cluster.store import Store
from millstream_operator.reconcile.observed import (
    JobFacts,
    PipelineView,
    PlanFacts,
    PolicyView,
    ProbeView,
    RunView,
    SecretFacts,
)
from millstream_operator.reconcile.pipelinerun import job_name
from millstream_operator.reconcile.runs import FINISHED

Body = dict[str, Any]


class Views:
    """Builds views."""

    def __init__(self, store: Store, client: Client) -> None:
        self._store, self._client = store, client

    async def probe(self, body: Body) -> ProbeView:
        """Return the view of a DataSource or Warehouse."""
        uid = body["metadata"]["uid"]
        jobs = [await self._facts(item) for item in self._store.owned("Job", uid)]
        secret = await self._secret(body, body.get("spec", {}).get("secretRef"))
        return ProbeView(body, tuple(jobs), self._plans(uid), secret)

    async def pipeline(self, body: Body) -> PipelineView:
        """Return the view of a Pipeline; of its Jobs it sees names and states, not what their pods said."""
        meta, spec = body["metadata"], body.get("spec", {})
        namespace, name = meta["namespace"], meta["name"]
        cronjobs = self._store.owned("CronJob", meta["uid"])
        return PipelineView(
            body=body,
            source=self._store.get("DataSource", namespace, spec.get("sourceRef", {}).get("name", "")),
            warehouse=self._store.get("Warehouse", namespace, spec.get("warehouseRef", {}).get("name", "")),
            cronjob=cronjobs[0] if cronjobs else None,
            runs=tuple(self._store.runs_of_pipeline(namespace, name)),
            jobs=tuple(job_facts(item, ()) for item in self._store.jobs_of_pipeline(namespace, name)),
            plans=self._plans(meta["uid"]),
        )

    async def run(self, body: Body) -> RunView:
        """Return the view of a PipelineRun."""
        namespace = body["metadata"]["namespace"]
        job = self._store.get("Job", namespace, job_name(body))
        ended = body.get("status", {}).get("phase") in FINISHED
        reference = _name(body.get("spec", {}).get("pipelineRef"))
        if job is None and not ended:
            await self._newest(namespace, reference)
        pipeline = self._store.get("Pipeline", namespace, reference)
        policy = self._store.get("RetentionPolicy", namespace, _name(body.get("spec", {}).get("policyRef")))
        return RunView(
            body,
            await self._facts(job, ended) if job is not None else None,
            await self.pipeline(pipeline) if pipeline is not None else None,
            await self.policy(policy) if policy is not None else None,
        )

    async def policy(self, body: Body) -> PolicyView:
        """Return the view of a RetentionPolicy."""
        meta, spec = body["metadata"], body.get("spec", {})
        namespace, uid = meta["namespace"], meta["uid"]
        read = body.get("status", {}).get("countedJobs", [])
        jobs = [await self._facts(item, item["metadata"]["uid"] in read) for item in self._store.owned("Job", uid)]
        cronjobs = self._store.owned("CronJob", uid)
        return PolicyView(
            body=body,
            warehouse=self._store.get("Warehouse", namespace, _name(spec.get("warehouseRef"))),
            cronjob=cronjobs[0] if cronjobs else None,
            jobs=tuple(jobs),
            plans=self._plans(uid),
            secret=await self._secret(body, (spec.get("archive") or {}).get("secretRef")),
            restores=tuple(self._store.restores_of_policy(namespace, meta["name"])),
        )

    async def _newest(self, namespace: str, pipeline: str) -> None:
        """Put the Pipeline into the cache as it is now: who applies a fix and a run at once means the fixed one."""
        resource = BY_KIND["Pipeline"]
        found = await self._client.find(resource, namespace, pipeline) if pipeline else None
        if found is not None:
            self._store.put(cached(resource, found))

    async def _facts(self, job: Body, recorded: bool = False) -> JobFacts:
        """Return the facts; of a finished Job whose end is not `recorded` yet, all of its pods are heard."""
        facts = job_facts(job, self._store.pods_of_job(job["metadata"]["uid"]))
        heard = facts.exit_code is not None and facts.shards == 1
        if facts.state == "active" or heard or recorded:
            return facts
        resource, meta = BY_KIND["Pod"], job["metadata"]
        pods, _ = await self._client.list_all(
            resource, meta["namespace"], f"batch.kubernetes.io/controller-uid={meta['uid']}"
        )
        return job_facts(job, [cached(resource, pod) for pod in pods])

    async def _secret(self, body: Body, reference: Any) -> SecretFacts | None:
        name = _name(reference)
        if not name:
            return None
        found = await self._client.find(SECRET, body["metadata"]["namespace"], name)
        return SecretFacts(name, found["metadata"]["resourceVersion"] if found is not None else None)

    def _plans(self, owner_uid: str) -> tuple[PlanFacts, ...]:
        return tuple(
            PlanFacts(item["metadata"]["name"], item["metadata"].get("creationTimestamp", ""))
            for item in self._store.owned("ConfigMap", owner_uid)
        )


def _name(reference: Any) -> str:
    """Return the name in a reference of a spec that may be anything yet."""
    return str(reference.get("name") or "") if isinstance(reference, dict) else ""
