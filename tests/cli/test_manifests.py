"""From documents to plans: scalars as kubectl reads them, secrets and their order, paths beside the manifest."""

from __future__ import annotations

from pathlib import Path

import pytest

from millstream_pipelines.manifests import ManifestError, plan_pipeline, plan_probe, read_catalog
from millstream_pipelines.manifests.documents import Document, read_documents
from millstream_pipelines.manifests.plans import environment_secret

HEAD = "apiVersion: millstream.dev/v1alpha1\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "m.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-31", "2024-01-31"),
        ("12:30:45", "12:30:45"),
        ("2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("42", 42),
        ("-1.5", -1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("~", None),
        ("'42'", "42"),
    ],
)
def test_scalars_mean_what_they_mean_on_a_cluster(text: str, value: object, tmp_path: Path) -> None:
    (document,) = read_documents(written(tmp_path, f"a: {text}\n"))
    assert isinstance(document, Document)
    assert document.value == {"a": value}
    assert type(document.value["a"]) is type(value)


def source(config: str, extra: str = "") -> str:
    return f"{HEAD}kind: DataSource\nmetadata: {{name: s}}\nspec:\n  type: files\n  config: {config}\n{extra}"


@pytest.mark.parametrize("url", ["./data", "data", "file://./data", "file://data"])
def test_a_relative_url_is_relative_to_its_manifest(url: str, tmp_path: Path) -> None:
    catalog = read_catalog([written(tmp_path, source(f"{{url: '{url}'}}"))])
    plan = plan_probe(catalog, catalog.of_kind("DataSource")[0]).plan
    assert plan.source is not None
    assert plan.source.config["url"] == str(tmp_path / "data")


@pytest.mark.parametrize("url", ["/data", "s3://bucket/data", "https://example.org/a.csv", "file:///data"])
def test_an_absolute_url_stays(url: str, tmp_path: Path) -> None:
    catalog = read_catalog([written(tmp_path, source(f"{{url: '{url}'}}"))])
    plan = plan_probe(catalog, catalog.of_kind("DataSource")[0]).plan
    assert plan.source is not None
    assert plan.source.config["url"] == url


SECRET = (
    "---\napiVersion: v1\nkind: Secret\nmetadata: {name: my-login}\ndata: {user: YWRh}\nstringData: {password: one}\n"
)


def test_the_environment_wins_over_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = source("{url: /data}", "  secretRef: {name: my-login}\n") + SECRET
    catalog = read_catalog([written(tmp_path, text)])
    endpoint = catalog.of_kind("DataSource")[0]
    assert plan_probe(catalog, endpoint).secrets == {"source": {"user": "ada", "password": "one"}}
    monkeypatch.setenv("MILLSTREAM_SECRET_MY_LOGIN_PASSWORD", "two")
    planned = plan_probe(catalog, endpoint)
    assert planned.secrets == {"source": {"user": "ada", "password": "two"}}
    assert "two" not in planned.plan.document()


def test_a_variable_finds_the_key_as_the_manifest_spells_it() -> None:
    environment = {"MILLSTREAM_SECRET_S3_ACCESS_KEY_ID": "x", "MILLSTREAM_SECRET_S3B_OTHER": "y"}
    assert environment_secret("s3", environment) == {"access_key_id": "x"}


def test_an_absent_secret_names_the_variable(tmp_path: Path) -> None:
    catalog = read_catalog([written(tmp_path, source("{url: /data}", "  secretRef: {name: my-login}\n"))])
    with pytest.raises(ManifestError, match="set MILLSTREAM_SECRET_MY_LOGIN_<KEY>"):
        plan_probe(catalog, catalog.of_kind("DataSource")[0])


def test_equal_manifests_give_equal_plans(tmp_path: Path) -> None:
    warehouse = f"{HEAD}kind: Warehouse\nmetadata: {{name: w}}\nspec: {{type: duckdb, config: {{path: dw.duckdb}}}}\n"
    pipeline = (
        f"{HEAD}kind: Pipeline\nmetadata: {{name: p}}\nspec:\n  sourceRef: {{name: s}}\n"
        "  warehouseRef: {name: w}\n  streams: [{name: a, target: raw.a}]\n"
    )
    text = "---\n".join([source("{url: /data}"), warehouse, pipeline])
    path = written(tmp_path, text)
    digests = set()
    for _ in range(2):
        catalog = read_catalog([path])
        digests.add(plan_pipeline(catalog, catalog.of_kind("Pipeline")[0]).plan.digest())
    assert len(digests) == 1
