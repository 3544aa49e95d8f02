"""What a plain table has and what hangs on it, as far as turning it into a partitioned one must know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ColumnFacts:
    """A column. `sequence`: `schema.name` of its identity's; `settings`: what ALTER COLUMN must set anew; `owned`:
    sequences that go with it (OWNED BY): a serial's, one that an identity has replaced, any other."""

    name: str
    required: bool
    generated: bool = False
    identity: bool = False
    sequence: str | None = None
    settings: tuple[str, ...] = ()
    owned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Constraint:
    """A constraint of the table. `type`: c, p, u, f or x, as in pg_constraint."""

    name: str
    type: str
    definition: str
    columns: tuple[str, ...] = ()
    validated: bool = True
    inherited: bool = True
    comment: str | None = None
    refers: str | None = None
    """The table that a foreign key refers to."""


@dataclass(frozen=True)
class IndexFacts:
    """An index that belongs to no constraint."""

    name: str
    definition: str
    unique: bool = False
    valid: bool = True
    columns: tuple[str, ...] = ()
    comment: str | None = None
    of: str = ""
    """The definition behind the table's name, `USING …`."""
    settings: tuple[str, ...] = ()
    """What ALTER INDEX must set anew."""
    tablespace: str | None = None


@dataclass(frozen=True)
class Incoming:
    """A foreign key of another table to this one."""

    name: str
    table: str
    definition: str
    partitioned: bool = False
    itself: bool = False
    owned: bool = True
    validated: bool = True
    comment: str | None = None


@dataclass(frozen=True)
class ViewFacts:
    """A view over the table. PostgreSQL binds it to the table's number, not to its name."""

    name: str
    definition: str
    options: tuple[str, ...] = ()
    owned: bool = True


@dataclass(frozen=True)
class TriggerFacts:
    """A trigger that a user made. `enabled`: O, D, R or A, as in pg_trigger."""

    name: str
    definition: str
    enabled: str = "O"
    transition: bool = False
    """A row trigger with transition tables, which partitions cannot have."""
    comment: str | None = None


@dataclass(frozen=True)
class Policy:
    """A row security policy; `text`: what follows its table's name."""

    name: str
    text: str
    comment: str | None = None


@dataclass(frozen=True)
class Statistics:
    """An extended statistics object. `schema` and `name` are quoted where they must be."""

    schema: str
    name: str
    definition: str
    target: int | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Grant:
    """A privilege on the table, on a column, or on the sequence of a column (`sequence`)."""

    role: str | None
    privilege: str
    grantable: bool = False
    column: str | None = None
    sequence: str | None = None


@dataclass(frozen=True)
class PlainTable:
    """The table. Lists are sorted, so that two readings can be compared."""

    name: str
    owner: str = ""
    owned: bool = True
    version: int = 150000
    persistence: str = "p"
    typed: bool = False
    extension: str | None = None
    tablespace: str | None = None
    comment: str | None = None
    storage: tuple[str, ...] = ()
    row_security: bool = False
    forced_security: bool = False
    replica_identity: str = "d"
    identity_index: str | None = None
    has_own_grants: bool = False
    columns: tuple[ColumnFacts, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    indexes: tuple[IndexFacts, ...] = ()
    incoming: tuple[Incoming, ...] = ()
    views: tuple[ViewFacts, ...] = ()
    triggers: tuple[TriggerFacts, ...] = ()
    policies: tuple[Policy, ...] = ()
    statistics: tuple[Statistics, ...] = ()
    grants: tuple[Grant, ...] = ()
    default_grantees: tuple[str, ...] = ()
    """Roles that get privileges on every new table (ALTER DEFAULT PRIVILEGES)."""
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    publications: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    matviews: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    bound: tuple[str, ...] = ()
    """What else is bound to the table's number or to its row type, in PostgreSQL's words."""

    def column(self, name: str) -> ColumnFacts | None:
        """Return the column of this name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def keys_out(self) -> tuple[Constraint, ...]:
        """The foreign keys of the table."""
        return tuple(one for one in self.constraints if one.type == "f")

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that tell rows apart: of the primary key, or of the index that is the replica identity."""
        for constraint in self.constraints:
            if constraint.type == "p":
                return constraint.columns
        named = {item.name: item.columns for item in self.constraints}
        named |= {item.name: item.columns for item in self.indexes}
        return named.get(self.identity_index or "", ())


__all__ = [
    "ColumnFacts", "Constraint", "Grant", "Incoming", "IndexFacts", "PlainTable", "Policy", "Statistics",
    "TriggerFacts", "ViewFacts",
]  # fmt: skip
