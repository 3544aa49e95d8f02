"""Partitions made, attached, detached and dropped, each with the weakest lock there is for it.

`LIKE` + CHECK + ATTACH takes SHARE UPDATE EXCLUSIVE on the parent, where `PARTITION OF` would shut everybody out; the
CHECK spares the scan. DETACH CONCURRENTLY takes the same lock, twice, and leaves the CHECK that a re-attach needs.
Source: PostgreSQL manual, ALTER TABLE and 5.12.2.2.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator

from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention import keys_out
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import Partition, TableFacts
from millstream_pipelines.retention.likeness import likeness
from millstream_pipelines.retention.spans import Grid, Kind, Value, following, spelled, sql_type, suffix
from millstream_pipelines.warehouses.names import quote, quote_table

_LONGEST_NAME = 63  # bytes, PostgreSQL's limit
_PENDING = "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(%s) AND inhparent = to_regclass(%s)"


def partition_name(table: str, low: Value, grid: Grid, taken: Collection[str] = ()) -> str:
    """Return `schema.table_p20130101`, cut to PostgreSQL's 63 bytes with a hash where it would be longer.

    Of names that are taken it is none: where days begin elsewhere than they did, two partitions begin on one day.
    """
    names = (_ended(table, f"_{suffix(low, grid)}{more}") for more in _numbered())
    return next(name for name in names if name not in taken)


def _numbered() -> Iterator[str]:
    yield ""
    yield from (f"_{number}" for number in itertools.count(2))


def _ended(table: str, end: str) -> str:
    schema, _, name = table.rpartition(".")
    if len(name.encode()) + len(end) > _LONGEST_NAME:
        mark = f"_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
        name = name.encode()[: _LONGEST_NAME - len(end) - len(mark)].decode(errors="ignore") + mark
    return f"{schema}.{name}{end}" if schema else f"{name}{end}"


def missing_ranges(
    facts: TableFacts, grid: Grid, first: Value, last: Value, away: Iterable[tuple[Value | None, Value | None]] = ()
) -> list[tuple[Value, Value]]:
    """Return the ranges of the grid from the one of `first` to the one of `last` that no partition covers.

    `away`: ranges that have left, in whose place none is made. One that is covered in part is cut to what is left.
    Of a table that is cut by lists, the values at which they begin.
    """
    taken = [*((part.low, part.high) for part in facts.partitions), *away]
    if facts.listed:
        return list(_missing_values(taken, grid, first, last))
    taken.sort(key=lambda item: (item[0] is not None, item[0] or 0))
    wanted: list[tuple[Value, Value]] = []
    low = grid.floor(first)
    while low <= last:  # type: ignore[operator]  # both are of one kind
        left, high = low, grid.next(low)
        for begins, ends in taken:
            if (ends is not None and ends <= left) or (begins is not None and begins >= high):  # type: ignore[operator]
                continue
            if begins is not None and begins > left:  # type: ignore[operator]
                wanted.append((left, begins))
            left = high if ends is None else ends
        if left < high:  # type: ignore[operator]
            wanted.append((left, high))
        low = high
    return wanted


def _missing_values(
    taken: Iterable[tuple[Value | None, Value | None]], grid: Grid, first: Value, last: Value
) -> Iterator[tuple[Value, Value]]:
    low = grid.floor(first)
    while low <= last:  # type: ignore[operator]  # both are of one kind
        if not any(begins <= low < ends for begins, ends in taken):  # type: ignore[operator]
            yield low, following(low, grid.kind)
        low = grid.next(low)


def condition(column: str, low: Value | None, high: Value | None, kind: Kind) -> str:
    """Return the CHECK that makes an ATTACH for this range need no scan."""
    name = quote(column)
    parts = [f"{name} IS NOT NULL"]
    parts += [f"{name} >= '{spelled(low, kind)}'::{sql_type(kind)}"] if low is not None else []
    parts += [f"{name} < '{spelled(high, kind)}'::{sql_type(kind)}"] if high is not None else []
    return " AND ".join(parts)


def _check(facts: TableFacts, low: Value | None, high: Value | None) -> str:
    """Return the CHECK of a partition of this table, which may be one itself."""
    if facts.listed:
        own = f"{quote(facts.column)} IS NOT NULL AND {quote(facts.column)} IN ({_values(facts, low, high)})"
    else:
        own = condition(facts.column, low, high, facts.kind)
    return f"CONSTRAINT millstream_range CHECK ({' AND '.join(filter(None, [own, facts.within]))})"


def _for_values(facts: TableFacts, low: Value | None, high: Value | None) -> str:
    return f"FOR VALUES IN ({_values(facts, low, high)})" if facts.listed else bounds(low, high, facts.kind)


def _values(facts: TableFacts, low: Value | None, high: Value | None) -> str:
    """Return the values of a list, which has an end on either side."""
    assert low is not None  # noqa: S101
    assert high is not None  # noqa: S101
    found, value = [], low
    while value < high:  # type: ignore[operator]  # both are of one kind
        found.append(f"'{spelled(value, facts.kind)}'")
        value = following(value, facts.kind)
    return ", ".join(found)


def bounds(low: Value | None, high: Value | None, kind: Kind) -> str:
    """Return `FOR VALUES FROM … TO …`."""
    first = "MINVALUE" if low is None else f"'{spelled(low, kind)}'"
    last = "MAXVALUE" if high is None else f"'{spelled(high, kind)}'"
    return f"FOR VALUES FROM ({first}) TO ({last})"


def create(ddl: Ddl, facts: TableFacts, name: str, low: Value, high: Value) -> None:
    """Make an empty partition like the last one and attach it, in one transaction: a killed run leaves nothing."""
    child, parent = quote_table(name), quote_table(facts.name)
    check = _check(facts, low, high)
    like = f"LIKE {parent} INCLUDING ALL EXCLUDING IDENTITY"  # before PostgreSQL 17 a partition can have none
    like_newest = likeness(ddl, facts, child)
    ddl.together(
        f"making partition {name} of {facts.name}",
        [
            f"{like_newest.create} {child} ({like}, {check}){like_newest.stored}",
            *like_newest.settings,
            f"ALTER TABLE {parent} ATTACH PARTITION {child} {_for_values(facts, low, high)}",
            f"ALTER TABLE {child} DROP CONSTRAINT millstream_range",
            *like_newest.last,
            *keys_out.for_partition(ddl, facts.name, child),
        ],
        (parent,),
    )
    reached("partition-made")


def attach(
    ddl: Ddl,
    facts: TableFacts,
    name: str,
    low: Value | None,
    high: Value | None,
    note: Callable[[], None],
) -> None:
    """Attach a filled table. CHECK and foreign keys are validated first, which stops nobody; so ATTACH need not scan.

    `note` is called in the transaction that attaches, to say so there.
    """
    child, parent = quote_table(name), quote_table(facts.name)
    doing = f"attaching {name} to {facts.name}"
    check = _check(facts, low, high)
    ddl.together(
        doing,
        [
            f"ALTER TABLE {child} DROP CONSTRAINT IF EXISTS millstream_range",
            f"ALTER TABLE {child} ADD {check} NOT VALID",
        ],
        (child,),
    )
    ddl.alone(doing, f"ALTER TABLE {child} VALIDATE CONSTRAINT millstream_range", (child,))
    keys_out.proven(ddl, facts.name, child)
    reached("partition-checked")

    def attached() -> None:
        ddl.execute(f"ALTER TABLE {parent} ATTACH PARTITION {child} {_for_values(facts, low, high)}")
        ddl.execute(f"ALTER TABLE {child} DROP CONSTRAINT millstream_range")
        note()

    ddl.transaction(doing, attached, (parent, child))
    reached("partition-attached")


def detach(ddl: Ddl, table: str, partition: Partition) -> None:
    """Detach, or finish a detach that was broken off; nobody is shut out, but every older transaction is waited for.

    A try that ends at the lock time-out while it waits for them has begun: the next one must finish it.
    """
    child, parent = quote_table(partition.name), quote_table(table)

    def statement() -> str | None:
        pending = ddl.rows(_PENDING, (child, parent))
        how = "FINALIZE" if pending and pending[0][0] else "CONCURRENTLY"
        return f"ALTER TABLE {parent} DETACH PARTITION {child} {how}" if pending else None

    ddl.alone(f"detaching {partition.name} from {table}", statement, (parent, child))


__all__ = ["attach", "bounds", "condition", "create", "detach", "missing_ranges", "partition_name"]
