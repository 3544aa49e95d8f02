"""StreamSpec: one stream of a source, the table it goes to, and what happens to its rows on the way."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from millstream_api.meta import ApiModel

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=63)]
TableName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=127, pattern=r"^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?$"),
]
Tag = Annotated[str, StringConstraints(max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")]
Duration = Annotated[str, StringConstraints(max_length=32, pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$")]


class Cursor(ApiModel):
    """The column an incremental read goes by."""

    field: Identifier = Field(description="A column that only grows, such as an id or a time of change.")
    lag: Duration | None = Field(
        default=None,
        description="Read again this much before the last cursor; needs merge, or scd2 with `effectiveAt`.",
    )


class Contract(ApiModel):
    """What happens when the source's shape changes."""

    tables: Literal["evolve", "freeze", "discard"] = Field(
        default="evolve", description="A target that is not there: make it, fail the run, or leave the stream out."
    )
    columns: Literal["evolve", "freeze", "quarantine", "discard"] = Field(
        default="evolve",
        description="A new column: add it, fail the run, set aside the rows that have a value in it, or leave it out.",
    )
    types: Literal["freeze", "evolve"] = Field(
        default="freeze", description="A changed type: keep the target's type, or widen it where nothing is lost."
    )
    rows: Literal["quarantine", "freeze", "discard"] = Field(
        default="quarantine", description="A row that does not fit: set it aside, fail the run, or drop it (counted)."
    )


class Nested(ApiModel):
    """What becomes of objects and lists inside a row."""

    objects: Literal["json", "columns"] = Field(
        default="json", description="An object becomes one jsonb column, or a column per field, `parent__field`."
    )
    lists: Literal["json", "tables"] = Field(
        default="json",
        description="A list becomes one jsonb column, or a child table `target__field` with the parent's primary key "
        "(`_parent_<column>`), the place in the list (`_index`) and the elements' fields; needs `primaryKey`.",
    )
    max_depth: int = Field(
        default=3, ge=1, le=8, description="Levels that are taken apart; what lies deeper stays one jsonb column."
    )


class Scd2(ApiModel):
    """History of a key as rows with half-open validity: `valid_from` <= t < `valid_to`."""

    effective_at: Identifier | None = Field(
        default=None, description="Column with the time a change took effect; empty means the time of the run."
    )
    valid_from: Identifier = Field(default="valid_from", description="Name of the column with the begin of validity.")
    valid_to: Identifier = Field(
        default="valid_to", description="Name of the column with the end of validity; NULL marks the current row."
    )


class Deletes(ApiModel):
    """How rows that are gone at the source leave the target (merge), or end their validity (scd2)."""

    column: Identifier | None = Field(
        default=None,
        description="Column that marks a deleted row, of the source (loaded or not) or made under `columns`: true, a "
        "number but 0, a time, or a text but an empty one, `0`, `f`, `false`, `n`, `no` and `off`.",
    )
    reconcile_every: Duration | None = Field(
        default=None,
        description="At most this often a run reads all keys of the source and takes out the rows whose key is gone, "
        "for example `24h`; `0s` means at every run.",
    )


