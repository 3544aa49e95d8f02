"""Conversions that are given up: by `millstream retention abandon`, or since nobody goes on with them.

A split that nobody finishes costs every writer a trigger and grows a log, and the CHECK of a conversion that died
refuses rows one day. Giving up loses no row: the copy goes, the table keeps what it has. A table that is split already
gets its foreign keys for all rows: nobody else would come back for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from millstream_api import ExitCode, RetentionReport, RunReport, TableReport
from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.errors import MillstreamError, RetriableError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention import astray, conversion_sql, keys_in, keys_out
from millstream_pipelines.retention.conversions import UNDER_WAY, Conversion, conversion
from millstream_pipelines.retention.ddl import Ddl, alone
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.ondemand import full_name
from millstream_pipelines.retention.split_sql import Splitting
from millstream_pipelines.warehouses.names import quote_table

_FORGOTTEN = "14 days"  # longer than the time between two runs of almost every policy
_CANDIDATES = f"""
SELECT v.table_name, c.policy, v.touched_at < now() - interval '{_FORGOTTEN}' FROM _millstream.conversions v
LEFT JOIN _millstream.retention_claims c USING (table_name)
WHERE v.state = ANY(%s) OR v.state = 'switched' AND jsonb_array_length(v.keys) > 0 ORDER BY 1
"""


def abandon(ddl: Ddl, table: str, why: str) -> str:
    """Give up what a conversion has under way on a table; return what was done, an empty text for nothing.

    RetriableError when a run is at the table, or a lock was not to be had: nothing was changed then.
    """
    name = full_name(table)
    with alone(ddl, name):
        found = conversion(ddl, name)
        if found is None:
            return ""
        if found.state == "checking":
            _unchecked(ddl, name)
            return f"{name} is not turned into a partitioned table, since {why}; it is as it was"
        if found.state in UNDER_WAY and (found.state != "attached" or _left(ddl, found)):
            drop_copy(ddl, found)
            return f"{found.old} is no longer split, since {why}; it stays one range of {name}, with all its rows"
        if found.state == "switched" and _keyed(ddl, name):
            return f"foreign keys of {name} were validated, which no run would do any more, since {why}"
        return ""


def _unchecked(ddl: Ddl, name: str) -> None:
    def action() -> None:
        if table_facts(ddl, name).shape != "missing":
            ddl.execute(conversion_sql.unchecked(name))
        ddl.execute("DELETE FROM _millstream.conversions WHERE table_name = %s AND state = 'checking'", (name,))
        reached("abandoning")

    ddl.transaction(f"undoing the check of {name}", action, (quote_table(name),))
    reached("abandoned")


def _keyed(ddl: Ddl, name: str) -> bool:
    """Validate keys of and to a split table that do not hold for all rows yet; return whether there were any."""
    if table_facts(ddl, name).shape == "missing":
        return False
    lacking = bool(keys_out.pending(ddl, name) or keys_in.unvalidated(ddl, name))
    keys_out.settle(ddl, name)
    keys_in.finish(ddl, name)
    return lacking


def _left(ddl: Ddl, found: Conversion) -> bool:
    sql = Splitting(found.table, found.old)
    return bool(ddl.rows("SELECT coalesce(to_regclass(%s), to_regclass(%s)) IS NOT NULL", (sql.target, sql.log))[0][0])


def drop_copy(ddl: Ddl, found: Conversion) -> None:
    """Take away all that a split has made, and note that none is begun, in one transaction. Idempotent."""
    sql, old = Splitting(found.table, found.old), quote_table(found.old)

    def action() -> None:
        here = ddl.rows("SELECT to_regclass(%s) IS NOT NULL", (old,))[0][0]
        for statement in sql.dropped() if here else sql.cleared():
            ddl.execute(statement)
        ddl.execute(
            "UPDATE _millstream.conversions SET state = 'attached', position = NULL, copied = 0, verified = NULL, "
            "note = '' WHERE table_name = %s",
            (found.table,),
        )
        reached("abandoning")

    ddl.transaction(f"dropping the copy of {found.old}", action, (old,))
    reached("abandoned")


def sweep(ddl: Ddl, policy: str, tables: Mapping[str, PartitionBy | None]) -> list[str]:
    """Give up what nobody goes on with, whoever began it; return what was done.

    `tables`: those that the policy (`namespace/name`) names, and how they are to be cut.
    """
    named = {full_name(name): by for name, by in tables.items()}
    told: list[str] = []
    for table, claimed, forgotten in ddl.rows(_CANDIDATES, (list(UNDER_WAY),)):
        why = ""
        if claimed is None and table not in named:
            why = "no policy names it any more"
        elif table in named and claimed in (None, policy):
            why = _changed(ddl, table, named[table])
        elif forgotten:
            why = f"policy {claimed} has not gone on with it for {_FORGOTTEN}"
        if why:
            told += filter(None, [_swept(ddl, table, why)])
    return told


def _swept(ddl: Ddl, table: str, why: str) -> str:
    try:
        return abandon(ddl, table, why)
    except RetriableError:  # somebody is at it, or holds its lock; the next run looks again
        return ""
    except MillstreamError as error:  # rows that break a key, or no right: no reason to leave other tables alone
        return str(error)


def _changed(ddl: Ddl, table: str, by: PartitionBy | None) -> str:
    if by is None:
        return "partitionBy is gone"
    facts = table_facts(ddl, table)
    if facts.shape == "plain" and not by.convert:
        return "partitionBy.convert is gone"
    return f"partitionBy.column is '{by.column}' now" if facts.column and facts.column != by.column else ""


def abandoned(ddl: Ddl, policy: str, tables: Sequence[str]) -> RunReport:
    """Give up what is under way on these tables, else on all that a policy claims, and let go of them; report.

    RetriableError names the first table that another run is at; those before it are given up.
    """
    chosen = [full_name(name) for name in tables] or [
        row[0]
        for row in ddl.rows(
            "SELECT table_name FROM _millstream.retention_claims WHERE policy = %s ORDER BY 1", (policy,)
        )
    ]
    told: list[str] = []
    for table in chosen:
        said = abandon(ddl, table, "it was abandoned")
        found = conversion(ddl, table)
        if found is not None and found.state == "switched":
            split = f"{table} is split already; {found.old}, its rows as they were before, stays: drop it when you like"
            said = f"{split}; {said}" if said else split
        ddl.rows("DELETE FROM _millstream.retention_claims WHERE table_name = %s", (table,))
        lost = astray.given_up(ddl, table) if tables else []  # only by name: it ends what waits for its archive
        told.append("; ".join(filter(None, [said, *lost])) or f"nothing is under way on {table}")
    reports = [TableReport(name=table, outcome="done", message=said) for table, said in zip(chosen, told, strict=True)]
    return RunReport(
        exit_code=ExitCode.DONE, reason="Abandoned", message="; ".join(told) or f"policy {policy} claims no table",
        retention=RetentionReport(tables=reports[:50], tables_count=len(reports)),
    )  # fmt: skip


__all__ = ["abandon", "abandoned", "drop_copy", "sweep"]
