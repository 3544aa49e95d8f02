"""RetentionPolicy: partitions made ahead, how long rows stay, where they go, and how they are erased."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from millstream_api.bounds import refuse_backwards, refuse_short_lived
from millstream_api.meta import ApiModel, ObjectRef, PodOverrides, ResourceName, SecretRef
from millstream_api.pipeline import History
from millstream_api.schedule import ZONE_PATTERN, Cron, known_zone
from millstream_api.stream import Duration, Identifier, TableName, Tag

CalendarSpan = Annotated[
    str, StringConstraints(max_length=32, pattern=r"^[1-9][0-9]* (hour|day|week|month|quarter|year)s?$")
]
Grace = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9]+ (hour|day|week|month|quarter|year)s?$")]
Interval = Annotated[
    str, StringConstraints(max_length=32, pattern=r"^[1-9][0-9]*( (hour|day|week|month|quarter|year)s?)?$")
]
Bound = Annotated[
    str,
    StringConstraints(max_length=40, pattern=r"^(-?[0-9]+|[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+(Z|[+-][0-9:]+)?)?)$"),
]
PolicyName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
Size = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")]
TimeAs = Literal["seconds", "milliseconds", "microseconds", "yyyymmdd", "yyyymm", "yyyy"]


_SHOWN = 5  # tables named in a message
_FOLDER = re.compile(r"/[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_TAKEN = ("bin", "dev", "etc", "lib", "lib64", "millstream", "opt", "proc", "sbin", "sys", "tmp", "usr")


def _full(name: str) -> str:
    return name if "." in name else f"public.{name}"


class PartitionBy(ApiModel):
    """How a table is cut into ranges."""

    column: Identifier = Field(description="Column of type timestamptz, timestamp, date or integer.")
    interval: Interval = Field(
        description="Width of a partition, for example `1 month`; a bare number for integers that tell no time."
    )
    time_as: TimeAs | None = Field(
        default=None,
        description="How a column of integers tells time: `seconds`, `milliseconds` or `microseconds` since 1970, or "
        "the digits of a date (`yyyymmdd`, `yyyymm`, `yyyy`); empty for numbers that tell none.",
    )
    time_zone: str = Field(
        default="Etc/UTC",
        max_length=64,
        pattern=ZONE_PATTERN,
        description="IANA time zone in which days and months begin and end.",
    )
    premake: int = Field(default=3, ge=1, le=100, description="Partitions made ahead of the current one.")
    convert: bool = Field(
        default=False,
        description="True: a plain table is turned into a partitioned one while it is used. False: it is refused.",
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        return known_zone(zone)


class Keep(ApiModel):
    """How long rows stay; whichever limit is reached first counts. Whole partitions leave, oldest first."""

    age: CalendarSpan | None = Field(
        default=None, description="A partition leaves when its newest possible row is older, for example `13 months`."
    )
    size: Size | None = Field(
        default=None, description="Largest size of a table with its indexes, for example `200Gi`."
    )
    rows: int | None = Field(default=None, ge=1, description="Largest number of rows of a table, as estimated.")
    disk_pressure: str | None = Field(
        default=None,
        max_length=8,
        pattern=r"^([1-9]|[1-9][0-9]|100)%$",
        description="Share of `diskSize` that the database may take, for example `85%`.",
    )
    disk_size: Size | None = Field(
        default=None, description="Size of the warehouse's disk, which PostgreSQL does not tell; for `diskPressure`."
    )

    @model_validator(mode="after")
    def _pressure_of_what(self) -> Self:
        if (self.disk_pressure is None) != (self.disk_size is None):
            raise ValueError("`diskPressure` and `diskSize` go together: give both or neither")
        return self


class RetainedTable(ApiModel):
    """A table, or every table of a schema or with a tag whose name fits a pattern."""

    name: TableName | None = Field(default=None, description="Table, `schema.table`.")
    schema_: Identifier | None = Field(default=None, alias="schema", description="Every fitting table of this schema.")
    tag: Tag | None = Field(
        default=None, description="Every fitting table that a stream loads and tags so (`tags`); with `schema`, of it."
    )
    pattern: str = Field(
        default="*",
        max_length=127,
        description="With `schema` or `tag`: names that fit, `*` stands for any characters.",
    )
    partition_by: PartitionBy | None = Field(
        default=None, description="How the table is cut; empty for one that is cut already and gets no partitions here."
    )
    keep: Keep | None = Field(default=None, description="Limits of this table in place of the policy's.")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.name is None) == (self.schema_ is None and self.tag is None):
            raise ValueError("give `name`, or else `schema`, `tag` or both")
        return self

    @property
    def shown(self) -> str:
        """The table, or the pattern, for messages."""
        return self.name or f"{self.schema_}.{self.pattern}"

    def may_be(self, table: str) -> bool:
        """Whether this is the table, or its pattern fits it; a name without schema is one of `public`."""
        return fnmatchcase(_full(table), _full(self.shown))


class ArchiveKeep(ApiModel):
    """How long archives stay."""

    age: CalendarSpan = Field(
        description="An archive expires when its newest possible row is older than this; longer than `keep.age`."
    )


class Archive(ApiModel):
    """Where partitions go before they are dropped. An archive is read back and compared before it counts."""

    url: str = Field(
        min_length=1,
        max_length=1024,
        pattern=r"^((s3|gs|file)://|\.{1,2}/).+$",
        description="`s3://bucket/prefix`, `gs://bucket/prefix` or `file:///folder`; for the command also a path "
        "relative to the manifest, such as `./archive`.",
    )
    endpoint: str | None = Field(default=None, max_length=1024, description="Endpoint of an S3-compatible store.")
    region: str | None = Field(default=None, max_length=64, description="Region of the bucket.")
    secret_ref: SecretRef | None = Field(
        default=None, description="Secret with `accessKeyId` and `secretAccessKey`, or `serviceAccountKey`."
    )
    volume_claim: ResourceName | None = Field(
        default=None,
        description="PersistentVolumeClaim in the same namespace, which pods mount at the folder of `url`: on a "
        "cluster `file:///archive` needs one. The command mounts nothing.",
    )
    format: Literal["parquet"] = Field(default="parquet", description="File format.")
    keep: ArchiveKeep | None = Field(default=None, description="How long archives stay; empty means for ever.")

    @property
    def mount_path(self) -> str:
        """Where pods mount `volume_claim`."""
        return urlsplit(self.url).path.rstrip("/")

    @model_validator(mode="after")
    def _mounted_where_it_can_be(self) -> Self:
        if self.volume_claim is None:
            return self
        if not self.url.startswith("file:///") or not _FOLDER.fullmatch(self.mount_path):
            raise ValueError(
                f"`volumeClaim` is mounted at the folder of `url`, and '{self.url}' names none for it: "
                "give one such as file:///archive"
            )
        if (top := self.mount_path.split("/")[1]) in _TAKEN:
            raise ValueError(
                f"`volumeClaim` would be mounted at '{self.mount_path}', and a run's pod needs its own '/{top}': "
                "give another `url`, such as file:///archive"
            )
        return self


class Hold(ApiModel):
    """A range that nothing may remove, whatever the limits say."""

    name: Identifier = Field(description="Name of the hold, for example a case number.")
    table: TableName = Field(description="Table that is held.")
    from_: Bound | None = Field(default=None, alias="from", description="First value held; empty means all before.")
    to: Bound | None = Field(default=None, description="First value no longer held; empty means all after.")

    @model_validator(mode="after")
    def _stretches_forward(self) -> Self:
        refuse_backwards(self.from_, self.to)
        return self


class Dependent(ApiModel):
    """A table that is computed from one of the policy's and must have seen a range before it leaves."""

    table: TableName = Field(description="Table of the policy.")
    name: TableName = Field(description="Rollup, mart or copy that is made from it.")
    column: Identifier = Field(
        description="Column of the dependent whose largest value says how far it has come, in the terms of "
        "`partitionBy.column`."
    )


