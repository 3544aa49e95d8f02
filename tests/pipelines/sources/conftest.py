"""Sources that read a database read a real one."""

from servers.plugin import postgres_database, postgres_server

__all__ = ["postgres_database", "postgres_server"]
