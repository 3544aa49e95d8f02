"""The servers' own tests use the fixtures they offer to all."""

from servers.plugin import postgres_database, postgres_server, s3_bucket, s3_server

__all__ = ["postgres_database", "postgres_server", "s3_bucket", "s3_server"]
