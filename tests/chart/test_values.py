"""The values: each is described, each wrong one refused by its name, each setting of the operator reachable."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.rendering import CHART, CHARTS, Helm, RefusedError, environment
from millstream_operator.settings import Settings, from_environment, variable


def test_lint_finds_nothing(helm: Helm) -> None:
    said = helm("lint", "--strict", str(CHART))
    assert "WARNING" not in said
    assert "1 chart(s) linted, 0 chart(s) failed" in said


def test_readme_and_plain_manifests_are_current(helm: Helm, root: Path) -> None:
    line = [sys.executable, "charts/generate.py", "--check"]
    environment = {**os.environ, "HELM": str(helm.binary)}
    done = subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_crds_of_the_plain_manifests_are_complete() -> None:
    folder = CHART / "files" / "crds"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("replica=2", "additional properties 'replica' not allowed"),
        ("runner.serviceAccount.automount=true", "additional properties 'automount' not allowed"),
        ("replicas=two", "'/replicas': got string, want integer"),
        ("replicas=99", "'/replicas': maximum: got 99, want 10"),
        ("watchNamespaces=sales", "'/watchNamespaces': got string, want array"),
        ("watchNamespaces={Sales}", "'/watchNamespaces/0': 'Sales' does not match pattern"),
        ("logLevel=debug", "'/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("image.digest=latest", "'/image/digest': 'latest' does not match pattern"),
        ("image.repository=", "'/image/repository': '' does not match pattern"),
        ("runner.image.pullPolicy=Sometimes", "'/runner/image/pullPolicy': value must be one of 'Always'"),
        ("workers=0", "'/workers': minimum: got 0, want 1"),
        ("apiQps=fast", "'/apiQps': 'fast' does not match pattern"),
        ("resyncSeconds=1", "'/resyncSeconds': minimum: got 1, want 10"),
        ("metrics.port=80", "'/metrics/port': minimum: got 80, want 1,024"),
        ("metrics.serviceMonitor.interval=30", "'/metrics/serviceMonitor/interval': got number, want string"),
        ("extraEnv[0].value=x", "'/extraEnv/0': missing property 'name'"),
        ("networkPolicy.apiServerCidrs={10.0.0.1}", "'/networkPolicy/apiServerCidrs/0': '10.0.0.1' does not match"),
        ("podDisruptionBudget.maxUnavailable=0", "'/podDisruptionBudget/maxUnavailable': minimum: got 0, want 1"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Helm, wrong: str, message: str) -> None:
    with pytest.raises(RefusedError) as caught:
        helm.text(wrong)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        ("replicas=2,leaderElection=false", "set leaderElection true or replicas 1"),
        ("metrics.port=8080", "set two different ports"),
        ("metrics.service.enabled=false,metrics.serviceMonitor.enabled=true", "needs metrics.service.enabled"),
        ("watchNamespaces={a,b},runner.namespaces={a}", "runner.namespaces lacks 'b' of watchNamespaces"),
    ],
)
def test_values_that_exclude_each_other_are_refused_with_the_cure(helm: Helm, values: str, cure: str) -> None:
    with pytest.raises(RefusedError) as caught:
        helm.text(values)
    assert cure in str(caught.value)


def test_old_clusters_are_refused(helm: Helm) -> None:
    with pytest.raises(RefusedError) as caught:
        helm("template", "millstream", str(CHART), "--kube-version=1.30.9")
    assert "requires kubeVersion: >=1.31.0-0" in str(caught.value)


def _keys(values: Any, schema: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    """Yield each key of the values, and whether the schema describes it."""
    definitions = json.loads((CHART / "values.schema.json").read_text())["$defs"]
    schema = definitions[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    for key, value in values.items() if isinstance(values, dict) and "properties" in schema else ():
        yield f"{path}{key}", key in schema["properties"]
        yield from _keys(value, schema["properties"].get(key, {}), f"{path}{key}.")


def test_the_schema_knows_every_value_and_is_strict_everywhere() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    known = dict(_keys(values, schema))
    assert len(known) > 60
    assert [key for key, described in known.items() if not described] == []
    loose = [
        item for item in _objects(schema) if "properties" in item and item.get("additionalProperties") is not False
    ]
    assert loose == []


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for value in schema.values():
            yield from _objects(value)


def test_every_setting_of_the_operator_is_a_value(helm: Helm) -> None:
    assert set(environment(helm.render())) == {variable(name) for name in Settings.model_fields}


def test_defaults_are_the_operators_own(helm: Helm) -> None:
    given = from_environment({**environment(helm.render()), "POD_NAME": "x"})
    assert given == Settings(runner_image="millstream-runner:0.1.0", pod_name="x")


def test_values_reach_the_settings(helm: Helm) -> None:
    values = "watchNamespaces={a,b},workers=3,apiQps=7.5,resyncSeconds=86400,logLevel=DEBUG,leaderElection=false"
    images = f"runner.image.repository=registry.example/runner,runner.image.digest=sha256:{'0' * 64}"
    given = from_environment(environment(helm.render(values, images, "runner.image.pullPolicy=Always")))
    assert (given.namespaces, given.workers, given.api_qps, given.resync_seconds) == (("a", "b"), 3, 7.5, 86400)
    assert (given.log_level, given.leader_election, given.image_pull_policy) == ("DEBUG", False, "Always")
    assert given.runner_image == f"registry.example/runner@sha256:{'0' * 64}"
    assert given.runner_service_account == "millstream-runner"


def test_a_value_without_a_comment_is_an_error() -> None:
    described = runpy.run_path(str(CHARTS / "generate.py"))["described"]
    with pytest.raises(ValueError, match=r"line 2: 'a\.b' has no comment"):
        list(described("a:\n  b: 1\n"))
