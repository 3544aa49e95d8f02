"""Series of RetentionPolicies: what a scrape shows, and what a policy leaves behind when it goes: nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import generate_latest

from api.manifests import body, retention_spec
from api.policies import table
from millstream_operator.metrics import Metrics
from millstream_operator.queue import Key
from millstream_operator.reconcile.outcome import RetainFacts
from millstream_operator.retention_metrics import RetentionGauges

WHERE = 'namespace="shop",policy="keep"'


def shown(metrics: Metrics) -> dict[str, float]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    told = [line.rpartition(" ") for line in lines if 'policy="' in line]
    return {name: float(value) for name, _, value in told}


def test_gauges_follow_the_newest_report() -> None:
    now = datetime.now(UTC)
    flights = table(
        horizon=f"{now + timedelta(days=90):%Y-%m-%d %H:%M:%S+00}",
        oldest=(now - timedelta(days=400)).isoformat(),
        pending_bytes=7,
        dropped_bytes=9,
    )
    numbers = table(name="raw.numbers", horizon="3000000", oldest="-5")
    status: dict[str, Any] = {
        "lastSuccessAt": (now - timedelta(hours=2)).isoformat(),
        "plan": {"tables": [flights.to_json(), numbers.to_json()]},
    }
    policies = [body("RetentionPolicy", "keep", retention_spec(), status=status)]
    metrics = Metrics()
    metrics.registry.register(RetentionGauges(lambda: policies))
    found = shown(metrics)
    one = f'{WHERE},table="raw.flights"'
    states = {
        name.split('state="')[1].split('"')[0]: value
        for name, value in found.items()
        if "flights" in name and "state=" in name
    }
    assert states == {"live": 15, "detached": 0, "waiting": 0, "archived": 3, "dropped": 2, "held": 0}
    assert found[f"millstream_archive_pending_bytes{{{one}}}"] == 7
    assert found[f"millstream_dropped_bytes_total{{{one}}}"] == 9
    days = {
        name: round(found[f"millstream_{name}_seconds{{{one}}}"] / 86400)
        for name in ("partition_horizon", "oldest_row_age")
    }
    assert days == {"partition_horizon": 90, "oldest_row_age": 400}
    assert round(found[f"millstream_retention_success_age_seconds{{{WHERE}}}"] / 3600) == 2
    assert not [name for name in found if "raw.numbers" in name and "_seconds" in name]  # no time in its bounds
    policies.clear()
    assert shown(metrics) == {}


def test_counters_add_up_and_vanish_with_the_policy() -> None:
    metrics, key = Metrics(), Key("RetentionPolicy", "shop", "keep")
    for outcome, mismatches in (("Succeeded", 0), ("VerificationFailed", 2)):
        metrics.counted(key, RetainFacts(outcome, 0.5, mismatches))
    assert shown(metrics) == {
        'millstream_retention_runs_total{namespace="shop",outcome="Succeeded",policy="keep"}': 1,
        'millstream_retention_runs_total{namespace="shop",outcome="VerificationFailed",policy="keep"}': 1,
        f"millstream_archive_verify_failures_total{{{WHERE}}}": 2,
        f"millstream_lock_wait_seconds_total{{{WHERE}}}": 1,
    }
    metrics.forget(Key("Pipeline", "shop", "keep"))
    assert len(shown(metrics)) == 4
    metrics.forget(key)
    assert shown(metrics) == {}
