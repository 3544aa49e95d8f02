"""The copy of an old range while it is written to: partitions made, rows copied by key, changes brought in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.errors import DataError, RetriableError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention.abandoning import drop_copy
from millstream_pipelines.retention.conversions import Conversion, conversion
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import Partition, TableFacts, replace, table_facts
from millstream_pipelines.retention.keeping_up import SHAPE, Lack, lacking, like_index
from millstream_pipelines.retention.likeness import Likeness, likeness
from millstream_pipelines.retention.plain import PlainTable
from millstream_pipelines.retention.plain_reading import bare_path, read_plain, read_shape, subscriptions
from millstream_pipelines.retention.planning import grid_of
from millstream_pipelines.retention.spans import Grid, Value
from millstream_pipelines.retention.split_sql import Piece, Splitting, cells_query, pieces
from millstream_pipelines.retention.surroundings import refuse_taken
from millstream_pipelines.retention.whole_times import is_whole
from millstream_pipelines.retention.whole_times import moment as whole_moment
from millstream_pipelines.warehouses.names import quote_table

_BATCH_ROWS = 20_000
_TYPES = """
WITH RECURSIVE c (name, type, modifier) AS (
  SELECT attname, atttypid, atttypmod FROM pg_attribute WHERE attrelid = to_regclass(%s)
  UNION ALL
  SELECT c.name, t.typbasetype, t.typtypmod FROM c JOIN pg_type t ON t.oid = c.type WHERE t.typtype = 'd')
