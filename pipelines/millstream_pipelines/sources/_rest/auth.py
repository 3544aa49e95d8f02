"""Credentials on a request, and OAuth2 tokens: fetched, kept until shortly before they expire, renewed once on a 401.

A refresh token that the server replaces is used for the rest of the run. It cannot be stored from here: where the old
one dies with its use, the Secret must be renewed by whoever owns it.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import Any

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.sources._rest.client import HttpClient, Refused, Request, Response
from millstream_pipelines.sources._rest.config import ApiKeyAuth, BasicAuth, BearerAuth, OAuth2Auth


class Authorized:
    """Sends requests with the source's headers and credentials."""

    def __init__(self, client: HttpClient) -> None:
        self._client, self._config, self._secrets = client, client.config, client.secrets
        self._auth = client.config.auth
        self._token: str | None = None
        self._token_until: float | None = None
        self._rotated: str | None = None
        self._require()

    def send(self, request: Request, decode: Any = None) -> tuple[Response, Any]:
        """Return the response; ConfigurationError names the key to check when the credentials are refused."""
        try:
            return self._client.send(self._signed(request), decode)
        except Refused as refused:
            if not isinstance(self._auth, OAuth2Auth) or refused.response.status != 401:
                raise self._client.failed(request, refused.response) from None
        self._token = None
        try:
            return self._client.send(self._signed(request), decode)
        except Refused as refused:
            raise self._client.failed(request, refused.response) from None

    def _require(self) -> None:
        """Ask for every secret once, before the first request."""
        if isinstance(self._auth, BearerAuth):
            self._secrets.value("token", "token")
        elif isinstance(self._auth, BasicAuth):
            self._secrets.value("user", "user")
            self._secrets.value("password", "password")
        elif isinstance(self._auth, ApiKeyAuth):
            self._secrets.value("value", "api_key")
        elif isinstance(self._auth, OAuth2Auth):
            self._secrets.value("client_id", "client_id")
            if self._auth.grant == "refreshToken":
                self._secrets.value("refresh_token", "refresh_token")
            else:
                self._secrets.value("client_secret", "client_secret")

    def _signed(self, request: Request) -> Request:
        headers, params = {**self._config.headers, **request.headers}, dict(request.params)
        auth = self._auth
        if isinstance(auth, BearerAuth):
            headers["Authorization"] = f"Bearer {self._secrets.value('token', 'token')}"
        elif isinstance(auth, BasicAuth):
            user, password = self._secrets.value("user", "user"), self._secrets.value("password", "password")
            headers["Authorization"] = _basic(user, password)
        elif isinstance(auth, ApiKeyAuth):
            (headers if auth.in_ == "header" else params)[auth.name] = self._secrets.value("value", "api_key")
        elif isinstance(auth, OAuth2Auth):
            headers["Authorization"] = f"Bearer {self._oauth2_token(auth)}"
        return replace(request, headers=headers, params=params)

    def _oauth2_token(self, auth: OAuth2Auth) -> str:
        expired = self._token_until is not None and time.monotonic() >= self._token_until
        if self._token is None or expired:
            self._token = self._fetched(auth)
        return self._token

    def _fetched(self, auth: OAuth2Auth) -> str:
        form = {"grant_type": "client_credentials", **auth.params}
        if auth.grant == "refreshToken":
            refresh = self._rotated or self._secrets.value("refresh_token", "refresh_token")
            form |= {"grant_type": "refresh_token", "refresh_token": refresh}
        if auth.scopes:
            form["scope"] = " ".join(auth.scopes)
        identity = self._secrets.value("client_id", "client_id")
        secret = auth.client_secret or self._config.client_secret
        headers = {"Accept": "application/json"}
        if auth.client_auth == "basic":
            headers["Authorization"] = _basic(identity, secret.get_secret_value() if secret else "")
        else:
            form["client_id"] = identity
            if secret is not None:
                form["client_secret"] = secret.get_secret_value()
        # `trusted` False: the API's error rules are not about its token server.
        request = Request("POST", auth.token_url, headers=headers, form=form, trusted=False)
        try:
            response, answer = self._client.send(request, lambda answer: json.loads(answer.content))
        except Refused as refused:
            raise self._refusal(refused.response) from None
        if not isinstance(answer, dict) or not isinstance(answer.get("access_token"), str):
            raise self._client.failed(request, replace(response, content=b""), "the answer holds no access_token")
        for name in ("access_token", "refresh_token"):
            if isinstance(answer.get(name), str) and answer[name]:
                self._secrets.remember(answer[name])
        self._rotated = answer.get("refresh_token") or self._rotated
        self._token_until = self._until(auth, answer.get("expires_in"))
        return str(answer["access_token"])

    def _until(self, auth: OAuth2Auth, expires_in: object) -> float | None:
        """Return when to renew on the monotonic clock; None (until a 401) when the server does not say."""
        try:
            lifetime_s = float(str(expires_in))
        except ValueError:
            return None
        return time.monotonic() + max(lifetime_s - auth.leeway_seconds, lifetime_s / 2)

    def _refusal(self, response: Response) -> ConfigurationError:
        text = self._secrets.hidden(" ".join(response.text.split()))[:200]
        return ConfigurationError(
            f"{self._client.owner}: the token server refused, status {response.status}: {text!r}; check "
            f"{self._keys()} of the Secret, and auth.tokenUrl"
        )

    def _keys(self) -> str:
        refreshes = isinstance(self._auth, OAuth2Auth) and self._auth.grant == "refreshToken"
        return "keys 'clientId', 'clientSecret'" + (" and 'refreshToken'" if refreshes else "")


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


__all__ = ["Authorized"]
