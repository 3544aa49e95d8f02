"""Where object storage is and how to log in: the fields that every component with a `url` shares. No client here."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic.alias_generators import to_camel


class StorageLogin(BaseModel):
    """A place by its url, and the login to it. Components say in their own `url` what they accept."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")

    url: str = Field(description="The place.")
    endpoint: str | None = Field(default=None, description="s3, gs: the server's address, when it is not the cloud's.")
    region: str | None = Field(default=None, description="s3: the bucket's region. Empty: us-east-1.")
    access_key_id: SecretStr | None = Field(default=None, description="s3: from the Secret.")
    secret_access_key: SecretStr | None = Field(default=None, description="s3: from the Secret.")
    session_token: SecretStr | None = Field(default=None, description="s3: from the Secret, for temporary credentials.")
    aws_access_key_id: SecretStr | None = Field(
        default=None, alias="AWS_ACCESS_KEY_ID", description="The same as accessKeyId, as AWS spells it."
    )
    aws_secret_access_key: SecretStr | None = Field(
        default=None, alias="AWS_SECRET_ACCESS_KEY", description="The same as secretAccessKey, as AWS spells it."
    )
    aws_session_token: SecretStr | None = Field(
        default=None, alias="AWS_SESSION_TOKEN", description="The same as sessionToken, as AWS spells it."
    )
    service_account_key: SecretStr | None = Field(
        default=None, description="gs: the service account's JSON key, from the Secret. Empty: workload identity."
    )
    anonymous: bool = Field(default=False, description="s3, gs: sign nothing, for public buckets.")
    allow_http: bool | None = Field(default=None, description="s3, gs: plain http. Empty: when `endpoint` says http.")
    path_style: bool | None = Field(
        default=None, description="s3: bucket in the path, not in the host name. Empty: when `endpoint` is set."
    )
    timeout_seconds: float = Field(
        default=60, gt=0, description="Seconds without an answer after which a request has failed; it may be retried."
    )

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[\w.:\[\]-]+(/[\w./-]*)?", value, re.ASCII):
            raise ValueError("an endpoint is an address such as https://s3.example:9000")
        return value

    def s3_login(self) -> dict[str, str]:
        """Return what is set of key id, secret and token, under obstore's names."""
        pairs = {
            "access_key_id": self.access_key_id or self.aws_access_key_id,
            "secret_access_key": self.secret_access_key or self.aws_secret_access_key,
            "session_token": self.session_token or self.aws_session_token,
        }
        return {name: value.get_secret_value() for name, value in pairs.items() if value is not None}
