"""Prometheus series of RetentionPolicies: gauges read from the cache when scraped, counters fed from finished runs.

A report lists 50 tables at most, so that is how many series a policy can have per name; all vanish with the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millstream_operator.queue import Key
from millstream_operator.reconcile.observed import instant
from millstream_operator.reconcile.outcome import RetainFacts

Body = dict[str, Any]

STATES = ("live", "detached", "waiting", "archived", "dropped", "held")
_POLICY = ("namespace", "policy")
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
        self._lock_waits = Counter(
            "millstream_lock_wait_seconds_total", "Time that runs waited for locks.", _POLICY, registry=registry
        )

    def counted(self, key: Key, facts: RetainFacts) -> None:
        """Feed the series of a policy with a finished run."""
        where = (key.namespace, key.name)
        self._runs.labels(*where, facts.outcome).inc()
        self._mismatches.labels(*where).inc(facts.verify_failures)
        self._lock_waits.labels(*where).inc(facts.lock_wait_s)

    def forget(self, key: Key) -> None:
        """Drop the series of a policy that is gone."""
        for metric in (self._runs, self._mismatches, self._lock_waits):
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
        success = GaugeMetricFamily(
            "millstream_retention_success_age_seconds", "Time since a run did all it should.", labels=list(_POLICY)
        )
        for body in self._policies():
            policy, status = [body["metadata"]["namespace"], body["metadata"]["name"]], body.get("status", {})
            if status.get("lastSuccessAt"):
                success.add_metric(policy, (now - instant(status["lastSuccessAt"])).total_seconds())
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
        yield from (partitions, horizon, oldest, pending, archived, dropped, success)


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
