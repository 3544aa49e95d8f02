"""The grammar of the command. Standard library only."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

_STATUSES = ("open", "refused", "replayed", "superseded", "filtered", "discarded")
_USAGE_ERROR = 64  # EX_USAGE; argparse's own 2 is no sysexits number

_EPILOG = """\
exit codes: 0 done · 64 wrong usage · 65 data failed checks · 75 try again later · 78 wrong configuration
secrets:    Secret manifests given with -f, or MILLSTREAM_SECRET_<SECRET>_<KEY> in the environment (which wins)
state:      the folder .millstream, or MILLSTREAM_HOME, holds the embedded PostgreSQL
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(_USAGE_ERROR, f"{self.format_usage()}{self.prog}: {message}\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"millstream {version('millstream')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; a parsed command carries the name of its `module`."""
    parser = _Parser(
        prog="millstream",
        description="Run data pipelines from their manifests, without a cluster.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _run(commands)
    for name, text in (
        ("validate", "check manifests, plug-in configurations and references; run nothing"),
        ("explain", "show path, guarantee, columns and SQL of each stream; change nothing"),
    ):
        command = _add(commands, name, text)
        _files(command)
        _pipeline(command)
        if name == "explain":
            command.add_argument("--diff", action="store_true", help="show only what would change in the targets")
        _json(command)
    _preview(commands)
    _new(commands)
    _status(commands)
    _quarantine(commands)
    _retention(commands)
    command = _add(commands, "components", "list the plug-ins that are installed, with their fields")
    command.add_argument("name", nargs="?", help="only this one, with all its fields")
    _json(command)
    return parser


_Commands = argparse._SubParsersAction  # the type add_subparsers returns; argparse gives it no public name


def _add(commands: _Commands[_Parser], name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(module=name)
    return command


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-f",
        "--filename",
        metavar="PATH",
        type=Path,
        action="append",
        required=True,
        help="a manifest file or a folder of them; may be given again",
    )


def _pipeline(command: argparse.ArgumentParser) -> None:
    command.add_argument("--pipeline", metavar="NAME", help="only this Pipeline")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _run(commands: _Commands[_Parser]) -> None:
    command = _add(commands, "run", "run pipelines: extract, check, load, transform")
    _files(command)
    _pipeline(command)
    _stream(command)
    command.add_argument("--full-refresh", action="store_true", help="forget the cursors and read everything again")
    command.add_argument(
        "--backfill", metavar="FROM..TO", type=_window, help="load this window of the cursor again: FROM <= cursor < TO"
    )
    command.add_argument("--interval", metavar="TIME", help="with --backfill: length of one commit (default 1d)")
    command.add_argument("--step", metavar="N", type=int, help="with --backfill: the same for a cursor of numbers")
    command.add_argument("--max-rows-per-second", metavar="N", type=int, help="read no faster than this")
    command.add_argument("--resume", metavar="RUN", help="go on as this run: what it has committed is not done again")
    command.add_argument("--report", metavar="FILE.html", type=Path, help="write a self-contained HTML report")
    _json(command)


def _stream(command: argparse.ArgumentParser) -> None:
    command.add_argument("--stream", metavar="NAME", action="append", help="only this stream; may be given again")


def _window(text: str) -> tuple[str, str]:
    start, dots, end = text.partition("..")
    if not (start and dots and end):
        raise argparse.ArgumentTypeError(f"'{text}' is no window; write FROM..TO, such as 2026-01-01..2026-02-01")
    return start, end


def _preview(commands: _Commands[_Parser]) -> None:
    command = _add(commands, "preview", "show the first rows and the inferred columns of a stream; load nothing")
    _files(command)
    command.add_argument("--source", metavar="NAME", help="the DataSource; needed when there are several")
    command.add_argument("--stream", metavar="NAME", help="the stream; without it, all streams are listed")
    command.add_argument("--rows", metavar="N", type=int, default=20, help="how many rows (default 20)")
    _json(command)


def _new(commands: _Commands[_Parser]) -> None:
    command = _add(commands, "new", "write a DataSource, a Warehouse and a Pipeline by looking at a URL, path or DSN")
    command.add_argument("url", metavar="URL", help="file, folder, https://…, s3://… or postgresql://user@host/db")
    command.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="where to write (default: the name)")
    command.add_argument("--name", metavar="NAME", help="name of the objects (default: from the URL)")
    _stream(command)
    command.add_argument("--force", action="store_true", help="overwrite files that exist")


def _status(commands: _Commands[_Parser]) -> None:
    command = _add(commands, "status", "show the last run, guarantee, rows and freshness of each pipeline")
    _files(command)
    _pipeline(command)
    command.add_argument("--ledger", action="store_true", help="show what was committed, chunk by chunk and per run")
    command.add_argument("--stream", metavar="NAME", help="with --ledger: only this stream")
    command.add_argument("--run", metavar="NAME", help="with --ledger: only this run")
    command.add_argument(
        "--limit", metavar="N", type=int, default=20, help="with --ledger: how many chunks (default 20)"
    )
    _json(command)


def _quarantine(commands: _Commands[_Parser]) -> None:
    command = _add(commands, "quarantine", "look at rows that were set aside, load them after a fix, or give them up")
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, text in (
        ("list", "count rows by stream and rule"),
        ("show", "show rows with the rule that refused them; masked values stay hidden"),
        ("replay", "send open rows through the manifests as they are now, and load those that pass"),
        ("discard", "give up open rows; they stay in the table with the reason"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.set_defaults(module="quarantine", action=name)
        _files(action)
        _pipeline(action)
        action.add_argument("--stream", metavar="NAME", help="only this stream")
        action.add_argument("--rule", metavar="NAME", help="only rows that this rule set aside")
        action.add_argument("--run", metavar="NAME", help="only rows that this run set aside")
        action.add_argument("--status", metavar="STATUS", choices=_STATUSES, help=f"only {', '.join(_STATUSES)}")
        action.add_argument(
            "--id", metavar="N", type=int, action="append", default=[], help="only this row; may be given again"
        )
        if name == "show":
            action.add_argument("--rows", metavar="N", type=int, default=20, help="how many rows (default 20)")
        if name == "discard":
            action.add_argument("--reason", metavar="TEXT", required=True, help="why; kept with the rows")
            action.add_argument("--yes", action="store_true", help="discard all open rows when nothing narrows them")
        _json(action)


def _retention(commands: _Commands[_Parser]) -> None:
    command = _add(commands, "retention", "plan and carry out RetentionPolicies, bring ranges back, ask archives")
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, text in (
        ("plan", "show what would be made, detached, archived and dropped, and what stands in the way"),
        ("run", "carry the policies out: partitions ahead, archives proven, what is due dropped"),
        ("restore", "bring a range back: attach it again, or load it from its archive, and compare"),
        ("abandon", "give up conversions that are under way and let go of the tables; no row is lost"),
        ("receipts", "show what erasures did: rows per place, archives written anew, times; none of the data"),
        ("query", "run SQL over the archives of a table where they lie; `archive` is the name of its rows"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.set_defaults(module="retention", action=name)
        _files(action)
        action.add_argument("--policy", metavar="NAME", help="only this RetentionPolicy")
        if name == "run":
            action.add_argument("--approve", metavar="DIGEST", default="", help="the plan whose drops you approve")
        if name in ("restore", "query"):
            action.add_argument("--table", metavar="TABLE", required=True, help="the table, schema.table")
            action.add_argument("--from", metavar="VALUE", dest="start", help="first value of the range")
            action.add_argument("--to", metavar="VALUE", dest="end", help="first value behind the range")
        if name == "abandon":
            text = "this table, schema.table, whoever claims it; may be given again; else all that the policy claims"
            action.add_argument("--table", metavar="TABLE", action="append", default=[], help=text)
        if name == "restore":
            action.add_argument("--into", metavar="SCHEMA", help="put them into tables of this schema; attach nothing")
        if name == "query":
            action.add_argument("sql", metavar="SQL", help="a SELECT, such as: SELECT count(*) FROM archive")
        _json(action)
