"""What the chart makes of its values, as literals."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from chart.rendering import CHART, Helm, environment, of_kind, one

KEEP = {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize("keep", [True, False])
def test_crds_are_the_generated_ones_and_stay_unless_told_otherwise(helm: Helm, keep: bool) -> None:
    made = {item["metadata"]["name"]: item for item in of_kind(helm.render(f"crds.keep={keep}".lower()), _CRD)}
    files = sorted(path for path in (CHART / "files" / "crds").glob("*.yaml") if path.name != "kustomization.yaml")
    assert len(made) == len(files) == 5
    for path in files:
        wanted = yaml.safe_load(path.read_text())
        annotations = made[wanted["metadata"]["name"]]["metadata"].pop("annotations", None)
        assert annotations == (KEEP if keep else None)
        assert made[wanted["metadata"]["name"]] == wanted


_CRD = "CustomResourceDefinition"


def test_crds_may_be_left_out(helm: Helm) -> None:
    assert of_kind(helm.render("crds.enabled=false"), _CRD) == []


def test_the_default_serves_the_cluster(helm: Helm) -> None:
    kinds = sorted((item["kind"], item["metadata"]["name"]) for item in helm.render("crds.enabled=false"))
    assert kinds == [
        ("ClusterRole", "millstream"),
        ("ClusterRole", "millstream-edit"),
        ("ClusterRole", "millstream-view"),
        ("ClusterRoleBinding", "millstream"),
        ("Deployment", "millstream"),
        ("Role", "millstream-lease"),
        ("RoleBinding", "millstream-lease"),
        ("Service", "millstream-metrics"),
        ("ServiceAccount", "millstream"),
    ]


def test_a_release_in_its_own_namespace_needs_no_rights_in_the_cluster(helm: Helm) -> None:
    values = ("crds.enabled=false", "rbac.aggregate=false", "watchNamespaces={sales}")
    made = helm.render(*values, namespace="sales")
    assert {item["metadata"].get("namespace") for item in made} == {"sales"}
    assert {item["kind"] for item in made} == {"Deployment", "Role", "RoleBinding", "Service", "ServiceAccount"}


@pytest.mark.parametrize(
    ("values", "told", "made"),
    [
        # Serving the cluster, only `default` exists everywhere.
        ("crds.enabled=false", "default", []),
        ("runner.namespaces={a}", "default", ["a"]),
        ("watchNamespaces={a,b}", "millstream-runner", ["a", "b"]),
        ("watchNamespaces={a},runner.namespaces={a,b}", "millstream-runner", ["a", "b"]),
        ("watchNamespaces={a},runner.serviceAccount.name=loader", "loader", ["a"]),
        ("runner.serviceAccount.create=false", "default", []),
        ("runner.serviceAccount.create=false,runner.serviceAccount.name=loader", "loader", []),
    ],
)
def test_runs_name_a_service_account_only_where_it_exists(helm: Helm, values: str, told: str, made: list[str]) -> None:
    manifests = helm.render(values)
    assert environment(manifests)["MILLSTREAM_RUNNER_SERVICE_ACCOUNT"] == told
    accounts = [item for item in of_kind(manifests, "ServiceAccount") if item["metadata"]["name"] != "millstream"]
    assert [item["metadata"]["namespace"] for item in accounts] == made
    assert all(item["automountServiceAccountToken"] is False for item in accounts)


def test_verbs_are_in_order_and_no_right_is_a_wildcard(helm: Helm) -> None:
    made = [*helm.render(), *helm.render("watchNamespaces={a}")]
    rules = [rule for kind in ("ClusterRole", "Role") for item in of_kind(made, kind) for rule in item["rules"]]
    assert rules
    for rule in rules:
        assert rule["verbs"] == sorted(set(rule["verbs"]))
        assert rule["resources"] == sorted(set(rule["resources"]))
        assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]


def test_two_replicas_are_spread_and_take_over_without_a_gap(helm: Helm) -> None:
    made = helm.render("replicas=2", "podDisruptionBudget.enabled=true")
    spec = one(made, "Deployment")["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["template"]["spec"]["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"
    budget = one(made, "PodDisruptionBudget")["spec"]
    assert (budget["maxUnavailable"], budget["selector"]) == (1, spec["selector"])


def test_without_election_two_never_overlap(helm: Helm) -> None:
    made = helm.render("leaderElection=false")
    assert one(made, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert of_kind(made, "Role") == []


def test_ports_are_those_the_probes_and_the_service_use(helm: Helm) -> None:
    made = helm.render("health.port=9000", "metrics.port=9001", "metrics.serviceMonitor.enabled=true")
    container = one(made, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    ports = {item["name"]: item["containerPort"] for item in container["ports"]}
    assert ports == {"health": 9000, "metrics": 9001}
    assert {container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("liveness", "readiness")} == {"health"}
    service = one(made, "Service")
    assert service["spec"]["ports"] == [{"name": "metrics", "port": 9001, "targetPort": "metrics", "protocol": "TCP"}]
    monitor = one(made, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == "metrics"


def test_network_policy_opens_dns_the_api_server_and_two_ports(helm: Helm) -> None:
    peers = "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring"
    made = helm.render("networkPolicy.enabled=true", "networkPolicy.apiServerCidrs={10.0.0.1/32}", peers)
    spec = one(made, "NetworkPolicy")["spec"]
    assert spec["podSelector"] == one(made, "Deployment")["spec"]["selector"]
    assert spec["policyTypes"] == ["Egress", "Ingress"]
    dns, api = spec["egress"]
    assert [(item["port"], item["protocol"]) for item in dns["ports"]] == [(53, "TCP"), (53, "UDP")]
    assert api["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    assert [item["port"] for item in api["ports"]] == [443, 6443]
    health, metrics = spec["ingress"]
    assert "from" not in health
    assert metrics["from"] == [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]


_POD = {
    "podLabels.team": ("metadata.labels.team", "x", "x"),
    "podAnnotations.note": ("metadata.annotations.note", "x", "x"),
    "nodeSelector.disk": ("spec.nodeSelector.disk", "ssd", "ssd"),
    "tolerations[0].key": ("spec.tolerations", "spot", [{"key": "spot"}]),
    "affinity.nodeAffinity.x": ("spec.affinity", "y", {"nodeAffinity": {"x": "y"}}),
    "topologySpreadConstraints[0].maxSkew": ("spec.topologySpreadConstraints", "2", [{"maxSkew": 2}]),
    "priorityClassName": ("spec.priorityClassName", "high", "high"),
    "imagePullSecrets[0].name": ("spec.imagePullSecrets", "login", [{"name": "login"}]),
    "terminationGracePeriodSeconds": ("spec.terminationGracePeriodSeconds", "90", 90),
    "resources.limits.cpu": ("spec.containers.0.resources.limits.cpu", "2", 2),
    "image.digest": ("spec.containers.0.image", f"sha256:{'a' * 64}", f"millstream-operator@sha256:{'a' * 64}"),
    "image.tag": ("spec.containers.0.image", "nightly", "millstream-operator:nightly"),
}


@pytest.mark.parametrize("value", _POD)
def test_values_of_the_pod(helm: Helm, value: str) -> None:
    path, given, wanted = _POD[value]
    found: Any = one(helm.render(f"{value}={given}"), "Deployment")["spec"]["template"]
    for step in path.split("."):
        found = found[int(step)] if step.isdigit() else found[step]
    assert found == wanted


def test_more_variables_and_a_user_given_by_the_platform(helm: Helm) -> None:
    sets = ("extraEnv[0].name=HTTPS_PROXY", "extraEnv[0].value=http://proxy:3128", "podSecurityContext.runAsUser=null")
    made = helm.render(*sets)
    assert environment(made)["HTTPS_PROXY"] == "http://proxy:3128"
    assert "runAsUser" not in one(made, "Deployment")["spec"]["template"]["spec"]["securityContext"]


def test_names_follow_the_release(helm: Helm) -> None:
    assert one(helm.render(release="north"), "Deployment")["metadata"]["name"] == "north-millstream"
    assert one(helm.render("fullnameOverride=south", release="north"), "Deployment")["metadata"]["name"] == "south"