class Erasure(ApiModel):
    """Rows that must go everywhere: from live partitions, quarantine and archives."""

    table: TableName = Field(description="Table whose rows are erased.")
    where: str = Field(min_length=1, max_length=10000, description="SQL condition of the rows, for example `id = 7`.")
    reason: str = Field(min_length=1, max_length=253, description="Why, for the receipt; no personal data.")


class Costs(ApiModel):
    """What a month of storage costs, to say what a plan saves."""

    warehouse: float = Field(ge=0, description="Price of one GB in the warehouse for a month.")
    archive: float = Field(default=0, ge=0, description="Price of one GB in the archive for a month.")
    currency: str = Field(default="USD", max_length=8, description="Currency of both.")


class RetentionPolicySpec(ApiModel):
    """The life cycle of tables: cut, keep, archive, drop."""

    warehouse_ref: ObjectRef = Field(description="The Warehouse that holds the tables; of type postgres.")
    tables: list[RetainedTable] = Field(min_length=1, max_length=500, description="Tables the policy owns.")
    former_names: list[PolicyName] = Field(
        default_factory=list,
        max_length=10,
        description="Names this policy had before, in its namespace: it takes over the tables that they claimed.",
    )
    keep: Keep = Field(default_factory=Keep, description="How long rows stay; empty means for ever.")
    archive: Archive | None = Field(default=None, description="Where rows go first; empty means they are dropped.")
    grace: Grace = Field(
        default="7 days",
        description="How long a detached partition stays in the warehouse before it is dropped; `0 days`: not at all.",
    )
    holds: list[Hold] = Field(default_factory=list, max_length=500, description="Ranges that nothing may remove.")
    dependents: list[Dependent] = Field(
        default_factory=list, max_length=100, description="Tables that must have seen a range before it leaves."
    )
    delete: list[Erasure] = Field(default_factory=list, max_length=100, description="Rows to erase everywhere.")
    schedule: Cron = Field(default_factory=lambda: Cron(cron="30 2 * * *"), description="When the policy runs.")
    history: History = Field(
        default_factory=History, description="How many finished runs are kept, and likewise how many restores."
    )
    approval: Literal["automatic", "manual"] = Field(
        default="automatic",
        description="`manual`: nothing is dropped or erased until the plan's digest is approved by the annotation "
        "`millstream.dev/approve`.",
    )
    lock_timeout: Duration = Field(
        default="1s",
        description="How long a change of a table may wait for its lock, and so hold up others, per try; also how long "
        "a conversion's switch may hold it.",
    )
    costs: Costs | None = Field(default=None, description="Prices of storage, to say what is saved.")
    suspend: bool = Field(default=False, description="True stops new runs; what they would do is still planned.")
    timeout_seconds: int = Field(
        default=86400,
        ge=60,
        le=2592000,
        description="A run that takes longer ends, and goes on at the next, in seconds.",
    )
    pod: PodOverrides | None = Field(default=None, description="Overrides for the run's pod.")

    @model_validator(mode="after")
    def _archives_outlive_the_rows(self) -> Self:
        """An archive's age is counted from the same rows, so a shorter one would end with the drop."""
        if self.archive is None or self.archive.keep is None:
            return self
        own = {f"tables[{n}].keep.age": table.keep.age for n, table in enumerate(self.tables) if table.keep}
        common = {"keep.age": self.keep.age} if len(own) < len(self.tables) else {}
        refuse_short_lived(self.archive.keep.age, common | own)
        return self

    @model_validator(mode="after")
    def _about_own_tables(self) -> Self:
        """A hold with a misspelt table would hold nothing, and nobody would know."""
        for field in ("holds", "dependents", "delete"):
            for number, item in enumerate(getattr(self, field)):
                if not any(table.may_be(item.table) for table in self.tables):
                    names = ", ".join(table.shown for table in self.tables[:_SHOWN])
                    more = f" and {len(self.tables) - _SHOWN} more" if len(self.tables) > _SHOWN else ""
                    raise ValueError(
                        f"`{field}[{number}].table` '{item.table}' is none of the policy's tables ({names}{more}): "
                        "correct it, or add it to `tables`"
                    )
        return self
