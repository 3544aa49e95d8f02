"""The alerts: valid for Prometheus, firing when they should, and each with a section that says what to do."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.rendering import CHART, Helm, one
from cluster import debian
from cluster.processes import ClusterError
from millstream_operator.metrics import Metrics
from millstream_operator.retention_metrics import RetentionGauges

FILE = CHART / "files" / "alerts.yaml"
ALERTS: list[dict[str, Any]] = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]
PARTS = ("**Means:**", "**See:**", "**Do:**")


def promtool(*words: str) -> str:
    """Run Prometheus' own checker; without it the test is skipped, and fails with CI=true."""
    try:
        debian.ensure({"promtool": "prometheus"})
    except ClusterError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_what_the_chart_makes(helm: Helm, tmp_path: Path) -> None:
    values = ("prometheusRule.enabled=true", "prometheusRule.runbooks=https://wiki/alerts", "prometheusRule.labels.a=b")
    made = one(helm.render(*(f"metrics.{value}" for value in values)), "PrometheusRule")
    assert made["metadata"]["labels"]["a"] == "b"
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(made["spec"]))
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(path))
    links = [rule["annotations"]["runbook_url"] for rule in made["spec"]["groups"][0]["rules"]]
    assert links == [f"https://wiki/alerts#{rule['alert'].lower()}" for rule in ALERTS]
    assert "PrometheusRule" not in {item["kind"] for item in helm.render()}


def test_they_fire_when_they_should(tmp_path: Path) -> None:
    cases = Path(__file__).with_name("alerts.test.yaml").read_text().replace("{rules}", str(FILE))
    tested = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n +- exp_labels", cases))
    assert tested == {rule["alert"] for rule in ALERTS}
    path = tmp_path / "cases.yaml"
    path.write_text(cases)
    assert "SUCCESS" in promtool("test", "rules", str(path))


def test_each_has_a_section_that_says_what_to_do(root: Path) -> None:
    page = (root / "docs/how-to/alerts.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))
    assert list(sections) == [rule["alert"] for rule in ALERTS]
    assert [name for name, text in sections.items() if not all(part in text for part in PARTS)] == []
    links = [rule["annotations"]["runbook_url"] for rule in ALERTS]
    assert links == [f"docs/how-to/alerts.md#{name.lower()}" for name in sections]


def test_they_ask_for_series_that_exist() -> None:
    metrics = Metrics()
    metrics.registry.register(RetentionGauges(list))
    shown = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
    assert {name for rule in ALERTS for name in re.findall(r"millstream_\w+", rule["expr"])} <= shown
