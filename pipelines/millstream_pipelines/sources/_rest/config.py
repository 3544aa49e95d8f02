"""Configuration of the source `rest`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic.alias_generators import to_camel

_CAMEL = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")


class Part(BaseModel):
    """Base of the parts: camelCase outside, unknown fields refused."""

    model_config = _CAMEL


class NoAuth(Part):
    """No credentials."""

    type: Literal["none"] = "none"


class BearerAuth(Part):
    """A token in the header Authorization."""

    type: Literal["bearer"]
    token: SecretStr | None = Field(default=None, description="Empty: key `token` of the Secret.")


class BasicAuth(Part):
    """User and password in the header Authorization."""

    type: Literal["basic"]
    user: str | None = Field(default=None, description="Empty: key `user` of the Secret.")
    password: SecretStr | None = Field(default=None, description="Empty: key `password` of the Secret.")


class ApiKeyAuth(Part):
    """A key in a header or a query parameter."""

    type: Literal["apiKey"]
    name: str = Field(default="X-API-Key", min_length=1, description="Name of the header or parameter.")
    in_: Literal["header", "query"] = Field(default="header", alias="in", description="Where the key goes.")
    value: SecretStr | None = Field(default=None, description="Empty: key `apiKey` of the Secret.")


class OAuth2Auth(Part):
    """A token fetched with client credentials or a refresh token, kept until shortly before it expires."""

    type: Literal["oauth2"]
    grant: Literal["clientCredentials", "refreshToken"] = Field(default="clientCredentials", description="Grant.")
    token_url: str = Field(pattern=r"^https?://", description="Where tokens are fetched.")
    client_id: str | None = Field(default=None, description="Empty: key `clientId` of the Secret.")
    client_secret: SecretStr | None = Field(default=None, description="Empty: key `clientSecret` of the Secret.")
    refresh_token: SecretStr | None = Field(default=None, description="Empty: key `refreshToken` of the Secret.")
    scopes: list[str] = Field(default_factory=list, description="Scopes to ask for.")
    client_auth: Literal["body", "basic"] = Field(
        default="body", description="Send the client's id and secret in the form, or as basic authentication."
    )
    params: dict[str, str] = Field(default_factory=dict, description="Further form fields, for example `audience`.")
    leeway_seconds: float = Field(
        default=60, ge=0, le=3600, description="A token is renewed this long before it expires."
    )


Auth = Annotated[NoAuth | BearerAuth | BasicAuth | ApiKeyAuth | OAuth2Auth, Field(discriminator="type")]


class RateLimit(Part):
    """A limit of our own on requests: a bucket of `burst` tokens that fills at `requestsPerSecond`."""

    requests_per_second: float = Field(gt=0, le=10_000, description="Requests a second, on the average.")
    burst: int = Field(default=1, ge=1, le=10_000, description="Requests that may go at once after a pause.")


class Retry(Part):
    """How often and how patiently a failed request is sent again."""

    limit: int = Field(default=5, ge=0, le=100, description="Further attempts of one request.")
    backoff_seconds: float = Field(
        default=1, ge=0, le=600, description="Pause before the second attempt; doubles each time, with jitter."
    )
    max_backoff_seconds: float = Field(default=60, ge=0, le=3600, description="Longest pause without a Retry-After.")


class ErrorRule(Part):
    """What to do with a response; the first rule that fits decides."""

    status: list[int | str] = Field(
        default_factory=list, description='Status codes and ranges, for example [404, "500-599"]. Empty: any.'
    )
    body_contains: str | None = Field(default=None, description="Text that must be in the body. Empty: any body.")
    action: Literal["retry", "ignore", "fail"] = Field(
        description="`retry` as a server's fault, `ignore` as a page without records (the last), `fail` the stream."
    )

    @field_validator("status", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, (int, str)) else value

    @field_validator("status")
    @classmethod
    def _ranges(cls, value: list[int | str]) -> list[int | str]:
        for item in value:
            if isinstance(item, str) and not re.fullmatch(r"\d{3}(-\d{3})?", item):
                raise ValueError(f"'{item}' is no status such as 404 and no range such as 500-599")
        return value

    def fits(self, status: int, body: str) -> bool:
        """Return whether the rule is about this response."""
        bounds = [str(item).partition("-")[::2] for item in self.status]
        hit = not bounds or any(int(low) <= status <= int(high or low) for low, high in bounds)
        return hit and (self.body_contains is None or self.body_contains in body)


class NoPaging(Part):
    """One request holds everything."""

    type: Literal["none"] = "none"


class LinkPaging(Part):
    """Each page names the address of the next."""

    type: Literal["link"]
    path: str | None = Field(
        default=None, description="Path of the address in the body, for example `links.next`. Empty: header Link."
    )


class CursorPaging(Part):
    """Each page holds a token that asks for the next."""

    type: Literal["cursor"]
    cursor_path: str = Field(min_length=1, description="Path of the token in the body; absent or empty at the end.")
    param: str = Field(min_length=1, description="Parameter that takes the token.")
    has_more_path: str | None = Field(default=None, description="Path of a boolean that is false at the end.")


class OffsetPaging(Part):
    """Rows are counted. Reading goes on to an empty page: a server may send fewer than asked, and not be at its end."""

    type: Literal["offset"]
    offset_param: str = Field(default="offset", description="Parameter for the number of rows to skip.")
    limit_param: str | None = Field(default="limit", description="Parameter for the number of rows wanted.")
    limit: int = Field(default=100, ge=1, le=1_000_000, description="Rows wanted in a page.")
    total_path: str | None = Field(default=None, description="Path of the number of all rows; saves the empty page.")


class PagePaging(Part):
    """Pages are counted. Reading goes on to an empty page."""

    type: Literal["page"]
    page_param: str = Field(default="page", description="Parameter for the page's number.")
    start_page: int = Field(default=1, ge=0, description="Number of the first page.")
    size_param: str | None = Field(default=None, description="Parameter for the number of rows wanted.")
    size: int = Field(default=100, ge=1, le=1_000_000, description="Rows wanted in a page.")
    total_pages_path: str | None = Field(default=None, description="Path of the number of pages; saves the empty one.")


Paging = Annotated[NoPaging | LinkPaging | CursorPaging | OffsetPaging | PagePaging, Field(discriminator="type")]


class Incremental(Part):
    """How the API is asked for what is new."""

    param: str = Field(min_length=1, description="Parameter that takes the cursor, for example `since`.")
    until_param: str | None = Field(
        default=None, description="Parameter that takes the end of a backfill's interval. Empty: no backfills."
    )
    field: str = Field(min_length=1, description="Field of a record, `a.b` too, whose largest value is the cursor.")
    format: Literal["iso", "epoch", "epoch_ms", "date", "raw"] = Field(
        default="iso", description="How the parameter spells it; `raw`: as the record does (ids, tokens in order)."
    )
    initial: str | int | None = Field(default=None, description="Parameter of the first read. Empty: not sent.")
    ordered: bool = Field(
        default=False,
        description="true: records come in ascending order of the field, so a broken read goes on from its last page.",
    )


class RestStream(Part):
    """One list of records."""

    name: str = Field(min_length=1, max_length=253, description="Name of the stream.")
    path: str = Field(description="Path behind baseUrl.")
    method: Literal["GET", "POST"] = Field(default="GET", description="HTTP method.")
    params: dict[str, str | int | float | bool] = Field(default_factory=dict, description="Query parameters.")
    body: dict[str, Any] | None = Field(default=None, description="JSON body of a POST.")
    params_in: Literal["query", "body"] = Field(
        default="query", description="Where parameters (also paging's and the cursor's) go; `body` needs POST."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Further headers.")
    record_path: str = Field(default="", description="Path of the records, `a.b`. Empty: the body itself.")
    error_path: str | None = Field(
        default=None, description="Path of an error in a response of status 200; anything but empty, 0, false is one."
    )
    primary_key: list[str] = Field(default_factory=list, description="Columns that identify a record.")
    pagination: Paging = Field(default_factory=NoPaging, description="How the next page is asked for.")
    incremental: Incremental | None = Field(default=None, description="How to ask for what is new only.")
    max_pages: int | None = Field(
        default=None, ge=1, description="A read of more pages fails, so that nothing is left out in silence."
    )
    complete: bool = Field(
        default=False,
        description="A listing over several pages has every record, whatever changes meanwhile. Only then may a row "
        "leave the target because its key was not listed.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="Column → SQL type; others get types that fit the first page."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.params_in == "body" and self.method != "POST":
            raise ValueError(f"stream '{self.name}': paramsIn 'body' needs method POST")
        return self


class RestConfig(Part):
    """Where the API is, who we are to it, how gently it is asked, and what it holds."""

    base_url: str = Field(pattern=r"^https?://[^/?#]+[^?#]*$", description="Address that the streams' paths follow.")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers of every request.")
    auth: Auth = Field(default_factory=NoAuth, description="Credentials; secret parts come from the Secret.")
    rate_limit: RateLimit | None = Field(default=None, description="Our own limit. Empty: only the API's.")
    timeout_seconds: float = Field(
        default=30, gt=0, le=3600, description="Seconds without a byte before a request is given up."
    )
    max_redirects: int = Field(default=5, ge=0, le=50, description="Redirects that are followed, one after another.")
    max_wait_seconds: float = Field(
        default=900, ge=0, description="Longest wait for one request, Retry-After included; beyond it the run retries."
    )
    max_response_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1024, description="A larger response is refused; ask for smaller pages."
    )
    retry: Retry = Field(default_factory=Retry, description="Further attempts.")
    errors: list[ErrorRule] = Field(default_factory=list, description="Responses to treat other than usual.")
    batch_rows: int = Field(default=10_000, ge=1, le=100_000, description="Pages are gathered to about this many rows.")
    streams: list[RestStream] = Field(min_length=1, description="What can be read.")
    token: SecretStr | None = Field(default=None, description="For auth bearer; a key of the Secret.")
    user: str | None = Field(default=None, description="For auth basic; a key of the Secret.")
    password: SecretStr | None = Field(default=None, description="For auth basic; a key of the Secret.")
    api_key: SecretStr | None = Field(default=None, description="For auth apiKey; a key of the Secret.")
    client_id: str | None = Field(default=None, description="For auth oauth2; a key of the Secret.")
    client_secret: SecretStr | None = Field(default=None, description="For auth oauth2; a key of the Secret.")
    refresh_token: SecretStr | None = Field(default=None, description="For auth oauth2; a key of the Secret.")

    @field_validator("streams")
    @classmethod
    def _named_once(cls, value: list[RestStream]) -> list[RestStream]:
        names = [stream.name for stream in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"streams named twice: {', '.join(twice)}")
        return value


__all__ = ["CursorPaging", "Incremental", "OAuth2Auth", "Paging", "RestConfig", "RestStream"]
