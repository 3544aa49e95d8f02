"""RunPlan: the resolved document the operator hands to a runner; immutable, named by its hash, free of secrets."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field

from millstream_api.meta import ApiModel
from millstream_api.pipeline import PipelineSpec
from millstream_api.retentionpolicy import RetentionPolicySpec

PLAN_KEY = "plan.json"
PLAN_DIR = "/millstream/plan"
SECRETS_DIR = "/millstream/secrets"  # one folder per role below it: source, warehouse, archive


class Endpoint(ApiModel):
    """A DataSource or a Warehouse as a runner needs it."""

    name: str = Field(description="Name of the object, for messages.")
    type: str = Field(description="Plug-in name.")
    config: dict[str, Any] = Field(default_factory=dict, description="Plug-in configuration without secrets.")
    secret_name: str | None = Field(default=None, description="Name of the mounted Secret, for messages.")


class RunPlan(ApiModel):
    """What to do, in full. A run needs this, its mounted Secrets and nothing else."""

    version: int = Field(default=1, description="Version of this document.")
    action: Literal["run", "probe-source", "probe-warehouse", "retain"] = Field(description="What the runner is to do.")
    namespace: str = Field(description="Namespace of the owner.")
    name: str = Field(description="Name of the owner (Pipeline, DataSource, Warehouse or RetentionPolicy).")
    uid: str = Field(default="", description="UID of the owner: the identity of its state in the warehouse.")
    source: Endpoint | None = Field(default=None, description="Where rows come from.")
    warehouse: Endpoint | None = Field(default=None, description="Where rows go.")
    pipeline: PipelineSpec | None = Field(default=None, description="The Pipeline's spec, for action `run`.")

    policy: RetentionPolicySpec | None = Field(default=None, description="The policy's spec, for action `retain`.")

    def document(self) -> str:
        """Return the canonical JSON text: equal plans give equal texts."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """Return 10 hex digits that name this plan."""
        return hashlib.sha256(self.document().encode()).hexdigest()[:10]
