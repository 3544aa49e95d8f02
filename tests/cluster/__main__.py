"""`python tests/cluster [up|down|build|images]`: a cluster to try things on, without pytest.

`up` (the default) starts control plane and node and prints the KUBECONFIG; tests use it too when
MILLSTREAM_TEST_KUBECONFIG names it. `down` ends every cluster started so.
"""

import argparse
import sys
import time
from pathlib import Path

# Run as a file or as a module, the package is found from here; the folder itself must not shadow other modules.
_HERE = str(Path(__file__).resolve().parent)
sys.path[:] = [str(Path(_HERE).parent), *(entry for entry in sys.path if entry != _HERE)]

from cluster import build, control_plane, debian, images, node, paths, runs  # noqa: E402
from cluster.processes import ClusterError  # noqa: E402


def up() -> None:
    """Start a cluster that outlives this command."""
    began = time.monotonic()
    run = runs.begin(tied=False)
    try:
        plane = control_plane.begin(run)
        node.join(plane)
    except BaseException:
        run.end()
        raise
    run.record()
    tools = build.ensure("kubectl", "helm")
    folders = ":".join(sorted({str(tool.parent) for tool in tools.values()}))
    print(f"# ready after {time.monotonic() - began:.1f} s; logs in {run.logs}; `python tests/cluster down` ends it")
    print(f"export KUBECONFIG={plane.kubeconfig} MILLSTREAM_TEST_KUBECONFIG={plane.kubeconfig} PATH={folders}:$PATH")


def down() -> None:
    """End the clusters that `up` started, and what crashed ones left; those of running tests stay."""
    for run in runs.sweep():
        if not run.tied:
            run.end()
            print(f"ended {run.folder.name}")


def build_all() -> None:
    """Install and build everything a cluster needs."""
    debian.ensure({**debian.CONTROL_PLANE, **debian.NODE, **debian.IMAGES})
    build.ensure()
    print(f"everything is built, in {paths.cache_root()}")


def build_images() -> None:
    """Build our images; load them into the clusters that `up` started."""
    built = [images.ensure(target) for target in images.TARGETS]
    for run in runs.sweep():
        running = None if run.tied else node.attach(control_plane.ControlPlane(run))
        if running is not None:
            for image in built:
                running.import_image(image.archive)
    for image in built:
        print(f"{image.target}: {image.name}  {image.archive}")


_COMMANDS = {"up": up, "down": down, "build": build_all, "images": build_images}


def main() -> int:
    """Run one command; an error is one message, not a traceback."""
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    parser.add_argument("command", nargs="?", choices=_COMMANDS, default="up")
    try:
        _COMMANDS[parser.parse_args().command]()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
