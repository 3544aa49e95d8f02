"""docs/how-to/retention-on-a-cluster.md: its manifests are valid, and the series it names are those that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from millstream_api import BY_NAME
from millstream_operator.metrics import Metrics
from millstream_operator.retention_metrics import RetentionGauges

POLICY_SERIES = re.compile(r"millstream_(?:partition|oldest|archive|dropped|lock|retention)\w*")


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs/how-to/retention-on-a-cluster.md").read_text(encoding="utf-8")


def test_its_manifests_are_valid(page: str) -> None:
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    manifests = [block for block in blocks if "kind" in block]
    assert [item["kind"] for item in manifests] == ["RetentionPolicy", "PipelineRun"]
    for item in manifests:
        BY_NAME[item["kind"]].spec.model_validate(item["spec"])


def test_its_series_are_those_that_exist(page: str) -> None:
    metrics = Metrics()
    metrics.registry.register(RetentionGauges(list))
    kinds = {"counter": "_total", "gauge": ""}
    shown = {family.name + kinds.get(family.type, "") for family in metrics.registry.collect()}
    of_policies = {name for name in shown if POLICY_SERIES.fullmatch(name)}
    assert set(POLICY_SERIES.findall(page)) == of_policies
