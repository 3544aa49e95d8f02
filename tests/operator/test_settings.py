"""Settings come from the environment; a wrong one is named."""

from __future__ import annotations

import pytest

from millstream_operator.settings import SettingsError, from_environment


def test_defaults_and_values() -> None:
    settings = from_environment(
        {"MILLSTREAM_RUNNER_IMAGE": "r:1", "MILLSTREAM_NAMESPACES": "a, b,", "POD_NAME": "me", "MILLSTREAM_WORKERS": ""}
    )
    assert (settings.namespaces, settings.scopes, settings.pod_name, settings.workers) == (
        ("a", "b"),
        ("a", "b"),
        "me",
        8,
    )
    assert from_environment({"MILLSTREAM_RUNNER_IMAGE": "r:1"}).scopes == (None,)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MILLSTREAM_WORKERS", "0"), ("MILLSTREAM_API_QPS", "fast"), ("MILLSTREAM_IMAGE_PULL_POLICY", "Sometimes")],
)
def test_wrong_value_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        from_environment({"MILLSTREAM_RUNNER_IMAGE": "r:1", variable: value})


def test_the_image_is_needed() -> None:
    with pytest.raises(SettingsError, match="MILLSTREAM_RUNNER_IMAGE"):
        from_environment({})
