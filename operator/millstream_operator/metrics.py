"""Prometheus series: controller-runtime's names for what every operator has, `millstream_` for the data.

Series of a pipeline are counters fed from finished runs and gauges read from the cache at scrape time; both vanish
with the Pipeline. Labels are namespace and pipeline, never a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millstream_operator.queue import Key
from millstream_operator.reconcile.outcome import RestoreFacts, RetainFacts, RunFacts
from millstream_operator.retention_metrics import RetentionCounters

disable_created_metrics()  # type: ignore[no-untyped-call]

_QUEUE = "millstream"
_DURATIONS_S = (1, 5, 15, 60, 300, 900, 3600, 14400, 43200, 86400)
_RECONCILE_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30)
_PIPELINE = ("namespace", "pipeline")


class Metrics:
    """All series of the operator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._make_controller()
        self._make_queue()
        self._make_pipeline()
        self._retention = RetentionCounters(self.registry)
        self._started: dict[Key, float] = {}

    def _make_controller(self) -> None:
        r = self.registry
        name = "controller_runtime_reconcile"
        self.reconciles = Counter(f"{name}_total", "Reconciliations.", ("controller", "result"), registry=r)
        self.errors = Counter(f"{name}_errors_total", "Reconciliations that failed.", ("controller",), registry=r)
        self.terminal = Counter(
            "controller_runtime_terminal_reconcile_errors_total", "Failed for good.", ("controller",), registry=r
        )
        self.reconcile_time = Histogram(
            f"{name}_time_seconds", "Time of a reconciliation.", ("controller",), buckets=_RECONCILE_S, registry=r
        )
        self.workers = Gauge("controller_runtime_max_concurrent_reconciles", "Workers.", registry=r)
        self.active = Gauge("controller_runtime_active_workers", "Workers at work.", registry=r)
        self.requests = Counter(
            "rest_client_requests_total", "API requests.", ("method", "code", "resource"), registry=r
        )
        self.leader = Gauge("leader_election_master_status", "1 for the leader.", ("name",), registry=r)
        self.loop_lag = Gauge("millstream_event_loop_lag_seconds", "How late the event loop woke up.", registry=r)

    def _make_queue(self) -> None:
        r, label = self.registry, ("name",)
        self.depth = Gauge("workqueue_depth", "Keys waiting.", label, registry=r)
        self.adds = Counter("workqueue_adds_total", "Keys added.", label, registry=r)
        self.retries = Counter("workqueue_retries_total", "Keys added again after a failure.", label, registry=r)
        self.waits = Histogram("workqueue_queue_duration_seconds", "Time in the queue.", label, registry=r)
        self.works = Histogram("workqueue_work_duration_seconds", "Time at work.", label, registry=r)
        longest = Gauge("workqueue_longest_running_processor_seconds", "Oldest work.", label, registry=r)
        longest.labels(_QUEUE).set_function(lambda: self._longest_s())

    def _make_pipeline(self) -> None:
        r = self.registry
        self.runs = Counter("millstream_runs_total", "Finished runs.", (*_PIPELINE, "outcome"), registry=r)
        self.rows = Counter("millstream_rows_total", "Rows by stage.", (*_PIPELINE, "stage"), registry=r)
        self.quarantined = Counter(
            "millstream_rows_quarantined_total", "Rows a check set aside.", (*_PIPELINE, "check"), registry=r
        )
        self.bytes = Counter("millstream_bytes_total", "Bytes read.", _PIPELINE, registry=r)
        self.checks = Counter(
            "millstream_check_failures_total", "Checks that failed.", (*_PIPELINE, "severity"), registry=r
        )
        self.durations = Histogram(
            "millstream_run_duration_seconds", "Time of a run.", _PIPELINE, buckets=_DURATIONS_S, registry=r
        )
        self._of_pipeline = (self.runs, self.rows, self.quarantined, self.bytes, self.checks, self.durations)

    def added(self, key: Key) -> None:
        """Count a key put into the queue."""
        self.adds.labels(_QUEUE).inc()
        self.depth.labels(_QUEUE).inc()

    def taken(self, key: Key, waited_s: float) -> None:
        """Count a key taken from the queue."""
        self.depth.labels(_QUEUE).dec()
        self.waits.labels(_QUEUE).observe(waited_s)
        self.active.inc()
        self._started[key] = time.monotonic()

    def retried(self, key: Key) -> None:
        """Count a key that failed."""
        self.retries.labels(_QUEUE).inc()

    def worked(self, key: Key, result: str) -> None:
        """Count a finished reconciliation: success, requeue_after, error or terminal."""
        took_s = time.monotonic() - self._started.pop(key, time.monotonic())
        self.active.dec()
        self.works.labels(_QUEUE).observe(took_s)
        self.reconcile_time.labels(key.kind).observe(took_s)
        self.reconciles.labels(key.kind, "error" if result == "terminal" else result).inc()
        if result in ("error", "terminal"):
            self.errors.labels(key.kind).inc()
        if result == "terminal":
            self.terminal.labels(key.kind).inc()

    def known(self, key: Key) -> None:
        """Show the counters of a Pipeline or RetentionPolicy before its first run; those by outcome come with it."""
        if key.kind == "RetentionPolicy":
            self._retention.known(key)
        if key.kind == "Pipeline":
            self.bytes.labels(key.namespace, key.name)
            self.durations.labels(key.namespace, key.name)

    def counted(self, key: Key, facts: RunFacts | RetainFacts | RestoreFacts) -> None:
        """Feed the series of a Pipeline or RetentionPolicy with a finished run or restore."""
        if not isinstance(facts, RunFacts):
            self._retention.counted(key, facts)
            return
        where = (key.namespace, key.name)
        self.runs.labels(*where, facts.outcome).inc()
        self.bytes.labels(*where).inc(facts.bytes_read)
        self.durations.labels(*where).observe(facts.duration_s)
        for counter, values in ((self.rows, facts.rows), (self.quarantined, facts.quarantined)):
            for label, number in values.items():
                counter.labels(*where, label).inc(number)
        for severity, number in facts.failed_checks.items():
            self.checks.labels(*where, severity).inc(number)

    def forget(self, key: Key) -> None:
        """Drop the series of a Pipeline or RetentionPolicy that is gone."""
        if key.kind == "RetentionPolicy":
            self._retention.forget(key)
        labels = {"namespace": key.namespace, "pipeline": key.name}
        for metric in self._of_pipeline if key.kind == "Pipeline" else ():
            metric.remove_by_labels(labels)

    def _longest_s(self) -> float:
        return time.monotonic() - min(self._started.values()) if self._started else 0.0


Sample = tuple[str, str, float]  # namespace, pipeline, value


class PipelineGauges(Collector):
    """Freshness and quality, computed from the cache when scraped."""

    def __init__(self, freshness: Callable[[], Iterable[Sample]], quality: Callable[[], Iterable[Sample]]) -> None:
        self._sources = {
            "millstream_freshness_seconds": ("Age of the newest row.", freshness),
            "millstream_quality_score": ("Checks passed of checks run, 0 to 1.", quality),
        }

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        for name, (help_text, samples) in self._sources.items():
            family = GaugeMetricFamily(name, help_text, labels=_PIPELINE)
            for namespace, pipeline, value in samples():
                family.add_metric([namespace, pipeline], value)
            yield family
