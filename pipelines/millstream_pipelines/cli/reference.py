"""Writes docs/reference from the code: `python -m millstream_pipelines.cli.reference [--check] [FOLDER]`.

With `--check` nothing is written; pages that differ are named and the exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import millstream_pipelines
from millstream_api import ExitCode, conditions
from millstream_pipelines.cli.arguments import build_parser
from millstream_pipelines.cli.components import described
from millstream_pipelines.cli.reference_words import CONDITIONS, EXIT_CODES, FAMILIES, REASONS, SETTINGS

_HEADER = "<!-- DO NOT CHANGE! Generated; run `make crds`. -->\n"
_FOLDER = Path("docs/reference")


def main(arguments: Sequence[str]) -> int:
    """Write or compare the pages."""
    check = "--check" in arguments
    folder = next((Path(item) for item in arguments if not item.startswith("-")), _FOLDER)
    stale = []
    for name, text in pages().items():
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path} {'differs from the code; run `make crds`' if check else 'written'}")
    return 1 if check and stale else 0


def pages() -> dict[str, str]:
    """Return every page by file name."""
    return {
        "components.md": _components(),
        "command.md": _command(),
        "conditions.md": _conditions(),
        "settings.md": _settings(),
    }


def _components() -> str:
    says = "What the runner image has; `millstream components` lists what yours has. Each name is a `type`."
    parts = [_HEADER, f"# Plug-ins\n\n{says}\n"]
    found = described()
    for family, title in FAMILIES.items():
        parts.append(f"## {title}\n")
        for item in found:
            if item["family"] != family or not item["entryPoint"].startswith("millstream_pipelines."):
                continue
            parts.append(f"### {item['name']}\n\n{item['description']}\n")
            if item["fields"]:
                rows = [(f"`{f['name']}`", f["type"], f["default"], f["description"]) for f in item["fields"]]
                parts.append(_table(("field", "type", "default", "meaning"), rows))
    return "\n".join(parts)


def _command() -> str:
    """Describe every command. Not argparse's own help: its wording differs between versions of Python."""
    parser = build_parser()
    parts = [_HEADER, f"# The command\n\n{parser.description}\n", f"```\n{parser.epilog}```\n"]
    for name, command in _subcommands(parser):
        parts.append(f"## millstream {name}\n\n{command.description}\n")
        rows = [(_spelled(action), action.help) for action in command._actions if action.help and action.dest != "help"]
        if rows:
            parts.append(_table(("argument", "meaning"), rows))
    return "\n".join(parts)


def _spelled(action: argparse.Action) -> str:
    value = f" {action.metavar}" if action.metavar and action.option_strings else ""
    need = " (required)" if action.required and action.option_strings else ""
    return f"`{', '.join(action.option_strings) or action.metavar or action.dest}{value}`{need}"


def _subcommands(parser: argparse.ArgumentParser, prefix: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield f"{prefix}{name}", command
                yield from _subcommands(command, f"{prefix}{name} ")


def _conditions() -> str:
    reasons = {
        value
        for name, value in vars(conditions).items()
        if name.isupper() and isinstance(value, str) and value not in CONDITIONS
    }
    parts = [_HEADER, "# Conditions, reasons and exit codes\n", "## Conditions\n"]
    parts.append(_table(("condition", "holds when"), [(f"`{name}`", text) for name, text in CONDITIONS.items()]))
    parts.append("## Reasons of the operator\n")
    parts.append(_table(("reason", "means"), [(f"`{name}`", REASONS.get(name, "")) for name in sorted(reasons)]))
    parts.append("## Exit codes of a run\n")
    codes = [(int(code), code.name, EXIT_CODES[code.name]) for code in ExitCode]
    parts.append(_table(("code", "name", "means"), codes))
    parts.append("## Reasons of a run\n\nIn the RunReport, and in the conditions of the object that ran.\n")
    parts.append(_table(("reason", "exit code"), [(f"`{name}`", code) for name, code in sorted(engine_reasons())]))
    return "\n".join(parts)


def engine_reasons() -> set[tuple[str, int]]:
    """Return (reason, exit code) of every error the engine can end with, read from its source."""
    from millstream_pipelines import errors

    classes: dict[str, Any] = {
        name: item
        for name, item in vars(errors).items()
        if isinstance(item, type) and issubclass(item, errors.MillstreamError)
    }
    found = {(item.reason, int(item.exit_code)) for item in classes.values() if item is not errors.MillstreamError}
    root = Path(next(iter(millstream_pipelines.__path__)))
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes:
                for keyword in node.keywords:
                    if keyword.arg == "reason" and isinstance(keyword.value, ast.Constant):
                        found.add((str(keyword.value.value), int(classes[node.func.id].exit_code)))
    return found


def _settings() -> str:
    rows = [(f"`{name}`", who, default, text) for name, who, default, text in SETTINGS]
    text = "Environment variables of the command and of a runner pod. The operator's are in its chart's `values.yaml`."
    return "\n".join([_HEADER, f"# Settings\n\n{text}\n", _table(("variable", "read by", "default", "meaning"), rows)])


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(headers)} |", f"|{'---|' * len(headers)}"]
    for row in rows:
        cells = (" ".join(str(cell).replace("|", "\\|").split()) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
