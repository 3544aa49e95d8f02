"""What looks wrong about a cursor: values ahead of the clock, a table whose values have gone back."""

from __future__ import annotations

from millstream_pipelines.batch import Position
from millstream_pipelines.sources._postgres.catalog import Relation
from millstream_pipelines.sources._postgres.connection import Control
from millstream_pipelines.sources._postgres.cursor import Cursor, reached


def doubts(control: Control, relation: Relation, cursor: Cursor, position: Position | None) -> list[str]:
    """Return a sentence for each; two queries that an index on the cursor answers."""
    found = []
    where = f"{control.owner}: stream '{relation.name}': "
    if cursor.tomorrow is not None:
        sql = f"SELECT count(*), max({cursor.sql})::text FROM {relation.origin} WHERE {cursor.sql} >= {cursor.tomorrow}"
        count, largest = control.rows(sql, about=relation.name)[0]
        if count:
            found.append(
                f"{where}{count} rows have a value more than a day ahead of the clock in cursor '{cursor.column}', "
                f"up to {largest}; they are not read before that time has come, so that they hide no other row. "
                "Correct them at the source"
            )
    if position is None:
        return found
    behind = cursor.value(reached(position, cursor.column, control.owner))
    sql = f"SELECT max({cursor.sql})::text, max({cursor.sql}) < {behind} FROM {relation.origin}"
    largest, went_back = control.rows(sql, about=relation.name)[0]
    if went_back or largest is None:
        now = f"is {largest} now" if largest is not None else "is none now: the table is empty"
        found.append(
            f"{where}the largest value of cursor '{cursor.column}' {now}, and {position['cursor']} has been read. Were "
            "its newest rows deleted, all is well; was it restored from an older copy or filled anew, then rows with "
            "values up to that one are never read: run once with fullRefresh"
        )
    return found
