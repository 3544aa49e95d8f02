"""Which policy manages a table: one at most. A run claims its tables, and lets go of those it names no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention.ddl import Ddl


def refuse_other(ddl: Ddl, table: str, policy: str, former: Sequence[str] = ()) -> None:
    """Raise ConfigurationError, naming it, when another policy manages the table. `policy` is `namespace/name`.

    `former`: names that the policy had before, in its namespace; what those have claimed is its own.
    """
    found = ddl.rows(
        "SELECT policy FROM _millstream.retention_claims WHERE table_name = %s AND NOT policy = ANY(%s)",
        (table, [policy, *_identities(policy, former)]),
    )
    if found:
        namespace, _, name = found[0][0].rpartition("/")
        near = namespace == policy.rpartition("/")[0]
        renamed = f" Where it is this one under its old name: put '{name}' into formerNames." if near else ""
        raise ConfigurationError(
            f"{ddl.owner}: table {table} is managed by RetentionPolicy '{found[0][0]}', and a table has one policy: "
            f"take it out of one of them. Where that policy is gone: millstream retention abandon --table {table}."
            f"{renamed}",
            reason="ManagedByOther",
        )


def claim(ddl: Ddl, table: str, policy: str, former: Sequence[str] = ()) -> None:
    """Claim a table; of two policies that do so at once, the first has it, and the other is refused."""
    if former:
        ddl.rows(
            "UPDATE _millstream.retention_claims SET policy = %s WHERE table_name = %s AND policy = ANY(%s)",
            (policy, table, _identities(policy, former)),
        )
    ddl.rows(
        "INSERT INTO _millstream.retention_claims (table_name, policy) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (table, policy),
    )
    refuse_other(ddl, table, policy)


def _identities(policy: str, names: Sequence[str]) -> list[str]:
    return [f"{policy.rpartition('/')[0]}/{name}" for name in names]


def release(ddl: Ddl, policy: str, kept: Iterable[str]) -> None:
    """Let go of the tables that the policy names no more."""
    ddl.rows(
        "DELETE FROM _millstream.retention_claims WHERE policy = %s AND NOT table_name = ANY(%s)", (policy, list(kept))
    )


__all__ = ["claim", "refuse_other", "release"]
