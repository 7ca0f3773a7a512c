"""How commands print: tables for people, one JSON document with --json."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import click

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """Adds --json."""
    option: Callable[[F], F] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return option(command)


def emit_json(value: object) -> None:
    """One JSON document on standard output; dataclasses become objects."""
    click.echo(json.dumps(_plain(value), indent=1))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output, or a line that says it is empty."""
    from rich.console import Console
    from rich.table import Table

    listed = [[str(cell) for cell in row] for row in rows]
    if not listed:
        click.echo("none")
        return
    drawn = Table(*columns, box=None, pad_edge=False)
    for row in listed:
        drawn.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(drawn)


def when(at: float | None) -> str:
    """A point of time for people, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") if at else "–"


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(cast("Any", value))
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
