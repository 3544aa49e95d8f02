"""The server these tests load into."""

from servers.plugin import postgres_server

__all__ = ["postgres_server"]
