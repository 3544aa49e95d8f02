"""Sources that read a database or a bucket read real ones."""

from servers.plugin import postgres_database, postgres_server, s3_server

__all__ = ["postgres_database", "postgres_server", "s3_server"]
