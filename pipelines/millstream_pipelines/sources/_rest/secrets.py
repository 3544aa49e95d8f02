"""Which secrets an API needs, under which keys, and how they are kept out of messages."""

from __future__ import annotations

from pydantic import SecretStr

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.sources._rest.config import RestConfig


class Secrets:
    """The credentials of a configuration: the auth section's own, else the key of the Secret."""

    def __init__(self, config: RestConfig, owner: str) -> None:
        self._config, self._owner = config, owner
        self._fetched: list[str] = []

    def remember(self, value: str) -> None:
        """Keep a fetched token out of messages too."""
        self._fetched.append(value)

    def value(self, field: str, key: str) -> str:
        """Return the secret in auth's `field`, else in the Secret's key; ConfigurationError when there is neither."""
        for holder, name in ((self._config.auth, field), (self._config, key)):
            found = getattr(holder, name, None)
            if found is not None:
                return found.get_secret_value() if isinstance(found, SecretStr) else str(found)
        camel = _camel(key)
        raise ConfigurationError(
            f"{self._owner}: auth '{self._config.auth.type}' needs key '{camel}' in the Secret named by secretRef"
        )

    @property
    def keys(self) -> str:
        """The keys of the Secret to check when the API says no."""
        names = {
            "bearer": "'token'",
            "basic": "'user' and 'password'",
            "apiKey": "'apiKey'",
            "oauth2": "'clientId', 'clientSecret' and 'refreshToken'",
        }
        return names.get(self._config.auth.type, "")

    def hidden(self, text: str) -> str:
        """Return the text with every secret value struck out."""
        for holder in (self._config.auth, self._config):
            for name in type(holder).model_fields:
                found = getattr(holder, name)
                if isinstance(found, SecretStr) and found.get_secret_value():
                    text = text.replace(found.get_secret_value(), "***")
        for value in self._fetched:
            text = text.replace(value, "***")
        return text


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


__all__ = ["Secrets"]
