"""The SQL that turns a plain table into a partitioned one whose first range is the old table. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from millstream_pipelines.retention.partitions import bounds
from millstream_pipelines.retention.plain import Grant, Incoming, PlainTable
from millstream_pipelines.retention.spans import Kind, Value
from millstream_pipelines.warehouses.names import literal, quote, quote_table

CHECK = "millstream_before"
_LONGEST_NAME = 63  # bytes, PostgreSQL's limit
_BRIEF_MS = 200  # for each table but the first; below deadlock_timeout, so that nobody is cancelled for our sake
_ENABLED = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


def named_before(name: str) -> str:
    """Return `<name>_before`, cut to PostgreSQL's 63 bytes with a hash where it would be longer."""
    end = "_before"
    if len(name.encode()) + len(end) > _LONGEST_NAME:
        end = f"_{hashlib.sha256(name.encode()).hexdigest()[:6]}{end}"
        name = name.encode()[: _LONGEST_NAME - len(end)].decode(errors="ignore")
    return name + end


def schema_of(table: str) -> str:
    """Return the schema of `schema.table`; a bare name lies in `public`."""
    return table.partition(".")[0] if "." in table else "public"


def before(table: str) -> str:
    """Return the name of the old rows' table, `schema.<table>_before`."""
    return f"{schema_of(table)}.{named_before(table.rpartition('.')[2])}"


def locks(table: str, others: Iterable[str]) -> list[str]:
    """Return the SQL that shuts everybody out, the others (quoted) for a moment each."""
    names = sorted(set(others))
    return [
        f"LOCK TABLE ONLY {quote_table(table)} IN ACCESS EXCLUSIVE MODE",
        f"SET LOCAL lock_timeout = {_BRIEF_MS}",
        *(f"LOCK TABLE ONLY {name} IN ACCESS EXCLUSIVE MODE" for name in names),
    ]


def unchecked(table: str) -> str:
    """Return the SQL that takes off the check that the rows fit one range."""
    return f"ALTER TABLE {quote_table(table)} DROP CONSTRAINT IF EXISTS {CHECK}"


def aside(t: PlainTable) -> list[str]:
    """Return the SQL that gives the old table, its indexes, keys and sequences other names and frees theirs."""
    schema = quote(schema_of(t.name))
    old = quote_table(before(t.name))
    found = [f"ALTER TABLE {quote_table(t.name)} RENAME TO {quote(named_before(t.name.rpartition('.')[2]))}"]
    found += [
        f"ALTER TABLE {old} RENAME CONSTRAINT {quote(item.name)} TO {quote(named_before(item.name))}"
        for item in t.constraints
        if item.type in "pu"
    ]
    found += [f"ALTER INDEX {schema}.{quote(item.name)} RENAME TO {quote(named_before(item.name))}"
              for item in t.indexes]  # fmt: skip
    found += [
        f"ALTER SEQUENCE {column.sequence} RENAME TO {quote(named_before(_last(column.sequence)))}"
        for column in t.columns
        if column.identity and column.sequence
    ]
    found += [
        f"ALTER STATISTICS {one.schema}.{one.name} RENAME TO {quote(named_before(_bare(one.name)))}"
        for one in t.statistics
    ]
    found += [f"DROP TRIGGER {quote(item.name)} ON {old}" for item in t.triggers]  # else it would fire twice
    return found


def _last(quoted: str) -> str:
    """Return the last part of a name that PostgreSQL has quoted where it must be."""
    schema_end = quoted.index('".') + 1 if quoted.startswith('"') else quoted.index(".")
    return _bare(quoted[schema_end + 1 :])


