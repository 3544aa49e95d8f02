"""What the models refuse, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from api.manifests import pipeline_spec, stream
from millstream_api.pipeline import PipelineSpec


def schedule(**more: Any) -> dict[str, Any]:
    return pipeline_spec(schedule={"cron": "0 * * * *", **more})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (schedule(cron="61 * * * *"), "'61 * * * *' is no cron expression"),
        (schedule(cron="* * * * * bad"), "should match pattern"),
        (schedule(timeZone="Mars/Phobos"), "'Mars/Phobos' is no IANA time zone; write one such as 'Europe/Berlin'"),
        (pipeline_spec(streams=[stream(writeDisposition="merge")]), "needs `primaryKey`"),
        (pipeline_spec(streams=[stream(), stream()]), "stream named twice: flights"),
        (pipeline_spec(streams=[stream(columns=[{"name": "a"}, {"name": "a"}])]), "columns named twice: a"),
    ],
)
def test_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        PipelineSpec.model_validate(spec)
    assert words in str(refusal.value)


@pytest.mark.parametrize("cron", ["*/15 * * * *", "@daily", "0 3 * * 1-5", "30 2 1 * *"])
def test_cron_accepted(cron: str) -> None:
    assert PipelineSpec.model_validate(schedule(cron=cron)).schedule is not None
