"""SQL transforms: one SELECT each; what it reads is found by parsing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from millstream_api.pipeline import TransformSpec
from millstream_pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlglot import expressions as exp


class SqlConfig(BaseModel):
    """Nothing to configure: the statement is in the Pipeline."""

    model_config = ConfigDict(extra="forbid")


class SqlTransform:
    """See `Transform`."""

    Config = SqlConfig

    def __init__(self, config: SqlConfig) -> None:
        self._config = config

    def reads(self, spec: TransformSpec, dialect: str) -> set[str]:
        """See `Transform.reads`."""
        from sqlglot import expressions as exp
        from sqlglot.optimizer.scope import traverse_scope

        query = _parsed(spec, dialect)
        found = {
            _name(source)
            for scope in traverse_scope(query)
            for source in scope.sources.values()
            if isinstance(source, exp.Table) and source.name
        }
        # What scopes do not reach (the argument of a table function, say) counts unless a CTE has its name.
        inner = {cte.alias_or_name for cte in query.find_all(exp.CTE)}
        return found | {
            _name(table) for table in query.find_all(exp.Table) if table.name and (table.db or table.name not in inner)
        }


def _parsed(spec: TransformSpec, dialect: str) -> exp.Query:
    """Return the statement with names spelled as the dialect's catalog spells them."""
    import sqlglot
    from sqlglot import expressions as exp
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

    owner = f"transform '{spec.name}'"
    try:
        statements = [item for item in sqlglot.parse(spec.sql, read=dialect) if item is not None]
    except SqlglotError as error:
        raise ConfigurationError(f"{owner}: sql cannot be parsed: {str(error).splitlines()[0]}") from error
    statements = [item for item in statements if not isinstance(item, exp.Semicolon)]
    if len(statements) != 1 or not isinstance(statements[0], exp.Query) or statements[0].args.get("into"):
        raise ConfigurationError(f"{owner}: sql must be one SELECT statement")
    query: exp.Query = normalize_identifiers(statements[0], dialect=dialect)
    return query


def _name(table: exp.Table) -> str:
    return f"{table.db}.{table.name}" if table.db else str(table.name)
