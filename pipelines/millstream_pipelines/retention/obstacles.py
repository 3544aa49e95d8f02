"""Whether a plain table can be turned into a partitioned one, and what stands in the way. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.retention.plain import PlainTable
from millstream_pipelines.retention.spans import Grid, Value, spelled

_FAR = 1000  # intervals; a largest value so far ahead is no time of an event, it stands for "never"


@dataclass(frozen=True)
class Range:
    """What the column holds: its largest value, and whether there are rows without one. `odd`: a value without date."""

    largest: Value | None = None
    has_nulls: bool = False
    odd: str | None = None


def upper_bound(grid: Grid, now: Value, held: Range, premake: int) -> Value:
    """Return where the old rows' range ends: `premake` partitions after that of now, or of the largest value."""
    last = now if held.largest is None or held.largest < now else held.largest  # type: ignore[operator]  # of one kind
    return grid.next(grid.floor(last), premake + 1)


def obstacles(table: PlainTable, by: PartitionBy, grid: Grid, now: Value, held: Range) -> list[str]:
    """Return all that stands in the way, each with what to do about it; nothing when the table can be turned."""
    return [
        *_of_the_table(table),
        *_of_the_column(table, by, grid, now, held),
        *_of_keys(table, by),
        *_of_others(table),
    ]


def _of_the_table(t: PlainTable) -> list[str]:
    return [
        text
        for stands, text in (
            (not t.owned, f"it belongs to role {t.owner}; log in as that role or as a member of it"),
            (t.persistence == "u", "it is unlogged; ALTER TABLE … SET LOGGED"),
            (t.persistence == "t", "it is temporary; name a table that stays"),
            (t.typed, "it is a typed table (OF a type); ALTER TABLE … NOT OF"),
            (t.extension is not None, f"extension {t.extension} owns it; leave it out of the policy"),
            (bool(t.parents), f"it inherits from {_list(t.parents)}; ALTER TABLE … NO INHERIT"),
            (bool(t.children), f"tables inherit from it: {_list(t.children)}; ALTER TABLE … NO INHERIT them"),
            (bool(t.labels), f"it has security labels ({_list(t.labels)}), which are not carried over; remove them"),
        )
        if stands
    ]


def _of_the_column(t: PlainTable, by: PartitionBy, grid: Grid, now: Value, held: Range) -> list[str]:
    column, found = t.column(by.column), []
    if column is None:
        return [f"it has no column '{by.column}'"]
    if column.generated:
        found.append(f"column '{by.column}' is generated, which PostgreSQL cannot cut by; choose another column")
    if held.has_nulls:
        found.append(f"there are rows without a value in '{by.column}'; give them one or delete them")
    if held.odd is not None:
        found.append(
            f"the largest value of '{by.column}' is {held.odd}, which lies in no partition; give those rows a value "
            "between the years 1 and 9999"
        )
    largest = held.largest
    if largest is not None and not isinstance(largest, int) and largest > grid.next(grid.floor(now), _FAR):  # type: ignore[operator]
        found.append(
            f"the largest value of '{by.column}' is {spelled(largest, grid.kind)}, more than {_FAR} partitions from "
            "now: new rows would all go to the old ones' partition; give those rows another value"
        )
    return found


def _of_keys(t: PlainTable, by: PartitionBy) -> list[str]:
    found = []
    kinds = {"p": "primary key", "u": "unique constraint"}
    for constraint in t.constraints:
        if constraint.type in kinds and by.column not in constraint.columns:
            found.append(_without(f"{kinds[constraint.type]} {constraint.name}", constraint.columns, by.column))
        elif constraint.type == "x":
            found.append(f"exclusion constraint {constraint.name} cannot hold across partitions; drop it")
        elif constraint.type in "cn" and not constraint.inherited:
            found.append(f"check {constraint.name} is NO INHERIT, which a partitioned table cannot have; make it anew")
        if "NOT ENFORCED" in constraint.definition:
            found.append(f"constraint {constraint.name} is NOT ENFORCED; drop it, and add it again afterwards")
        elif constraint.type in "cfn" and not constraint.validated:
            found.append(f"constraint {constraint.name} is NOT VALID; ALTER TABLE … VALIDATE CONSTRAINT it first")
    for index in t.indexes:
        if not index.valid:
            found.append(f"index {index.name} is invalid; drop or reindex it")
        elif index.unique and by.column not in index.columns:
            found.append(_without(f"unique index {index.name}", index.columns, by.column))
    return found


def _without(what: str, columns: tuple[str, ...], column: str) -> str:
    of = f" ({', '.join(columns)})" if columns else ""
    return (
        f"{what}{of} does not contain '{column}', and PostgreSQL keeps rows unique over all partitions only with the "
        f"column that it cuts by; make it anew with '{column}' in it, or drop it"
    )


def _of_others(t: PlainTable) -> list[str]:
    found = []
    for key in t.incoming:
        name = f"foreign key {key.name} of {key.table}"
        if key.itself:
            found.append(f"{name} refers to the table itself; drop it")
        elif key.partitioned:
            found.append(f"{name}, a partitioned table, cannot be moved without shutting out its writers; drop it")
        elif "NOT ENFORCED" in key.definition:
            found.append(f"{name} is NOT ENFORCED; drop it, and add it again afterwards")
        elif not key.validated:
            found.append(f"{name} is NOT VALID; ALTER TABLE … VALIDATE CONSTRAINT it first, or drop it")
        elif not key.owned:
            found.append(f"{name} must be moved, and the table belongs to another role; log in as a member of it")
    found += [f"view {v.name} must be made anew, and it belongs to another role" for v in t.views if not v.owned]
    found += [f"materialized view {name} would go on reading the old rows only; drop it, and make it anew afterwards"
              for name in t.matviews]  # fmt: skip
    found += [f"publication {name} sends the table's changes; take it out (one FOR ALL TABLES: drop it), and put it in "
              "again afterwards (with publish_via_partition_root)" for name in t.publications]  # fmt: skip
    found += [f"subscription {name} brings the table's rows, and knows it by its number: what comes once it is turned "
              "would be lost; while nothing is written at the source, take the table out of it, and put it in again "
              "afterwards (ALTER SUBSCRIPTION … REFRESH PUBLICATION, copy_data = false)"
              for name in t.subscriptions]  # fmt: skip
    found += [f"rule {name} is not carried over; drop it or make it a trigger" for name in t.rules]
    found += [f"trigger {trigger.name} sees whole sets of rows (REFERENCING) for each row, which partitions cannot; "
              "drop it" for trigger in t.triggers if trigger.transition]  # fmt: skip
    found += [f"{what} is bound to the table itself and would go on using the old rows only; drop it, and make it anew "
              "afterwards" for what in t.bound]  # fmt: skip
    return found


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)


__all__ = ["Range", "obstacles", "upper_bound"]
