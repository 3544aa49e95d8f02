"""Prometheus series of RetentionPolicies: gauges read from the cache when scraped, counters fed from what has ended.

A report lists 50 tables at most, so that is how many series a policy can have per name; all vanish with the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millstream_api.schedule import Cron
from millstream_operator.queue import Key
from millstream_operator.reconcile.observed import instant
from millstream_operator.reconcile.outcome import RestoreFacts, RetainFacts
from millstream_operator.reconcile.ticks import ticks
from millstream_operator.reconcile.validation import Problem, parsed

Body = dict[str, Any]

STATES = ("live", "detached", "waiting", "archived", "dropped", "held")
_POLICY = ("namespace", "policy")
_DUE = 10  # scheduled times that are counted
_TABLE = (*_POLICY, "table")


class RetentionCounters:
    """What finished runs add up to."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._runs = Counter(
            "millstream_retention_runs_total", "Finished runs.", (*_POLICY, "outcome"), registry=registry
        )
        self._mismatches = Counter(
            "millstream_archive_verify_failures_total",
            "Archives that were read back and found different.",
            _POLICY,
            registry=registry,
        )
        self._restores = Counter(
            "millstream_restores_total", "Finished restores.", (*_POLICY, "outcome"), registry=registry
        )
        self._lock_waits = Counter(
            "millstream_lock_wait_seconds_total", "Time that runs waited for locks.", _POLICY, registry=registry
        )

    def known(self, key: Key) -> None:
        """Show a policy's counters, 0 before its first run: a counter that is born with a value has not increased."""
        for counter in (self._mismatches, self._lock_waits):
            counter.labels(key.namespace, key.name)

    def counted(self, key: Key, facts: RetainFacts | RestoreFacts) -> None:
        """Feed the series of a policy with a finished run or restore."""
        where = (key.namespace, key.name)
        if isinstance(facts, RestoreFacts):
            self._restores.labels(*where, facts.outcome).inc()
            return
        self._runs.labels(*where, facts.outcome).inc()
        self._mismatches.labels(*where).inc(facts.verify_failures)
        self._lock_waits.labels(*where).inc(facts.lock_wait_s)

    def forget(self, key: Key) -> None:
        """Drop the series of a policy that is gone."""
        for metric in (self._runs, self._mismatches, self._restores, self._lock_waits):
            metric.remove_by_labels({"namespace": key.namespace, "policy": key.name})


class RetentionGauges(Collector):
    """How the tables of all policies stand, as their newest reports say."""

    def __init__(self, policies: Callable[[], Iterable[Body]]) -> None:
        self._policies = policies

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        now = datetime.now(UTC)
        partitions = GaugeMetricFamily(
            "millstream_partitions", "Partitions, or ranges that were.", labels=(*_TABLE, "state")
        )
        horizon = _gauge("partition_horizon_seconds", "Time until no partition takes new rows.")
        oldest = _gauge("oldest_row_age_seconds", "Age of the oldest row that an attached partition may hold.")
        pending = _gauge("archive_pending_bytes", "Bytes in the warehouse that wait for their archive or drop.")
        archived = _gauge("archived_bytes", "Bytes of verified archives.")
        dropped = CounterMetricFamily(
            "millstream_dropped_bytes", "Bytes that have left the warehouse.", labels=list(_TABLE)
        )
        standing = _Standing()
        for body in self._policies():
            policy, status = [body["metadata"]["namespace"], body["metadata"]["name"]], body.get("status", {})
            standing.add(policy, body, now)
            for table in status.get("plan", {}).get("tables", []):
                where = [*policy, table["name"]]
                for state in STATES:
                    partitions.add_metric([*where, state], table.get(state, 0))
                for family, moment, sign in ((horizon, table.get("horizon"), 1), (oldest, table.get("oldest"), -1)):
                    if (at := _moment(moment)) is not None:
                        family.add_metric(where, sign * (at - now).total_seconds())
                pending.add_metric(where, table.get("pendingBytes", 0))
                archived.add_metric(where, table.get("archivedBytes", 0))
                dropped.add_metric(where, table.get("droppedBytes", 0))
        yield from (partitions, horizon, oldest, pending, archived, dropped, *standing.families)


class _Standing:
    """What is said of a policy as a whole."""

    def __init__(self) -> None:
        self._success = _of_policy("retention_success_age_seconds", "Time since a run did all it should.")
        self._due = _of_policy("retention_runs_due", f"Scheduled times since then, {_DUE} at most; 0 while suspended.")
        self._blocked = _of_policy("retention_blocked_steps", "Due steps that something stands in the way of.")
        self._planned = _of_policy("retention_planned_bytes", "Bytes that the plan takes out of the warehouse.")
        self._differ = _of_policy("archive_mismatches", "Archives that the last run read back and found different.")
        self._ready = _of_policy("retention_ready", "1 where the policy is Ready, 0 where not; and why.", "reason")
        self.families = (self._success, self._due, self._blocked, self._planned, self._differ, self._ready)

    def add(self, policy: list[str], body: Body, now: datetime) -> None:
        status = body.get("status", {})
        if status.get("lastSuccessAt"):
            self._success.add_metric(policy, (now - instant(status["lastSuccessAt"])).total_seconds())
        self._due.add_metric(policy, _due(body, now))
        plan = status.get("plan", {})
        self._blocked.add_metric(policy, plan.get("blocked", 0))
        self._planned.add_metric(policy, plan.get("bytes", 0))
        self._differ.add_metric(policy, status.get("lastRun", {}).get("verifyFailures", 0))
        ready = next((item for item in status.get("conditions", []) if item["type"] == "Ready"), None)
        if ready is not None and ready["status"] != "Unknown":
            self._ready.add_metric([*policy, ready["reason"]], float(ready["status"] == "True"))


def _due(body: Body, now: datetime) -> int:
    """Return the scheduled times since a run did all it should; of a new policy, since it was made."""
    spec = body.get("spec", {})
    since = body.get("status", {}).get("lastSuccessAt") or body["metadata"]["creationTimestamp"]
    schedule = parsed(Cron, spec.get("schedule", {}))
    if spec.get("suspend") or isinstance(schedule, Problem):
        return 0
    return len(ticks(schedule, instant(since), now, _DUE))


def _of_policy(name: str, text: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"millstream_{name}", text, labels=[*_POLICY, *more])


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"millstream_{name}", text, labels=list(_TABLE))


def _moment(text: str | None) -> datetime | None:
    """Return the time of a bound; None for a table that is cut by whole numbers."""
    if not text or text.lstrip("-").isdigit():
        return None
    try:
        return instant(text)
    except ValueError:  # a bound that Python's calendar does not reach, such as infinity
        return None
