"""The door of plug-ins: known by entry point, imported on use, configured with the Secret over the manifest."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel

from millstream_pipelines import registry
from millstream_pipelines.errors import ConfigurationError


class Config(BaseModel):
    """A configuration such as plug-ins have."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    host: str = Field(description="Host.")
    port: int = Field(default=5432, ge=1, description="Port.")
    password: SecretStr | None = Field(default=None, description="Password.")
    api_key: str | None = Field(default=None, max_length=5, description="Key.")


def configured(config: dict[str, Any], **secret: str) -> Config:
    return registry.configured(Config, config, secret, "DataSource 'x' config")


@pytest.mark.parametrize("family", ["sources", "warehouses", "checks", "transforms"])
def test_every_built_in_comes_in_by_its_entry_point(family: registry.Family) -> None:
    assert registry.known(family)
    for name in registry.known(family):
        component = registry.component(family, name, "here")
        fields = component.Config.model_fields
        assert not [field for field, item in fields.items() if not item.description], f"{name} describes its fields"


def test_an_unknown_plug_in_lists_the_known() -> None:
    with pytest.raises(ConfigurationError, match=r"DataSource 'x': unknown type in sources 'postgress'.*'postgres'"):
        registry.component("sources", "postgress", "DataSource 'x'")


def test_a_plug_in_that_cannot_be_imported_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "no_such_package.here:Thing", "millstream.sources")
    monkeypatch.setattr(registry, "known", lambda family: {"broken": broken})
    with pytest.raises(ConfigurationError, match=r"'broken' cannot be imported: .*no_such_package.*install"):
        registry.component("sources", "broken", "DataSource 'x'")


def test_the_secret_wins_and_unknown_keys_of_it_are_left() -> None:
    found = configured({"host": "a", "port": 1}, host="b", password="pw", apiKey="k", other="thing")
    assert (found.host, found.port, found.api_key) == ("b", 1, "k")
    assert found.password is not None
    assert found.password.get_secret_value() == "pw"
    assert "pw" not in repr(found)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "field 'host' is missing"),
        ({"host": "a", "prot": 1}, "unknown field 'prot'; known: apiKey, host, password, port"),
        ({"host": "a", "port": 0}, "field 'port': Input should be greater than or equal to 1, seen: 0"),
        ({"host": ["x" * 500]}, "field 'host': Input should be a valid string, seen: ['xxx"),
    ],
)
def test_what_is_wrong_is_named_with_the_value_and_the_cure(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(config)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


def test_several_findings_come_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"'host' is missing; .*'port'"):
        configured({"port": "x"})


@pytest.mark.parametrize("key", ["apiKey", "api_key"])
def test_a_secrets_value_is_never_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured({"host": "a"}, **{key: "s3cret-long-value"})
    assert "field 'apiKey'" in str(caught.value) or "field 'api_key'" in str(caught.value)
    assert "s3cret" not in str(caught.value)
