"""A text must match a pattern."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from millstream_pipelines.casting import as_text
from millstream_pipelines.checks.base import CheckConfig


class RegexConfig(CheckConfig):
    """RE2 syntax: linear time for any input, hence no look-around and no back-references."""

    column: str = Field(description="Column to look at; what is no text is matched in its text form.")
    pattern: str = Field(max_length=10000, description="RE2 pattern.")
    partial: bool = Field(default=False, description="True accepts a match anywhere; otherwise all of the text.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            pc.match_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid as error:
            raise ValueError(f"no RE2 pattern: {error}") from None
        return pattern


class Regex:
    """Refuses rows whose text does not match. NULL passes."""

    Config = RegexConfig

    def __init__(self, config: RegexConfig) -> None:
        self._config = config
        self._pattern = config.pattern if config.partial else rf"\A(?:{config.pattern})\z"

    @property
    def label(self) -> str:
        """Return `regex(column)`."""
        return f"regex({self._config.column})"

    def columns(self) -> list[str]:
        """Return the column looked at."""
        return [self._config.column]

    def passes(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return where the text matches, or is NULL."""
        text = as_text(batch.column(self._config.column))
        return pc.fill_null(pc.match_substring_regex(text, self._pattern), True)

    def message(self) -> str:
        """Say what a row must satisfy."""
        return f"{self._config.column} must {'contain' if self._config.partial else 'match'} {self._config.pattern}"
