"""SQL transforms: one SELECT each; what it reads is found by parsing it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from millstream_api.pipeline import TransformSpec
from millstream_pipelines.errors import ConfigurationError


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
        import sqlglot
        from sqlglot import expressions as exp
        from sqlglot.errors import SqlglotError

        owner = f"transform '{spec.name}'"
        try:
            statements = [item for item in sqlglot.parse(spec.sql, read=dialect) if item is not None]
        except SqlglotError as error:
            raise ConfigurationError(f"{owner}: sql cannot be parsed: {str(error).splitlines()[0]}") from error
        if len(statements) != 1 or not isinstance(statements[0], exp.Query):
            raise ConfigurationError(f"{owner}: sql must be one SELECT statement")
        query = statements[0]
        names = {cte.alias_or_name for cte in query.find_all(exp.CTE)}
        return {
            f"{table.db}.{table.name}" if table.db else table.name
            for table in query.find_all(exp.Table)
            if table.db or table.name not in names
        }
