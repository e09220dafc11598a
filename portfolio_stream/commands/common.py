"""Shared by all commands: options, their types, reading the settings, running a coroutine."""

import base64
import math
import os
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from portfolio_stream.commands.output import note
from portfolio_stream.errors import DataDirectoryUnusable, shortened
from portfolio_stream.setting_values import ADDRESSES, MOST_DIGITS, SettingKind
from portfolio_stream.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
WHOLE = re.compile(rf"-?[0-9]{{1,{MOST_DIGITS}}}")
PLAIN = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
LONGEST_PLAIN = 40  # characters; no number of ours needs more
LONGEST_WAIT = 86_400.0  # seconds; the system's timers refuse very large numbers
OutputFormat = Literal["text", "json"]


class SettingType(click.ParamType):
    """An option's value, read by the same rules as the environment variable of that setting."""

    name = "text"

    def __init__(self, kind: SettingKind) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._kind.read(value)
        except ValueError:
            self.fail(f"{shortened(value)} is not {self._kind.expected}.", param, ctx)


class WholeRange(click.IntRange):
    """A whole number of at most MOST_DIGITS ASCII digits. `int` alone would accept other scripts' digits too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, str) and not WHOLE.fullmatch(value):
            self.fail(f"{shortened(value)} is not a whole number of at most {MOST_DIGITS} digits.", param, ctx)
        number: int = super().convert(value, param, ctx)
        return number


class FiniteRange(click.FloatRange):
    """A finite number in ASCII digits.

    `float` alone would accept other scripts' digits, underscores, inf, and nan, which no bound refuses.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, str) and not (len(value) <= LONGEST_PLAIN and PLAIN.fullmatch(value)):
            self.fail(f"{shortened(value)} is not a number such as 2 or 0.5.", param, ctx)
        number: float = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value!r} is not a finite number.", param, ctx)


def bootstrap_option(command: F) -> F:
    return click.option(
        "--bootstrap-servers",
        metavar="HOST:PORT[,...]",
        type=SettingType(ADDRESSES),
        help="Kafka's address. Default: PORTFOLIO_BOOTSTRAP_SERVERS, or 127.0.0.1:9092.",
    )(command)


def output_option(command: F) -> F:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Output format.",
    )(command)


def read_settings(**options: object) -> Settings:
    """Read the settings from the environment. An option that is not None replaces the variable's value."""
    return Settings.from_environment(os.environ, **options)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end. aiokafka's log is silenced: our own error messages tell the operator what failed."""
    import asyncio
    import logging

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    return asyncio.run(coroutine)


@contextmanager
def usable_data_dir(data_dir: Path | None) -> Iterator[None]:
    """Turn what the system refuses into DataDirectoryUnusable. None: the folder is a temporary one."""
    try:
        yield
    except OSError as error:
        place = Path(os.environ.get("TMPDIR", "/tmp")) if data_dir is None else data_dir
        option = "TMPDIR" if data_dir is None else "--data-dir"
        raise DataDirectoryUnusable(place, error.strerror or type(error).__name__, option) from error


def note_unknown_port(variable: str, known: str, port: int) -> None:
    """Say what to set if pages and commands look for this process at another port. `known` is the variable's value."""
    if known.rpartition(":")[2] != str(port):
        note(f"Pages and commands look for it at {known}: set {variable} there to this host and port {port}.")


def as_text(name: str, content: bytes | None) -> dict[str, str | None]:
    """Returns one member of a JSON object: `name` with the text, or `name`_base64 if the bytes are not UTF-8."""
    try:
        return {name: None if content is None else content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content or b"").decode()}
