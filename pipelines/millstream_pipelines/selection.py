"""Which rows of the quarantine are meant, as SQL that every warehouse takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from millstream_pipelines.warehouses.names import literal

RAW = """coalesce(form = 'raw', "row"->>'_raw' IS NOT NULL)"""
"""SQL: whether a row was never parsed. `form` is NULL in rows of an older runner."""


@dataclass(frozen=True)
class Selection:
    """Rows of one pipeline (`namespace/name`) that fit all that is said."""

    pipeline: str
    streams: tuple[str, ...] = ()
    rule: str | None = None
    run: str | None = None
    """The run that set them aside."""
    status: str | None = None
    ids: tuple[int, ...] = ()

    @property
    def narrowed(self) -> bool:
        """Whether anything but the pipeline is said."""
        return bool(self.streams or self.rule or self.run or self.status or self.ids)

    def condition(self) -> str:
        """Return the condition on `_millstream.quarantine`."""
        parts = [f"pipeline = {literal(self.pipeline)}"]
        if self.streams:
            parts.append(f"stream IN ({', '.join(literal(name) for name in self.streams)})")
        for column, value in (("rule", self.rule), ("run", self.run), ("status", self.status)):
            if value is not None:
                parts.append(f"{column} = {literal(value)}")
        if self.ids:
            parts.append(f"id IN ({', '.join(str(int(number)) for number in self.ids)})")
        return " AND ".join(parts)
