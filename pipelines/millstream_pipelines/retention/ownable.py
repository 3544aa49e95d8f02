"""Whether a policy can own a table as it is, and what to do where it cannot. Pure."""

from __future__ import annotations

from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention import timescale
from millstream_pipelines.retention.chosen import Chosen
from millstream_pipelines.retention.facts import TableFacts


def refuse(owner: str, facts: TableFacts, chosen: Chosen, spec: RetentionPolicySpec, erases: bool) -> None:
    """Raise ConfigurationError for a table that a policy cannot own. `erases`: whether the policy erases rows of it."""
    name, by = facts.name, chosen.by
    if facts.shape == "missing":
        raise ConfigurationError(f"{owner}: there is no table {name}; load it first, or correct `tables`")
    if facts.shape == "foreign":
        raise ConfigurationError(f"{owner}: table {name} cannot be managed: {facts.why}")
    if facts.shape == "hypertable":
        limits = chosen.keep.model_fields_set
        if why := timescale.refused(facts, by, spec, sorted(limits)):
            raise ConfigurationError(f"{owner}: table {why}")
        if erases:
            raise ConfigurationError(f"{owner}: table {name} is a hypertable, of which `delete` erases nothing")
        return
    if facts.shape == "plain":
        cure = "partition it, or set partitionBy with `convert: true`"
        raise ConfigurationError(f"{owner}: table {name} has no partitions, so nothing of it can leave; {cure}")
    if by is not None and by.column != facts.column:
        raise ConfigurationError(
            f"{owner}: table {name} is cut by column '{facts.column}', and partitionBy.column is "
            f"'{by.column}'; correct the policy"
        )
    if by is not None and facts.shut:
        schema = name.rpartition(".")[0]
        raise ConfigurationError(
            f"{owner}: table {name} gets no partitions: role {facts.shut} may not make tables in schema {schema}; "
            f"GRANT CREATE ON SCHEMA {schema} to it"
        )


__all__ = ["refuse"]
