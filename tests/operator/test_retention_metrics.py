"""Series of RetentionPolicies: what a scrape shows, and what a policy leaves behind when it goes: nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import generate_latest

from api.manifests import body, retention_spec
from api.policies import table
from millstream_operator.metrics import Metrics
from millstream_operator.queue import Key
from millstream_operator.reconcile.outcome import RestoreFacts, RetainFacts
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
        "plan": {"tables": [flights.to_json(), numbers.to_json()], "blocked": 4, "bytes": 4096},
        "lastRun": {"verifyFailures": 1},
        "conditions": [{"type": "Ready", "status": "False", "reason": "ChecksFailed"}],
    }
    spec = retention_spec(schedule={"cron": "@hourly"})
    policies = [body("RetentionPolicy", "keep", spec, status=status)]
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
    assert found[f"millstream_retention_runs_due{{{WHERE}}}"] == 2  # it runs hourly
    assert found[f"millstream_retention_blocked_steps{{{WHERE}}}"] == 4
    assert found[f"millstream_retention_planned_bytes{{{WHERE}}}"] == 4096
    assert found[f"millstream_archive_mismatches{{{WHERE}}}"] == 1
    assert found[f'millstream_retention_ready{{{WHERE},reason="ChecksFailed"}}'] == 0
    assert round(found[f"millstream_retention_success_age_seconds{{{WHERE}}}"] / 3600) == 2
    assert not [name for name in found if "raw.numbers" in name and "_seconds" in name]  # no time in its bounds
    policies.clear()
    assert shown(metrics) == {}


def test_counters_add_up_and_vanish_with_the_policy() -> None:
    metrics, key = Metrics(), Key("RetentionPolicy", "shop", "keep")
    for outcome, mismatches in (("Succeeded", 0), ("VerificationFailed", 2)):
        metrics.counted(key, RetainFacts(outcome, 0.5, mismatches))
    metrics.counted(key, RestoreFacts("ChecksFailed"))
    assert shown(metrics) == {
        'millstream_retention_runs_total{namespace="shop",outcome="Succeeded",policy="keep"}': 1,
        'millstream_retention_runs_total{namespace="shop",outcome="VerificationFailed",policy="keep"}': 1,
        f"millstream_archive_verify_failures_total{{{WHERE}}}": 2,
        f"millstream_lock_wait_seconds_total{{{WHERE}}}": 1,
        'millstream_restores_total{namespace="shop",outcome="ChecksFailed",policy="keep"}': 1,
    }
    metrics.forget(Key("Pipeline", "shop", "keep"))
    assert len(shown(metrics)) == 5
    metrics.forget(key)
    assert shown(metrics) == {}


def test_counters_are_there_before_the_first_run() -> None:
    """What Prometheus sees of a counter for the first time is no increase: a first run after a restart was not seen."""
    metrics, key = Metrics(), Key("RetentionPolicy", "shop", "keep")
    metrics.known(key)
    assert shown(metrics) == {
        f"millstream_archive_verify_failures_total{{{WHERE}}}": 0,
        f"millstream_lock_wait_seconds_total{{{WHERE}}}": 0,
    }
    metrics.counted(key, RetainFacts("Succeeded", 0.5, 0))
    metrics.known(key)
    assert shown(metrics)[f"millstream_lock_wait_seconds_total{{{WHERE}}}"] == 0.5
    metrics.forget(key)
    assert shown(metrics) == {}
    flights = Key("Pipeline", "shop", "flights")
    metrics.known(flights)
    told = generate_latest(metrics.registry).decode()
    assert 'millstream_bytes_total{namespace="shop",pipeline="flights"} 0.0' in told
    metrics.forget(flights)
    assert "flights" not in generate_latest(metrics.registry).decode()


@pytest.mark.parametrize(
    ("spec", "status", "due"),
    [
        ({"schedule": {"cron": "30 2 * * *"}}, {}, 5),  # made five days ago, and no run has done what it should
        ({"schedule": {"cron": "30 2 * * *"}, "suspend": True}, {}, 0),
        ({"schedule": {"cron": "61 2 * * *"}}, {}, 0),  # it has no times; it is not Ready
        ({"schedule": {"cron": "* * * * *"}}, {}, 10),
        ({"schedule": {"cron": "* * * * *"}}, {"lastSuccessAt": "in a minute, by a clock that is ahead"}, 0),
    ],
)
def test_how_many_runs_are_due(spec: dict[str, Any], status: dict[str, Any], due: int) -> None:
    now = datetime.now(UTC)
    made = (now - timedelta(days=5)).isoformat()
    status = {name: (now + timedelta(minutes=1)).isoformat() for name in status}
    found = body("RetentionPolicy", "keep", retention_spec(**spec), status=status, creationTimestamp=made)
    metrics = Metrics()
    metrics.registry.register(RetentionGauges(lambda: [found]))
    assert shown(metrics)[f"millstream_retention_runs_due{{{WHERE}}}"] == due
