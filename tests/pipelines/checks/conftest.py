"""The server that set checks are tried on besides DuckDB."""

from servers.plugin import postgres_server

__all__ = ["postgres_server"]