SELECT c.name, format_type(c.type, c.modifier) FROM c JOIN pg_type t ON t.oid = c.type WHERE t.typtype <> 'd'
"""  # not those of domains, which may refuse a row of the log that tells of a TRUNCATE
# Schemas of the operators by which the key is compared: those of a type from an extension may be in no search path.
_SCHEMAS = """
SELECT string_agg(DISTINCT quote_ident(n.nspname), ', ')
FROM pg_index x, unnest(x.indclass) used (oid) JOIN pg_opclass c ON c.oid = used.oid
JOIN pg_amop p ON p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
JOIN pg_operator o ON o.oid = p.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE x.indrelid = to_regclass(%s) AND (x.indisprimary OR x.indisreplident) AND n.nspname <> 'pg_catalog'
"""
_NODE = "SELECT pg_relation_filenode(to_regclass(%s))::bigint"
_TRIGGERS = 2
_MOST = 1000  # partitions; beyond, planning a query takes noticeably long


class AlteredError(RetriableError):
    """The table is not what it was when the copy was begun: the copy is thrown away and begun anew."""


class Copying:
    """One call's work on one table. See `split.advance` for the states."""

    def __init__(self, ddl: Ddl, table: str, by: PartitionBy, found: Conversion, now: datetime) -> None:
        self.ddl, self.name, self._by, self.found, self.now = ddl, table, by, found, now
        self.look()

    def look(self) -> None:
        """Read what the table is like now."""
        ddl, table = self.ddl, self.name
        self.reread()
        self.facts: TableFacts = table_facts(ddl, table, self._by.time_as)
        self.old: Partition | None = next((p for p in self.facts.partitions if p.name == self.found.old), None)
        self._shape = ""
        while self._shape != (shape := self.shape()):  # nobody has altered it while it was read
            self._shape = shape
            with bare_path(ddl):
                self.plain: PlainTable = read_plain(ddl, table)
            types = dict(ddl.rows(_TYPES, (quote_table(table),)))
            self._schemas: str | None = ddl.rows(_SCHEMAS, (quote_table(table),))[0][0]
        key = self.plain.key
        columns = [column.name for column in self.plain.columns if not column.generated]
        self.sql = Splitting(table, self.found.old, columns, key, [types[name] for name in key])

    def shape(self) -> str:
        """Return a text that differs when the columns, or how they are to be cut, have changed."""
        found = self.ddl.rows(SHAPE, (quote_table(self.name),))[0][0]
        return f"{found} {self._by.column} {self._by.interval} {self._by.time_zone} {self._by.time_as}"

    def node(self) -> int | None:
        """Return the file of the old range; it is another one when its rows were written anew."""
        found: int | None = self.ddl.rows(_NODE, (quote_table(self.found.old),))[0][0]
        return found

    def _grid(self) -> Grid:
        return grid_of(self.facts, self._by)

    def _upper(self) -> Value:
        if self.old is None or self.old.high is None:
            raise DataError(f"{self.ddl.owner}: {self.found.old} is open above, so it cannot be split")
        return self.old.high

    def prepare(self) -> str:
        """Make the empty partitions; return why the range cannot be split."""
        key = self.plain.key
        whole = f"it leaves as a whole when all of it has expired (until then, {self.name} keeps what it has)"
        if names := subscriptions(self.ddl, self.found.old):
            return (
                f"subscription {', '.join(names)} brings rows into {self.found.old} itself, and would bring none into "
                f"the partitions in its place, so it is not split; {whole}"
            )
        if not key:
            return (
                f"{self.name} has no primary key and no replica identity index, so changes of its rows cannot be "
                f"followed and {self.found.old} is not split; {whole}. Add a primary key with '{self.facts.column}' "
                "in it before a table is turned"
            )
        grid, ddl = self._grid(), self.ddl
        values = [row[0] for row in ddl.rows(cells_query(self.found.old, self.facts.column, grid))]
        moments = [grid.floor(value_of(number, grid)) for number in values]
        last = max(moments, default=0) if grid.kind == "integer" else grid.now(self.now)
        parts = pieces(self.name, moments, last, self._upper(), grid)
        if len(parts) > _MOST:
            return (
                f"{self.found.old} would be {len(parts)} partitions, more than {_MOST}, which make every query slow; "
                f"{whole}. Choose a longer partitionBy.interval"
            )
        refuse_taken(ddl, self.name, self.sql.target, [part.name for part in parts])
        index = self._key_index()
        if "DEFERRABLE" in index:
            return f"the key of {self.name} is DEFERRABLE, by which rows cannot be copied; {whole}"
        prepared = self.sql.prepared(
            self.facts.column, index, [(part, self.like_old(part)) for part in parts], self.facts.kind
        )
        if self.plain.identity_index:  # which the switch gives them; a publication FOR ALL TABLES may come before
            prepared += [f"ALTER TABLE {quote_table(part.name)} REPLICA IDENTITY FULL" for part in parts]

        def action() -> None:
            for statement in (*self.sql.cleared(), *prepared):
                ddl.execute(statement)
            if self.shape() != self._shape:
                raise AlteredError(f"{ddl.owner}: {self.name} was altered while its copy was begun; run it again")
            self.set_state("prepared", shape=self._shape, node=self.node())

        ddl.transaction(f"making partitions for {self.found.old}", action)
        self.reread()
        reached("split-prepared")
        return ""

    def like_old(self, part: Piece) -> Likeness:
        """Return what a partition gets from the old range."""
        facts = replace(self.facts, partitions=(self.old,) if self.old else ())
        return likeness(self.ddl, facts, quote_table(part.name))

    def parts(self) -> list[Piece]:
        """Return the partitions of the copy."""
        found = table_facts(self.ddl, self.sql.target, self._by.time_as).partitions
        return [Piece(part.name, part.low, part.high) for part in found if part.high is not None]

    def _key_index(self) -> str:
        """Return the SQL that gives the copy the key by which rows are found."""
        target = quote_table(self.sql.target)
        for constraint in self.plain.constraints:
            if constraint.type == "p" or constraint.name == self.plain.identity_index:
                return f"ALTER TABLE {target} ADD {constraint.definition}"
        index = next(one for one in self.plain.indexes if one.name == self.plain.identity_index)
        return like_index(index, target)

    def is_outgrown(self) -> bool:
        """Return whether the table has got other columns, or is to be cut in another way, since the copy was begun."""
        return self.shape() != self.found.shape

    def is_watched(self) -> bool:
        """Return whether changes of the old range are noted; somebody may have disabled the triggers."""
        return bool(self.asked(self.sql.watching())[0] == _TRIGGERS)

    def lack(self) -> Lack:
        """Return what the copy lacks to be like the table."""
        with bare_path(self.ddl):
            return lacking(read_shape(self.ddl, self.name), read_shape(self.ddl, self.sql.target))

    def loosen(self) -> bool:
        """Take away from the copy what the table has no more and rows might break; return whether there was any."""
        loose = self.lack().loose
        for statement in loose:
            self.ddl.together(f"making the copy of {self.found.old} like it", [statement])
        return bool(loose)

    def watch(self) -> None:
        old = quote_table(self.found.old)

        def action() -> None:
            for statement in self.sql.watched():
                self.ddl.execute(statement)
            self.set_state("copying", position=None, copied=0)

        self.ddl.transaction(f"watching {self.found.old}", action, (old,))
        self.reread()
        reached("split-begun")

    def copy(self) -> None:
        """Copy one batch; after the last one, make indexes and keys."""
        found, count = self.found, 0

        def action() -> None:
            nonlocal count
            self._with_operators()
            count, last = self.asked(self.sql.batch(found.position, _BATCH_ROWS))
            if count:
                self.set_state("copying", position=json.dumps(last), copied=found.copied + count)

        self.ddl.transaction(f"copying rows of {found.old}", action)
        self.reread()
        reached("split-batch")
        if count < _BATCH_ROWS:
            reached("split-copied")
            self.furnish()
            reached("split-indexed")
        elif (found.copied // _BATCH_ROWS) % 20 == 0:
            self.renew()

    def furnish(self) -> None:
        """Give the copy the indexes and constraints of the table that it lacks; nobody waits for any of it."""
        ddl, lack = self.ddl, self.lack()
        for statement in (*lack.loose, *lack.indexes):
            ddl.together(f"making the copy of {self.found.old} like it", [statement])

        def action() -> None:
            ddl.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.renewed()
            for statement in lack.strict:
                ddl.execute(statement)
            self.set_state("indexed")

        if lack.strict or self.found.state != "indexed":
            ddl.transaction(f"making indexes and constraints for the partitions of {self.name}", action)
            self.reread()

    def renew(self) -> int:
        """Bring the noted changes in, in one transaction of their own; return how many."""
        noted = 0

        def action() -> None:
            nonlocal noted
            self.ddl.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            noted = self.renewed()

        self.ddl.transaction(f"following changes of {self.found.old}", action)
        self.reread()
        reached("split-renewed")
        return noted

    def renewed(self) -> int:
        """Bring the noted changes in, in the open transaction; return how many. AlteredError after a TRUNCATE."""
        self._with_operators()
        take, look = self.sql.noted()
        self.ddl.execute(take)
        count, truncated = self.asked(look)
        if truncated:
            raise AlteredError(f"{self.ddl.owner}: {self.found.old} was truncated while it was split")
        self.ddl.at_once(self.sql.renewed(int(count)))
        return int(count)

    def _with_operators(self) -> None:
        """Put the key's operators behind the search path of the open transaction, if they are not PostgreSQL's own."""
        if self._schemas:
            path = "concat_ws(', ', nullif(current_setting('search_path'), ''), %s)"
            self.ddl.execute(f"SELECT set_config('search_path', {path}, true)", (self._schemas,))

    def asked(self, query: str) -> tuple[Any, ...]:
        with self.ddl.connection.cursor() as cursor:
            cursor.execute(query)
            row: tuple[Any, ...] = cursor.fetchone()  # type: ignore[assignment]  # each of these has one row
            return row

    def set_state(self, state: str, **more: Any) -> None:
        sets = "".join(f", {name} = %s" for name in more)
        self.ddl.execute(
            f"UPDATE _millstream.conversions SET touched_at = now(), state = %s{sets} WHERE table_name = %s",
            (state, *more.values(), self.name),
        )

    def note(self, state: str, note: str) -> str:
        self.set_state(state, note=note)
        return note

    def drop_copy(self) -> None:
        drop_copy(self.ddl, self.found)
        self.reread()

    def reread(self) -> None:
        self.found = conversion(self.ddl, self.name) or self.found


def value_of(number: int, grid: Grid) -> Value:
    """Return the value of what `cells_query` found."""
    if grid.kind == "integer":
        return number
    if is_whole(grid.kind):
        return whole_moment(number, grid.kind)
    moment = datetime(1970, 1, 1) + timedelta(seconds=number)
    return moment.replace(tzinfo=UTC) if grid.kind == "timestamptz" else moment


__all__ = ["AlteredError", "Copying", "value_of"]