class ColumnSpec(ApiModel):
    """One column of the target: taken, renamed, cast, computed or masked."""

    name: Identifier = Field(description="Column name in the target.")
    source: Identifier | None = Field(default=None, description="Column name in the source; empty means the same.")
    type: str | None = Field(
        default=None, max_length=100, description="SQL type in PostgreSQL's words, for example `numeric(12,2)`."
    )
    expression: str | None = Field(
        default=None, max_length=10000, description="SQL expression over the source's columns (DuckDB's functions)."
    )
    mask: Literal["hash", "redact"] | None = Field(
        default=None, description="`hash` keeps equality (keyed SHA-256), `redact` keeps only NULL or not."
    )
    drop: bool = Field(default=False, description="Leave this column out of the target.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.expression is not None and self.source is not None:
            raise ValueError(f"column '{self.name}': give `source` or `expression`, not both")
        return self


class CheckSpec(ApiModel):
    """A check: the plug-in's `type` and its own fields beside it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    type: str = Field(
        min_length=1, max_length=63, pattern=r"^[a-z][a-z0-9_]*$", description="Name of the check plug-in."
    )
    severity: Literal["error", "warn"] = Field(
        default="error",
        description="`error` sets the row aside (a row check) or fails the run (a set check); `warn` only counts.",
    )
    name: Identifier | None = Field(default=None, description="Name in reports; empty means type and columns.")
    max_failed_rows: int | None = Field(
        default=None,
        ge=0,
        description="Error budget of this row check, of either severity: the run fails when more rows break it.",
    )
    max_failed_ratio: float | None = Field(
        default=None, ge=0, le=1, description="The same as a share of the rows it looks at, 0 to 1."
    )

    def parameters(self) -> dict[str, Any]:
        """Return the plug-in's own fields, as written."""
        return dict(self.model_extra or {})


class StreamSpec(ApiModel):
    """One stream of the source and the table it goes to."""

    name: str = Field(min_length=1, max_length=253, description="Stream name, as the source's probe lists it.")
    target: TableName = Field(description="Target table, `schema.table`.")
    tags: list[Tag] = Field(
        default_factory=list,
        max_length=32,
        description="Tags of the target, by which a RetentionPolicy chooses it (`tables[].tag`); warehouse postgres.",
    )
    mode: Literal["full", "incremental"] = Field(
        default="full", description="Read everything each time, or only what is new."
    )
    cursor: Cursor | None = Field(default=None, description="What an incremental read goes by.")
    primary_key: list[Identifier] = Field(default_factory=list, max_length=32, description="Key columns of the target.")
    write_disposition: Literal["append", "replace", "merge", "scd2"] = Field(
        default="append",
        description="Add rows, replace the table at once, insert and update by key, or keep each key's history.",
    )
    scd2: Scd2 = Field(default_factory=Scd2, description="Names and time of writeDisposition scd2.")
    deletes: Deletes = Field(default_factory=Deletes, description="How rows deleted at the source are followed.")
    nested: Nested = Field(default_factory=Nested, description="What becomes of objects and lists inside a row.")
    contract: Contract = Field(default_factory=Contract, description="What happens when the source's shape changes.")
    columns: list[ColumnSpec] = Field(
        default_factory=list,
        max_length=1600,
        description="Columns to rename, cast, compute, mask or drop. Columns not named here pass as they are.",
    )
    select: list[Identifier] = Field(
        default_factory=list, max_length=1600, description="Take only these columns of the source; empty means all."
    )
    filter: str | None = Field(
        default=None, max_length=10000, description="SQL condition; rows where it is not true are counted as filtered."
    )
    checks: list[CheckSpec] = Field(default_factory=list, max_length=200, description="Checks of this stream's rows.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.write_disposition in ("merge", "scd2") and not self.primary_key:
            raise ValueError(f"stream '{self.name}': writeDisposition '{self.write_disposition}' needs `primaryKey`")
        if (self.deletes.column or self.deletes.reconcile_every) and self.write_disposition not in ("merge", "scd2"):
            raise ValueError(f"stream '{self.name}': `deletes` needs writeDisposition 'merge' or 'scd2'")
        if self.nested.lists == "tables" and not self.primary_key:
            raise ValueError(f"stream '{self.name}': nested.lists 'tables' needs `primaryKey`, which children carry")
        if self.write_disposition == "replace" and self.mode == "incremental":
            raise ValueError(f"stream '{self.name}': writeDisposition 'replace' needs mode 'full'")
        timed = self.write_disposition == "scd2" and self.scd2.effective_at is not None
        if self.cursor and self.cursor.lag and self.write_disposition != "merge" and not timed:
            raise ValueError(
                f"stream '{self.name}': cursor.lag reads rows again and needs writeDisposition 'merge', or 'scd2' with "
                "`scd2.effectiveAt`"
            )
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"stream '{self.name}': columns named twice: {', '.join(twice)}")
        return self
