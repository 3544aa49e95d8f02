"""Erasure among rows that were set aside or wait to be published: judged by PostgreSQL as if they were in the table.

Such a row is JSON, and may be broken: that is why it was set aside. Only the columns that the condition speaks of are
cast, to the table's types, so a row whose other fields are broken is judged like any other. One that cannot be judged
(a column is absent, masked or of no such type, or the source never parsed it) is named, and left.

What is erased leaves an empty row behind: the account of its load still closes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from millstream_pipelines.retention.condition import Condition
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.receipts import Receipt
from millstream_pipelines.warehouses._postgres.connection import translating
from millstream_pipelines.warehouses.names import literal, quote_table

_TABLES = ("quarantine", "shard_rejects")
_EMPTY = '{"_erased": true}'
_BATCH = 10_000  # rows
_NAMED = 20  # rows that cannot be judged are named up to here

_JUDGE = """
CREATE OR REPLACE FUNCTION pg_temp.millstream_verdict(jsonb) RETURNS text LANGUAGE plpgsql AS ${tag}$
#variable_conflict use_column
BEGIN
  RETURN (SELECT CASE WHEN {free} THEN 'erase' WHEN {kept} THEN 'held' ELSE 'other' END
          FROM jsonb_populate_record(NULL::{table}, $1) AS {alias});
EXCEPTION WHEN data_exception OR integrity_constraint_violation OR feature_not_supported OR syntax_error_or_access_rule_violation THEN
  RETURN 'unknown';
END ${tag}$
"""  # noqa: E501
_STAGES = """
SELECT DISTINCT s.run, s.pipeline, s.stage FROM _millstream.shards s
WHERE to_regclass(s.stage) IS NOT NULL AND EXISTS (SELECT FROM (
  SELECT pipeline, stream, target FROM _millstream.ledger UNION ALL
  SELECT pipeline, stream, target FROM _millstream.quarantine) t
  WHERE t.pipeline = s.pipeline AND t.stream = s.stream AND t.target = ANY(%s))
"""


@dataclass(frozen=True)
class SetAside:
    """What was found: numbers of rows, and by name what cannot be judged and who has staged rows."""

    rows: int = 0
    held: int = 0
    unknown: tuple[str, ...] = ()
    staged_by: tuple[str, ...] = ()


def found(ddl: Ddl, condition: Condition, column: str) -> SetAside:
    """Look for rows that match. `column`: the one the table is cut by, which a hold is judged by."""
    _prepare(ddl, condition)
    rows, held, unknown = 0, 0, []
    for table in _TABLES:
        verdicts = dict(
            ddl.rows(
                f"SELECT {_verdict(condition, column)} AS v, count(*) FROM _millstream.{table} "
                f"WHERE {_mine(condition)} GROUP BY 1"
            )
        )
        rows, held = rows + verdicts.get("erase", 0), held + verdicts.get("held", 0)
        if count := verdicts.get("unknown", 0):
            ids = ddl.rows(
                f"SELECT id FROM _millstream.{table} WHERE {_mine(condition)} AND {_verdict(condition, column)} "
                f"= 'unknown' ORDER BY id LIMIT {_NAMED}"
            )
            more = ", …" if count > _NAMED else ""
            unknown.append(f"{count} rows of _millstream.{table}: {', '.join(str(row[0]) for row in ids)}{more}")
    return SetAside(rows, held, tuple(unknown), tuple(_staged(ddl, condition)))


def erase(ddl: Ddl, condition: Condition, column: str, receipt: Receipt) -> None:
    """Empty the rows that match, some thousand in a transaction, and count them in the receipt."""
    _prepare(ddl, condition)
    closing = {
        "quarantine": ", masked = NULL, status = CASE WHEN status = 'open' THEN 'discarded' ELSE status END, "
        f"reason = {literal(f'erased: {condition.reason}')}, closed_at = coalesce(closed_at, now())",
        "shard_rejects": ", masked = NULL",
    }
    for table, more in closing.items():
        last = 0
        while last is not None:
            last = ddl.rows(
                f"WITH judged AS (SELECT id, {_verdict(condition, column)} AS v FROM (SELECT * FROM "
                f"_millstream.{table} WHERE id > {last} AND {_mine(condition)} ORDER BY id LIMIT {_BATCH}) b), "
                f"emptied AS (UPDATE _millstream.{table} q SET \"row\" = '{_EMPTY}', message = 'erased'{more} "
                "FROM judged WHERE judged.id = q.id AND judged.v = 'erase' RETURNING 1), "
                "counted AS (UPDATE _millstream.erasures SET quarantined_rows = quarantined_rows + "
                f"(SELECT count(*) FROM emptied) WHERE id = {receipt.id}) SELECT max(id) FROM judged"
            )[0][0]


def _prepare(ddl: Ddl, condition: Condition) -> None:
    tag = f"m{hashlib.sha256(condition.where.encode()).hexdigest()[:16]}"
    with translating(ddl.owner, f"reading the condition of {condition.table}"):
        ddl.execute(
            _JUDGE.format(
                tag=tag, free=condition.free, kept=condition.kept, alias=condition.alias,
                table=quote_table(condition.table),
            )
        )  # fmt: skip


def _mine(condition: Condition) -> str:
    names = ", ".join(literal(name) for name in _spellings(condition.table))
    return f"target IN ({names}) AND \"row\" <> '{_EMPTY}'"


def _spellings(table: str) -> list[str]:
    """Return how a stream may name the table as its target."""
    return [table, table.removeprefix("public.")] if table.startswith("public.") else [table]


def _verdict(condition: Condition, column: str) -> str:
    """Return the expression of a row's verdict: erase, held, other or unknown."""
    names = dict.fromkeys((*condition.columns, *condition.whole, *([column] if condition.held else [])))
    wanted = f"ARRAY[{', '.join(literal(name) for name in names)}]"
    picked = f'(SELECT jsonb_object_agg(k, "row"->k) FROM unnest({wanted}) k)'
    return (
        f"CASE WHEN NOT \"row\" ?& {wanted} OR coalesce(masked ?| {wanted}, false) THEN 'unknown' "
        f"ELSE pg_temp.millstream_verdict({picked}) END"
    )


def _staged(ddl: Ddl, condition: Condition) -> list[str]:
    """Return which runs have staged rows that match: theirs to publish or drop, since they are counted already."""
    said = []
    for run, pipeline, stage in ddl.rows(_STAGES, (_spellings(condition.table),)):
        count = ddl.rows(
            f"SELECT count(*) FROM {quote_table(stage)} s WHERE pg_temp.millstream_verdict(to_jsonb(s)) "
            "IN ('erase', 'unknown')"
        )[0][0]
        if count:
            said.append(f"run '{run}' of {pipeline}, which has {count} such rows staged")
    return sorted(set(said))


__all__ = ["SetAside", "erase", "found"]
