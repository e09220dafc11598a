"""What the commands share: options, settings, a coroutine's run, printing."""

import base64
import json
import math
import os
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Literal, TypeVar

import click

from portfolio_stream.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
OutputFormat = Literal["text", "json"]

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s,:\[\]]+):[0-9]{1,5}")


class FiniteRange(click.FloatRange):
    """What `float` reads beside numbers is none: nan passes every comparison with a bound, and inf never ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value!r} is not a finite number.", param, ctx)


def _addresses(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not all(_ADDRESS.fullmatch(address) for address in value.split(",")):
        raise click.BadParameter(f"{value!r} is not host:port, or several joined by commas.")
    return value


def bootstrap_option(command: F) -> F:
    return click.option(
        "--bootstrap-servers",
        metavar="HOST:PORT[,...]",
        callback=_addresses,
        help="Kafka's address. Default: PORTFOLIO_BOOTSTRAP_SERVERS, or 127.0.0.1:9092.",
    )(command)


def output_option(command: F) -> F:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How to print.",
    )(command)


def read_settings(**options: object) -> Settings:
    """The environment, and over it the options that are not None."""
    return Settings.from_environment(os.environ, **options)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end. The client library's own log is silenced: an error reaches the terminal as one of ours."""
    import asyncio
    import logging

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    return asyncio.run(coroutine)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def as_text(name: str, content: bytes | None) -> dict[str, str | None]:
    """A member of a JSON object: `name` as text, or `name`_base64 where the bytes are not UTF-8."""
    try:
        return {name: None if content is None else content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content or b"").decode()}


def printable(content: bytes | None) -> str:
    """For a terminal: no byte of a record can move its cursor; - for none."""
    if content is None:
        return "-"
    text = content.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell, numbers to the right, two spaces between."""
    table = [header, *rows]
    columns = [list(column) for column in zip(*table, strict=True)]
    sides = [">" if any(isinstance(cell, int) for cell in column) else "<" for column in columns]
    widths = [max(len(str(cell)) for cell in column) for column in columns]
    for row in table:
        cells = [f"{cell!s:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def note(line: str) -> None:
    """Progress, on stderr: stdout is the command's answer alone."""
    click.echo(line, err=True)
