"""What a case loads: the rows of its source, and the stream and transforms that take them."""

from __future__ import annotations

from typing import Any

from chaos.cases import Case

STREAM, TARGET, TOTALS = "public.source", "raw.target", "marts.totals"
CHILD = f"{TARGET}__items"
_SHORT = ("id", "grp", "name", "code", "amount", "note")
_LONG = (*_SHORT, "at", "price", "uid", "payload", "span")
_REFUSED, _UNFIT = "no_501", "id % 1999 = 501"  # a constraint of the target, which nobody but the server knows
_MARKED = 13


def create(case: Case) -> str:
    """Return the SQL that makes the source and, where it refuses rows, the target."""
    more = {"marks": ", gone boolean", "nested": ", items jsonb"}.get(case.special, "")
    statements = f"""
    CREATE TABLE {STREAM} (id bigint PRIMARY KEY, grp bigint NOT NULL, name text, code text, amount bigint, note text,
      at timestamptz NOT NULL, price numeric(12,2), uid uuid, payload jsonb, span text{more});
    CREATE TABLE {STREAM}_gone (LIKE {STREAM});
    """
    if case.special != "poison":
        return statements
    validity = ", valid_from timestamptz, valid_to timestamptz" if case.disposition == "scd2" else ""
    typed = (
        ""
        if case.exact
        else (f"ALTER TABLE {TARGET} ALTER code TYPE bigint USING 0, ALTER span TYPE int8range USING NULL;")
    )
    return f"""{statements} CREATE SCHEMA raw; CREATE TABLE {TARGET} (LIKE {STREAM}{validity}); {typed}
    ALTER TABLE {TARGET} ADD CONSTRAINT {_REFUSED} CHECK (NOT ({_UNFIT}))"""


def source_rows(case: Case, first: int, last: int) -> str:
    """Return the SQL that adds rows `first` to `last`; about 3 % break a rule when the case is dirty."""
    dirty = f"g % {_MARKED} <> 0" if case.special == "marks" else "true"
    dirty = dirty if case.dirty else "false"
    more = {
        "marks": f", CASE WHEN g % {_MARKED} = 0 THEN true END",
        "nested": ", (SELECT coalesce(jsonb_agg(jsonb_build_object('n', g * k, 'v', 'v' || k) ORDER BY k), '[]') "
        "FROM generate_series(1, g % 4) k)",
    }.get(case.special, "")
    return f"""
    INSERT INTO {STREAM} SELECT g, g * 7919 % {case.groups}, md5(g::text),
      CASE WHEN {dirty} AND g % 71 = 3 THEN 'n/a' ELSE (g * 3)::text END,
      CASE WHEN {dirty} AND g % 59 = 5 THEN -1 ELSE g % 997 END,
      CASE WHEN g % 5 <> 0 THEN 'note ' || g END,
      timestamptz '2026-01-01 00:00+00' + g * interval '1.001 s', g / 7.0, md5('u' || g)::uuid,
      jsonb_build_object('g', g, 'of', {case.groups}),
      format('[%s,%s)', g, g + CASE WHEN {dirty} AND g % 397 = 11 THEN -5 ELSE 5 END){more}
    FROM generate_series({first}, {last}) g
    """


def lost_rows(case: Case, part: int) -> str:
    """Return the SQL that deletes a part of the source's rows, in mode incremental of those that have been read."""
    loaded = f"SELECT (position->>'cursor')::bigint FROM _millstream.state WHERE stream = '{STREAM}'"
    if case.mode == "full":
        loaded = f"SELECT max(id) FROM {STREAM}"
    return f"""
    WITH lost AS (DELETE FROM {STREAM} WHERE id % 29 = {part} AND id <= ({loaded}) RETURNING *)
    INSERT INTO {STREAM}_gone SELECT * FROM lost
    """


