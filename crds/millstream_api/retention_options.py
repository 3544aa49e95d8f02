"""RetentionOptions: what one run of a policy does differently from its usual run."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from millstream_api.bounds import refuse_backwards
from millstream_api.meta import ApiModel
from millstream_api.retentionpolicy import Bound
from millstream_api.stream import Identifier, TableName

RETENTION_ENV = "MILLSTREAM_RETENTION"


class Restore(ApiModel):
    """A range that comes back from the archive."""

    table: TableName = Field(description="Table whose rows come back.")
    from_: Bound = Field(alias="from", description="First value of the range; whole archived partitions come back.")
    to: Bound = Field(description="First value behind the range.")
    into: Identifier | None = Field(
        default=None, description="Schema in which they are put as tables of their own; empty means attached again."
    )

    @model_validator(mode="after")
    def _stretches_forward(self) -> Self:
        refuse_backwards(self.from_, self.to)
        return self


class RetentionOptions(ApiModel):
    """What one run does. The default is the policy's usual run."""

    dry_run: bool = Field(default=False, description="Plan only; change nothing.")
    approved: str = Field(default="", max_length=64, description="Digest of the plan that a person approved.")
    restore: Restore | None = Field(default=None, description="What comes back; nothing else is done then.")

    abandon: bool = Field(
        default=False,
        description="Give up conversions that are under way and let go of the tables; nothing else is done then.",
    )
    tables: list[TableName] = Field(
        default_factory=list,
        max_length=1000,
        description="With `abandon`: these, whoever claims them; else its own.",
    )

    def environment(self) -> dict[str, str]:
        """Return the variable that hands these options to a runner; none for the usual run."""
        if self == RetentionOptions():
            return {}
        return {RETENTION_ENV: self.model_dump_json(by_alias=True, exclude_defaults=True)}


__all__ = ["RETENTION_ENV", "Restore", "RetentionOptions"]
