"""The RunPlan as an immutable ConfigMap, named by its hash: a run always finds the plan it was started with."""

from __future__ import annotations

from typing import Any

from millstream_api.run_plan import PLAN_KEY, RunPlan
from millstream_operator.objects.naming import Owner, child_name, labels


def plan_name(owner: Owner, plan: RunPlan) -> str:
    """Return the ConfigMap's name: equal plans of one owner share it."""
    return child_name(f"{owner.name}-plan"[-50:].lstrip("-."), owner.uid, plan.digest())


def plan_configmap(owner: Owner, plan: RunPlan) -> dict[str, Any]:
    """Return the ConfigMap that holds the plan."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": plan_name(owner, plan),
            "namespace": owner.namespace,
            "labels": labels(owner, "plan"),
            "ownerReferences": [owner.reference()],
        },
        "immutable": True,
        "data": {PLAN_KEY: plan.document()},
    }
