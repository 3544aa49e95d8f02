"""What every kind shares: group, labels, references, and the base of the models. No I/O, no clock."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

GROUP = "millstream.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "millstream"
FIELD_MANAGER = "millstream-operator"

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "millstream"
LABEL_KIND = f"{GROUP}/owner-kind"
LABEL_OWNER = f"{GROUP}/owner"
LABEL_PIPELINE = f"{GROUP}/pipeline"
LABEL_RUN = f"{GROUP}/run"
LABEL_ROLE = f"{GROUP}/role"
LABEL_OWNER_UID = f"{GROUP}/owner-uid"
ANNOTATION_RUN = f"{GROUP}/run"
ANNOTATION_PROBE = f"{GROUP}/probe"
ANNOTATION_APPROVE = f"{GROUP}/approve"
ANNOTATION_PLAN = f"{GROUP}/plan"
ANNOTATION_APPLIED = f"{GROUP}/applied"
ANNOTATION_ADOPTED = f"{GROUP}/adopted"
ANNOTATION_GENERATION = f"{GROUP}/generation"
ANNOTATION_CONFIGURATION = f"{GROUP}/configuration"
ANNOTATION_APPROVED = f"{GROUP}/approved"
FINALIZER = f"{GROUP}/cleanup"

ResourceName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]


Quantity = Annotated[
    str, StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
]


class ApiModel(BaseModel):
    """A part of the API: camelCase outside, snake_case inside, unknown fields refused."""

    # A run needs a handful of the models: each is built when it is first used.
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", defer_build=True)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form as users see it (camelCase, no nulls)."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """A part of a status. Unknown fields are dropped, so an older operator can read a newer status."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class ObjectRef(ApiModel):
    """A reference to an object of a fixed kind in the same namespace."""

    name: ResourceName = Field(description="Name of the object in the same namespace.")


class SecretRef(ApiModel):
    """A reference to a Secret in the same namespace; its keys override fields of `config` of the same name."""

    name: ResourceName = Field(
        description="Name of a Secret in the same namespace. Each key is merged into `config` under its own name, "
        "for example `user` and `password`. The Secret is mounted into the run's pod; the operator never reads values."
    )


class Condition(StatusModel):
    """A condition as in metav1.Condition (kstatus): what is so, since when, why, and what to do."""

    type: str = Field(description="Ready, Reconciling, Stalled, or a domain condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the condition holds.")
    reason: str = Field(description="CamelCase reason for programs.")
    message: str = Field(default="", description="What happened and what to do, for people.")
    observed_generation: int = Field(default=0, description="Generation of the spec this was seen for.")
    last_transition_time: str = Field(default="", description="When the status last changed, RFC 3339 UTC.")


class Toleration(ApiModel):
    """A toleration as in core/v1."""

    key: str | None = Field(default=None, description="Taint key; empty tolerates every key.")
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="How key and value are compared.")
    value: str | None = Field(default=None, description="Taint value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect; empty means all."
    )


class PodOverrides(ApiModel):
    """The few fields of a run's pod that users set. The whole PodTemplate stays out: it would bloat every CRD."""

    image: str | None = Field(default=None, description="Runner image; empty means the operator's default.")
    cpu: Quantity | None = Field(default=None, description="CPU request, for example `500m`.")
    cpu_limit: Quantity | None = Field(default=None, description="CPU limit; empty means none.")
    memory: Quantity | None = Field(
        default=None, description="Memory request and limit, for example `512Mi` (the default)."
    )
    service_account_name: ResourceName | None = Field(
        default=None, description="Service account of the pod, for workload identity. No token is ever mounted."
    )
    node_selector: dict[str, str] | None = Field(default=None, description="Labels a node must have.")
    tolerations: list[Toleration] | None = Field(default=None, description="Taints the pod tolerates.", max_length=32)
    priority_class_name: str | None = Field(default=None, description="Priority class of the pod.", max_length=253)
    labels: dict[str, str] | None = Field(default=None, description="Further labels of the pod.")
    annotations: dict[str, str] | None = Field(default=None, description="Further annotations of the pod.")
    env: dict[str, str] | None = Field(default=None, description="Further environment variables. No secrets here.")


class ConditionedStatus(StatusModel):
    """The part that every status has."""

    observed_generation: int | None = Field(default=None, description="Newest generation the operator has acted on.")
    conditions: list[Condition] = Field(default_factory=list, description="Conditions, one per type.")
