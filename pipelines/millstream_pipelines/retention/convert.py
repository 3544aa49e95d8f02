"""A plain table becomes one partitioned by range while it is read and written: the old table is its first range.

A CHECK that the old rows lie below the range's end is added and validated first, which stops nobody. Then everything
changes over in one short transaction, tried again where a lock is not to be had in time. The rows stay where they are.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo

from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.errors import ConfigurationError, MillstreamError, RetriableError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention import conversion_sql as sql
from millstream_pipelines.retention import ondemand
from millstream_pipelines.retention.abandoning import abandon
from millstream_pipelines.retention.conversions import note
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import TableFacts, column_kind, replace, table_facts
from millstream_pipelines.retention.keys_in import finish
from millstream_pipelines.retention.obstacles import Range, upper_bound
from millstream_pipelines.retention.partitions import condition, create, missing_ranges, partition_name
from millstream_pipelines.retention.plain import PlainTable
from millstream_pipelines.retention.plain_reading import bare_path, read_plain
from millstream_pipelines.retention.planning import grid_of
from millstream_pipelines.retention.spans import Grid, Kind, Value, parsed, spelled
from millstream_pipelines.retention.surroundings import standing
from millstream_pipelines.warehouses.names import quote, quote_table


def _grid(ddl: Ddl, facts: TableFacts, by: PartitionBy) -> Grid:
    try:
        return grid_of(replace(facts, kind=column_kind(ddl, facts.name, by.column, by.time_as)), by)
    except ValueError as error:
        raise ConfigurationError(f"{ddl.owner}: table {facts.name}: {error}") from error


def plan(ddl: Ddl, facts: TableFacts, by: PartitionBy, now: datetime | None = None) -> list[str]:
    """Return what stands in the way of a conversion, each with what to do about it. Only reads."""
    try:
        grid = _grid(ddl, facts, by)
    except ConfigurationError as error:
        return [str(error)]
    with bare_path(ddl):
        held = _held(ddl, facts.name, by.column, grid.kind)
        return standing(ddl, read_plain(ddl, facts.name), by, grid, _now(grid, now, held), held)


def convert(ddl: Ddl, facts: TableFacts, by: PartitionBy, now: datetime | None = None) -> str:
    """Turn the table, and return what was done. Nothing has changed when it raises.

    ConfigurationError names all that stands in the way. RetriableError: a lock was not to be had; run it again. A run
    that was killed is simply run again.
    """
    grid = _grid(ddl, facts, by)
    name, kind = facts.name, grid.kind
    with bare_path(ddl):
        held = _held(ddl, name, by.column, kind)
        table, moment = read_plain(ddl, name), _now(grid, now, held)
        if found := standing(ddl, table, by, grid, moment, held):
            abandon(ddl, name, "it cannot be")  # a run before this one died when nothing stood in the way yet
            raise ConfigurationError(refusal(ddl.owner, name, found))
        upper = upper_bound(grid, moment, held, by.premake)
        try:
            _checked(ddl, name, by.column, upper, kind)
            _switch(ddl, table, by.column, upper, kind)
        except MillstreamError:
            with suppress(MillstreamError):  # it would refuse rows one day, if no run ever comes back
                abandon(ddl, name, "it was given up")
            raise
    reached("converted")
    finish(ddl, name)
    reached("convert-validated")
    premake(ddl, name, by, grid, upper)
    ondemand.remember(ddl, name, by, kind)
    return (
        f"{name} is partitioned now; its rows until {spelled(upper, kind)} lie in {sql.before(name)}, and later runs "
        f"split them; that needs about {_size(ddl, name)} more on the warehouse's disk, until the grace period is over"
    )


def refusal(owner: str, name: str, found: list[str]) -> str:
    """Return the message for a table that cannot be turned."""
    lines = "".join(f"\n  - {text}" for text in found)
    return f"{owner}: {name} cannot be turned into a partitioned table as it is:{lines}\nNothing was changed"


def _now(grid: Grid, now: datetime | None, held: Range) -> Value:
    if grid.kind == "integer":
        return held.largest if held.largest is not None else 0
    return grid.now(now or datetime.now(tz=ZoneInfo("UTC")))


def _held(ddl: Ddl, table: str, column: str, kind: Kind) -> Range:
    ddl.rows("SET row_security = off")  # rather an error than rows that are not seen
    name, of = quote(column), quote_table(table)
    largest, nulls = ddl.rows(f"SELECT max({name})::text, EXISTS (SELECT FROM {of} WHERE {name} IS NULL) FROM {of}")[0]
    if largest is None:
        return Range(None, nulls)
    try:
        return Range(parsed(largest, kind), nulls)
    except ValueError:  # infinity, or a year that no calendar of ours has
        return Range(None, nulls, largest)


def _checked(ddl: Ddl, table: str, column: str, upper: Value, kind: Kind) -> None:
    name, doing = quote_table(table), f"checking that the rows of {table} fit one range"
    check = f"ADD CONSTRAINT {sql.CHECK} CHECK ({condition(column, None, upper, kind)}) NOT VALID"

    def action() -> None:
        ddl.execute(sql.unchecked(table))  # of a run that was killed
        ddl.execute(f"ALTER TABLE {name} {check}")
        note(ddl, table, sql.before(table), "checking")

    ddl.transaction(doing, action, (name,))
    reached("convert-checking")
    ddl.alone(doing, f"ALTER TABLE {name} VALIDATE CONSTRAINT {sql.CHECK}", (name,))
    reached("partition-checked")


def _switch(ddl: Ddl, table: PlainTable, column: str, upper: Value, kind: Kind) -> None:
    name = table.name
    others = [quote_table(key.table) for key in table.incoming]

    def change() -> None:
        ddl.at_once(sql.locks(name, others))
        with ddl.briefly():
            if read_plain(ddl, name) != table:
                raise RetriableError(f"{ddl.owner}: {name} was altered while it was to be partitioned; run it again")
            ddl.at_once(sql.switch(table, column, upper, kind))
            note(ddl, name, sql.before(name), "attached")
            reached("converting")

    ddl.transaction(f"turning {name} into a partitioned table", change, (quote_table(name), *others))


def premake(ddl: Ddl, table: str, by: PartitionBy, grid: Grid, upper: Value) -> None:
    """Make the partitions that follow the old rows' range. Idempotent."""
    facts = table_facts(ddl, table, by.time_as)
    for low, high in missing_ranges(facts, grid, upper, grid.next(upper, by.premake - 1)):
        create(ddl, facts, partition_name(table, low, grid, {part.name for part in facts.partitions}), low, high)


def _size(ddl: Ddl, table: str) -> str:
    old = quote_table(sql.before(table))
    return str(ddl.rows("SELECT pg_size_pretty(pg_total_relation_size(to_regclass(%s)))", (old,))[0][0])


__all__ = ["convert", "plan", "premake", "refusal"]
