"""Build the project's own images without a Docker engine, once per content, and keep them as archives in the cache.

The name of an image is a hash of all that goes into it: a second build of the same content is a look at a file.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cluster import base_image, debian, paths
from cluster.processes import run

Target = Literal["operator", "runner"]
TARGETS: tuple[Target, ...] = get_args(Target)
# What the Dockerfile copies; a test compares this with .dockerignore.
INPUTS = (
    "Dockerfile",
    ".dockerignore",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "requirements.lock",
    "crds/millstream_api",
    "operator/millstream_operator",
    "pipelines/millstream_pipelines",
)
_KEPT_ARCHIVES = 4
# Each build leaves some ten layers that the next may reuse; beyond this many, starting afresh is cheaper than the disk.
_KEPT_LAYERS = 500


@dataclass(frozen=True)
class Image:
    """An image of ours: the name pods use, and the archive that holds it."""

    target: Target
    name: str
    archive: Path


def ensure(target: Target) -> Image:
    """Return the image of the present sources, building it when it is not in the cache."""
    digest = content_hash()
    folder = paths.cache_root() / "images"
    image = Image(target, f"localhost/millstream-{target}:{digest}", folder / f"{target}-{digest}.tar")
    if not image.archive.exists():
        with paths.locked("images"):
            if not image.archive.exists():
                _build(image)
    return image


def content_hash(repository: Path = paths.REPOSITORY) -> str:
    """Return a hash over the names and contents of all inputs and over the base image."""
    digest = hashlib.sha256(base_image.NAME.encode())
    for path in _files(repository):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(repository)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _files(repository: Path) -> Iterator[Path]:
    for name in INPUTS:
        path = repository / name
        if path.is_file():
            yield path
        for child in sorted(path.rglob("*")) if path.is_dir() else ():
            if child.is_file() and child.suffix != ".pyc":
                yield child


def _build(image: Image) -> None:
    debian.ensure(debian.IMAGES)
    base = base_image.ensure()
    began = time.monotonic()
    print(f"building the {image.target} image ...", flush=True)
    with _buildah() as buildah:
        run([*buildah, "rm", "--all"], "removing what an interrupted build left", timeout_s=300)
        if len(_names(buildah, "--all")) > _KEPT_LAYERS:
            run([*buildah, "rmi", "--all", "--force"], "removing old layers", timeout_s=300)
        _import_base(buildah, base)
        with _surroundings() as volumes:
            options = ["--isolation=chroot", "--layers", "--pull=false", f"--target={image.target}"]
            names = [f"--build-arg=BASE={base_image.NAME}", f"--tag={image.name}"]
            sources = str(paths.REPOSITORY)
            run([*buildah, "build", *options, *volumes, *names, sources], f"building {image.target}", timeout_s=1800)
        _export(buildah, image)
        _forget_old(buildah, image)
    size_mib = image.archive.stat().st_size / 2**20
    print(f"built the {image.target} image, {size_mib:.0f} MiB  {time.monotonic() - began:.1f} s", flush=True)


@contextmanager
def _buildah() -> Iterator[list[str]]:
    """Yield the words that call buildah with a storage of our own, where layers are kept between builds."""
    storage = paths.cache_root() / "buildah"
    runtime = Path(tempfile.mkdtemp(prefix="buildah-", dir=paths.run_root()))
    try:
        yield ["buildah", f"--root={storage}", f"--runroot={runtime}", "--storage-driver=overlay"]
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


def _import_base(buildah: list[str], base: Path) -> None:
    if base_image.NAME in _names(buildah):
        return
    container = run([*buildah, "from", "scratch"], "importing the base image").strip()
    for command in (
        ["add", "--quiet", container, str(base), "/"],
        ["config", "--cmd=/bin/sh", container],
        ["commit", "--quiet", "--rm", container, base_image.NAME],
    ):
        run([*buildah, *command], "importing the base image", timeout_s=300)


def _names(buildah: list[str], *flags: str) -> list[str]:
    return run([*buildah, "images", *flags, "--format={{.Name}}:{{.Tag}}"], "listing images").split()


def _export(buildah: list[str], image: Image) -> None:
    image.archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = image.archive.with_name(f".{image.archive.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        # Unlike an OCI archive, this one is not compressed: it is read once, on the same disk.
        destination = f"docker-archive:{unfinished}:{image.name}"
        run([*buildah, "push", "--quiet", image.name, destination], f"exporting {image.target}", timeout_s=600)
        unfinished.rename(image.archive)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _surroundings() -> Iterator[list[str]]:
    """Yield mounts that lend the build this machine's certificates and package index, without baking them in."""
    with tempfile.TemporaryDirectory(prefix="pip-", dir=paths.run_root()) as folder:
        pip, uv = Path(folder) / "pip.conf", Path(folder) / "uv.toml"
        index = os.environ.get("PIP_INDEX_URL") or os.environ.get("UV_DEFAULT_INDEX") or ""
        pip.write_text(
            "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n" + (f"index-url = {index}\n" if index else "")
        )
        uv.write_text(f'[[index]]\nurl = "{index}"\ndefault = true\n' if index else "")
        mounts = {"/etc/ssl/certs": "/etc/ssl/certs", str(pip): "/etc/pip.conf", str(uv): "/etc/uv/uv.toml"}
        yield [f"--volume={source}:{target}:ro" for source, target in mounts.items()]


def _forget_old(buildah: list[str], image: Image) -> None:
    """Remove all but the newest archives of a target, and their images: each is hundreds of MiB."""
    archives = sorted(image.archive.parent.glob(f"{image.target}-*.tar"), key=lambda path: path.stat().st_mtime)
    for archive in archives[:-_KEPT_ARCHIVES]:
        name = f"localhost/millstream-{image.target}:{archive.stem.rpartition('-')[2]}"
        if name in _names(buildah):
            run([*buildah, "rmi", name], f"removing the old image {name}")
        archive.unlink()