def fix(case: Case) -> str:
    """Return the SQL that takes away what refuses rows in the target. See `stream` for what the manifest does."""
    return f"ALTER TABLE {TARGET} DROP CONSTRAINT {_REFUSED}" if case.special == "poison" else "SELECT"


def stream(case: Case, *, fixed: bool = False) -> dict[str, Any]:
    """Return the stream of the case's pipeline. `fixed`: without the check that has set rows aside."""
    given: dict[str, Any] = {
        "name": STREAM, "target": TARGET, "mode": case.mode, "writeDisposition": case.disposition,
    }  # fmt: skip
    checks: list[dict[str, Any]] = []
    if case.mode == "incremental":
        given["cursor"] = {"field": "id"}
    if case.disposition in ("merge", "scd2") or case.special == "nested":
        given["primaryKey"] = [key(case)]
    if case.disposition == "scd2":
        given["scd2"] = {"effectiveAt": "at"}
    if not case.exact:
        given["columns"] = [{"name": "code", "type": "bigint"}]
        if spans(case):
            given["columns"].append({"name": "span", "type": "int8range"})
        if not fixed:
            checks.append({"type": "range", "column": "amount", "min": 0})
    if case.filtered:
        given["filter"] = "id % 11 <> 0"
    if case.held:
        checks.append({"type": "unique", "column": "name"})
    given |= {
        "marks": {"deletes": {"column": "gone"}},
        "absence": {"deletes": {"reconcileEvery": "0s"}},
        "nested": {"nested": {"lists": "tables"}},
    }.get(case.special, {})
    return given | {"checks": checks}


def transforms(case: Case) -> list[dict[str, Any]]:
    """Return the transforms of the case's pipeline."""
    if not case.transform:
        return []
    sql = f"SELECT grp, count(*) AS n, sum(amount) AS amount FROM {TARGET} GROUP BY grp"
    return [{"name": "totals", "target": TOTALS, "materialize": case.transform, "sql": sql, "primaryKey": ["grp"]}]


def key(case: Case) -> str:
    """Return the key of a merge: rows of one group replace each other where the cursor orders them.

    Not where a group's other rows tell whether it is there, nor where a refused row leaves one of an earlier chunk.
    """
    if case.special == "absence" or (case.special == "poison" and case.disposition == "merge"):
        return "id"
    if case.disposition == "scd2":
        return "grp"
    return "grp" if case.disposition == "merge" and case.mode == "incremental" else "id"


def spans(case: Case) -> bool:
    """Return whether a column goes in as text that only the server can read."""
    return case.source == "postgres" and case.warehouse == "postgres" and not case.exact


def rules(case: Case, *, fixed: bool = False) -> str:
    """Return a CASE that names the rule a row breaks first, NULL for a good one."""
    early = "WHEN id % 83 = 7 THEN 'malformed_row' " if case.source == "unruly" and case.dirty else ""
    if not case.exact:
        early += "WHEN code !~ '^[0-9]+$' THEN 'cast(code)' "
        early += "" if fixed else "WHEN amount < 0 THEN 'range(amount)' "
    late = "WHEN id % 397 = 11 THEN 'cast(span)' " if spans(case) and case.dirty else ""  # only the server refuses it
    late = late if case.special != "marks" else late.replace("WHEN", f"WHEN id % {_MARKED} <> 0 AND")
    late += f"WHEN {_UNFIT} THEN 'constraint({_REFUSED})' " if case.special == "poison" and not fixed else ""
    return f"CASE {early}{late}END" if early or late else "NULL::text"


def columns(case: Case) -> dict[str, str]:
    """Return column → its text at the source, as the target must have it."""
    texts = {name: f"{name}::text" for name in (_LONG if case.source == "postgres" else _SHORT)}
    if not case.exact:
        texts["code"] = "code::bigint::text"
    if spans(case):
        texts["span"] = "span::int8range::text"
    if case.disposition == "scd2":
        texts |= {"valid_from": "at::text", "valid_to": "valid_to::text"}
    return texts
