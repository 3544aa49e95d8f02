"""RunOptions: what one run does differently from its Pipeline's usual run."""

from __future__ import annotations

import json
from typing import Literal, Self

from pydantic import Field, model_validator

from millstream_api.bounds import refuse_backwards
from millstream_api.meta import ApiModel
from millstream_api.stream import Duration

Trigger = Literal["manual", "schedule", "catchup", "backfill", "replay", "restore"]

OPTIONS_ENV = "MILLSTREAM_OPTIONS"


class Window(ApiModel):
    """A half-open range of the cursor, `from` <= cursor < `to`, cut into intervals."""

    from_: str = Field(
        alias="from", max_length=64, description="First value, as the cursor's type spells it, for example 2026-01-01."
    )
    to: str = Field(max_length=64, description="First value behind the window.")
    interval: Duration | None = Field(
        default=None,
        description="Length of one interval of a cursor of time, each committed by itself; empty means 1d.",
    )
    step: int | None = Field(default=None, ge=1, description="Length of one interval of a cursor of whole numbers.")

    @model_validator(mode="after")
    def _stretches_forward(self) -> Self:
        if self.interval is not None and self.step is not None:
            raise ValueError("give `interval` (a cursor of time) or `step` (a cursor of whole numbers), not both")
        if self.interval is not None and not any(digit in self.interval for digit in "123456789"):
            raise ValueError(f"`interval` '{self.interval}' has no length; write for example '1d'")
        refuse_backwards(self.from_, self.to)
        return self


class Replay(ApiModel):
    """Which rows of the quarantine to load again; all open ones when nothing is said."""

    rule: str | None = Field(default=None, max_length=253, description="Only rows that this rule set aside.")
    run: str | None = Field(default=None, max_length=253, description="Only rows that this run set aside.")
    ids: list[int] = Field(
        default_factory=list, max_length=1000, description="Only rows with these numbers in `_millstream.quarantine`."
    )


class RunOptions(ApiModel):
    """What one run does. The default is the Pipeline's usual run."""

    trigger: Trigger = Field(
        default="manual",
        description="Why the run exists: by hand, by the clock, by the clock but late (`schedule.catchUp`), to load a "
        "`window` again, to load quarantined rows, or to bring back what a RetentionPolicy has archived.",
    )
    full_refresh: bool = Field(
        default=False, description="Forget the cursor of each stream and read everything again; keys keep rows single."
    )
    streams: list[str] = Field(
        default_factory=list, max_length=500, description="Only these streams; empty means all of the Pipeline."
    )
    window: Window | None = Field(default=None, description="What a backfill loads; the cursor stays where it is.")
    replay: Replay | None = Field(default=None, description="What a replay loads.")
    max_rows_per_second: int | None = Field(
        default=None, ge=1, description="Read no faster than this; overrides the Pipeline's `extract.maxRowsPerSecond`."
    )

    @model_validator(mode="after")
    def _fits_trigger(self) -> Self:
        if (self.window is not None) != (self.trigger == "backfill"):
            raise ValueError("`window` and trigger 'backfill' go together: give both or neither")
        if self.replay is not None and self.trigger != "replay":
            raise ValueError("`replay` needs trigger 'replay'")
        if self.full_refresh and self.trigger in ("backfill", "replay"):
            raise ValueError(f"fullRefresh does not go with trigger '{self.trigger}'")
        return self

    def environment(self) -> dict[str, str]:
        """Return the variable that hands these options to a runner; none for the usual run."""
        said = self.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"trigger"})
        if self.trigger in ("backfill", "replay"):
            said["trigger"] = self.trigger
        return {OPTIONS_ENV: json.dumps(said, sort_keys=True)} if said else {}


__all__ = ["OPTIONS_ENV", "Replay", "RunOptions", "Trigger", "Window"]
