"""The pod of a run or a probe: one container, no Kubernetes token, the `restricted` pod security standard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from millstream_api.meta import PodOverrides
from millstream_api.run_plan import PLAN_DIR, PLAN_KEY, SECRETS_DIR

CONTAINER = "runner"
USER_ID = 65532  # "nonroot" in distroless images and ours
DEFAULT_MEMORY = "512Mi"  # the bound every engine path is tested against
DEFAULT_CPU = "100m"  # a guess: enough to be scheduled, no limit so that a run may use what is idle
SCRATCH_LIMIT = "2Gi"  # a guess: DuckDB spills to /tmp; more than this evicts the pod instead of filling the node


@dataclass(frozen=True)
class RunnerDefaults:
    """What the operator's settings say about runner pods."""

    image: str
    pull_policy: str = "IfNotPresent"
    service_account: str = "default"


@dataclass(frozen=True)
class PodRequest:
    """Everything a pod is made from."""

    command: Literal["run", "probe", "retain"]
    plan: str
    labels: dict[str, str]
    secrets: dict[str, str] = field(default_factory=dict)  # role (source, warehouse, archive) → Secret
    claims: dict[str, str] = field(default_factory=dict)  # folder → PersistentVolumeClaim
    env: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    overrides: PodOverrides = field(default_factory=PodOverrides)


def pod_template(request: PodRequest, defaults: RunnerDefaults) -> dict[str, Any]:
    """Return the pod template; what users override never replaces our labels and variables."""
    wish = request.overrides
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": wish.service_account_name or defaults.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(request, defaults)],
        "volumes": _volumes(request),
    }
    if wish.node_selector:
        spec["nodeSelector"] = wish.node_selector
    if wish.tolerations:
        spec["tolerations"] = [toleration.to_json() for toleration in wish.tolerations]
    if wish.priority_class_name:
        spec["priorityClassName"] = wish.priority_class_name
    metadata: dict[str, Any] = {"labels": (wish.labels or {}) | request.labels}
    annotations = (wish.annotations or {}) | request.annotations
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": spec}


def _container(request: PodRequest, defaults: RunnerDefaults) -> dict[str, Any]:
    wish = request.overrides
    memory = wish.memory or DEFAULT_MEMORY
    limits = {"memory": memory} | ({"cpu": wish.cpu_limit} if wish.cpu_limit else {})
    return {
        "name": CONTAINER,
        "image": wish.image or defaults.image,
        "imagePullPolicy": defaults.pull_policy,
        "args": [request.command],
        "env": _environment(request),
        "resources": {"requests": {"cpu": wish.cpu or DEFAULT_CPU, "memory": memory}, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "plan", "mountPath": PLAN_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own emptyDir
            *(
                {"name": f"secret-{role}", "mountPath": f"{SECRETS_DIR}/{role}", "readOnly": True}
                for role in sorted(request.secrets)
            ),
            *({"name": f"claim-{number}", "mountPath": path} for number, path in enumerate(sorted(request.claims))),
        ],
    }


def _environment(request: PodRequest) -> list[dict[str, Any]]:
    ours: dict[str, dict[str, Any]] = {
        "HOME": {"value": "/tmp"},  # noqa: S108 - the pod's own emptyDir
        "MILLSTREAM_PLAN": {"value": f"{PLAN_DIR}/{PLAN_KEY}"},
        "MILLSTREAM_RUN": _from("metadata.labels['batch.kubernetes.io/job-name']"),
        "MILLSTREAM_POD": _from("metadata.name"),
        "MILLSTREAM_NAMESPACE": _from("metadata.namespace"),
        **{name: {"value": value} for name, value in request.env.items()},
    }
    users = {name: {"value": value} for name, value in (request.overrides.env or {}).items()}
    return [{"name": name, **value} for name, value in (users | ours).items()]


def _from(path: str) -> dict[str, Any]:
    return {"valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _volumes(request: PodRequest) -> list[dict[str, Any]]:
    return [
        {"name": "plan", "configMap": {"name": request.plan}},
        {"name": "tmp", "emptyDir": {"sizeLimit": SCRATCH_LIMIT}},
        *(
            {"name": f"secret-{role}", "secret": {"secretName": name, "defaultMode": 0o440}}
            for role, name in sorted(request.secrets.items())
        ),
        *(
            {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": name}}
            for number, (_, name) in enumerate(sorted(request.claims.items()))
        ),
    ]