def _bare(name: str) -> str:
    """Return a name without the quotes that PostgreSQL has put around it where it must."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def parent(t: PlainTable, column: str) -> list[str]:
    """Return the SQL that makes the partitioned table under the old one's name, with everything but its rows."""
    name, old = quote_table(t.name), quote_table(before(t.name))
    space = f" TABLESPACE {quote(t.tablespace)}" if t.tablespace else ""
    like = "INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS"
    found = [
        f"CREATE TABLE {name} (LIKE {old} {like}) PARTITION BY RANGE ({quote(column)}){space}",
        f"ALTER TABLE {name} DROP CONSTRAINT {CHECK}",  # came with LIKE
        f"ALTER TABLE {name} OWNER TO {quote(t.owner)}",
    ]
    found += [f"ALTER TABLE {name} ADD CONSTRAINT {quote(c.name)} {c.definition}" for c in t.constraints
              if c.type in "pu"]  # fmt: skip
    found += [item.definition for item in t.indexes]
    found += [f"ALTER INDEX {quote(schema_of(t.name))}.{quote(item.name)} {setting}" for item in t.indexes
              for setting in item.settings]  # fmt: skip
    found += [f"ALTER INDEX {quote(schema_of(t.name))}.{quote(item.name)} SET TABLESPACE {quote(item.tablespace)}"
              for item in t.indexes if item.tablespace]  # fmt: skip
    found += [f"ALTER TABLE {name} ADD CONSTRAINT {quote(c.name)} {c.definition}" for c in t.constraints
              if c.type == "f"]  # fmt: skip
    found += [f"ALTER TABLE {name} ALTER COLUMN {quote(c.name)} {setting}" for c in t.columns for setting in c.settings]
    found += [*_statistics(t), *_comments(t), *_identity(t), *_grants(t)]
    for trigger in t.triggers:
        found.append(trigger.definition)
        if trigger.enabled != "O":
            found.append(f"ALTER TABLE {name} {_ENABLED[trigger.enabled]} TRIGGER {quote(trigger.name)}")
        if trigger.comment:
            found.append(f"COMMENT ON TRIGGER {quote(trigger.name)} ON {name} IS {literal(trigger.comment)}")
    for policy in t.policies:
        found.append(f"CREATE POLICY {quote(policy.name)} ON {name} {policy.text}")
        if policy.comment:
            found.append(f"COMMENT ON POLICY {quote(policy.name)} ON {name} IS {literal(policy.comment)}")
    found += [f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"] if t.row_security else []
    found += [f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY"] if t.forced_security else []
    return found


def _statistics(t: PlainTable) -> list[str]:
    found = []
    for one in t.statistics:
        name = f"{one.schema}.{one.name}"
        found += [one.definition, f"ALTER STATISTICS {name} OWNER TO {quote(t.owner)}"]
        found += [f"ALTER STATISTICS {name} SET STATISTICS {one.target}"] if one.target is not None else []
        found += [f"COMMENT ON STATISTICS {name} IS {literal(one.comment)}"] if one.comment else []
    return found


def _comments(t: PlainTable) -> list[str]:
    schema, name = quote(schema_of(t.name)), quote_table(t.name)
    found = [f"COMMENT ON TABLE {name} IS {literal(t.comment)}"] if t.comment else []
    found += [f"COMMENT ON CONSTRAINT {quote(c.name)} ON {name} IS {literal(c.comment)}" for c in t.constraints
              if c.comment and c.type in "puf"]  # fmt: skip
    return found + [
        f"COMMENT ON INDEX {schema}.{quote(i.name)} IS {literal(i.comment)}" for i in t.indexes if i.comment
    ]


def _identity(t: PlainTable) -> list[str]:
    name = quote_table(t.name)
    ways = {"f": "FULL", "n": "NOTHING", "i": f"USING INDEX {quote(t.identity_index or '')}"}
    return [f"ALTER TABLE {name} REPLICA IDENTITY {ways[t.replica_identity]}"] if t.replica_identity in ways else []


def _grants(t: PlainTable) -> list[str]:
    name = quote_table(t.name)
    found = [f"REVOKE ALL ON {name} FROM {role}" for role in ("PUBLIC", *t.default_grantees)]
    found += [f"REVOKE ALL ON {name} FROM {quote(t.owner)}"] if t.has_own_grants else []
    return found + [grant(item, name) for item in t.grants if item.sequence is None]


def grant(item: Grant, on: str) -> str:
    """Return the GRANT of one privilege. `on`: what it is on, quoted."""
    column = f" ({quote(item.column)})" if item.column and item.sequence is None else ""
    option = " WITH GRANT OPTION" if item.grantable else ""
    return f"GRANT {item.privilege}{column} ON {on} TO {item.role or 'PUBLIC'}{option}"


def sequences(t: PlainTable) -> list[str]:
    """Return the SQL after which sequences go on where they were, now for the partitioned table."""
    name, old = quote_table(t.name), quote_table(before(t.name))
    found: list[str] = []
    for column in t.columns:
        if column.sequence is None:
            continue
        schema = quote(schema_of(t.name))
        left = f"{schema}.{quote(named_before(_last(column.sequence)))}"
        found += [
            _renaming(t.name, column.name, column.sequence),
            f"SELECT setval({literal(column.sequence)}, last_value, is_called) FROM {left}",
            f"ALTER TABLE {old} ALTER COLUMN {quote(column.name)} DROP IDENTITY",
            *(grant(item, f"SEQUENCE {column.sequence}") for item in t.grants if item.sequence is not None
              and item.column == column.name),
        ]  # fmt: skip
    # Behind them: while a column has an identity alone, PostgreSQL tells its sequence by the column.
    return found + [
        f"ALTER SEQUENCE {sequence} OWNED BY {name}.{quote(column.name)}"
        for column in t.columns
        for sequence in column.owned
    ]


def _renaming(table: str, column: str, wanted: str) -> str:
    """Return the SQL that gives the sequence which PostgreSQL has made and named the name of the old one."""
    made = f"pg_get_serial_sequence({literal(quote_table(table))}, {literal(column)})"
    rename = f"format('ALTER SEQUENCE %s RENAME TO %I', {made}, {literal(_last(wanted))})"
    return f"DO $_$ BEGIN IF {made} <> {literal(wanted)} THEN EXECUTE {rename}; END IF; END $_$"


def views(t: PlainTable) -> list[str]:
    """Return the SQL that turns the views over to the new table; their owners, grants and dependents stay."""
    return [
        f"CREATE OR REPLACE VIEW {quote_table(view.name)}{_options(view.options)} AS {view.definition}"
        for view in t.views
    ]


def _options(options: tuple[str, ...]) -> str:
    return f" WITH ({', '.join(options)})" if options else ""


def incoming_off(keys: Iterable[Incoming]) -> list[str]:
    """Return the SQL that takes off the foreign keys of other tables."""
    return [f"ALTER TABLE {quote_table(key.table)} DROP CONSTRAINT {quote(key.name)}" for key in keys]


def incoming_on(keys: Sequence[Incoming]) -> list[str]:
    """Return the SQL that puts them on again; they hold for new rows at once, for old ones when they are validated."""
    return [
        f"ALTER TABLE {quote_table(key.table)} ADD CONSTRAINT {quote(key.name)} "
        f"{key.definition.removesuffix(' NOT VALID')} NOT VALID"
        for key in keys
    ] + [
        f"COMMENT ON CONSTRAINT {quote(key.name)} ON {quote_table(key.table)} IS {literal(key.comment)}"
        for key in keys
        if key.comment
    ]


def attached(t: PlainTable, upper: Value, kind: Kind) -> list[str]:
    """Return the SQL that makes the old table the first range, without a look at its rows."""
    old = quote_table(before(t.name))
    return [
        f"ALTER TABLE {quote_table(t.name)} ATTACH PARTITION {old} {bounds(None, upper, kind)}",
        f"ALTER TABLE {old} DROP CONSTRAINT {CHECK}",
    ]


def switch(t: PlainTable, column: str, upper: Value, kind: Kind) -> list[str]:
    """Return all statements of the transaction that turns the table, but its locks."""
    return [
        *incoming_off(t.incoming), *aside(t), *parent(t, column), *sequences(t), *attached(t, upper, kind), *views(t),
        *incoming_on(t.incoming),
    ]  # fmt: skip


__all__ = [
    "CHECK", "before", "grant", "incoming_off", "incoming_on", "locks", "named_before", "schema_of", "switch",
    "unchecked", "views",
]  # fmt: skip
