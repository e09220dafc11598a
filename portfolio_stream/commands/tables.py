"""portfolio-stream tables: read committed table values from a worker, over HTTP."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypedDict

import click

from portfolio_stream.commands.common import OutputFormat, SettingType, WholeRange, output_option, read_settings
from portfolio_stream.commands.output import compact_json, print_json, print_line
from portfolio_stream.commands.worker_client import ask_worker, web_address_option
from portfolio_stream.errors import WorkerRefused
from portfolio_stream.setting_values import UTF8

KEY = SettingType(UTF8)
PAGE_ROWS = 1_000  # the limit of a worker's page
PATIENCE_SECONDS = 15.0  # for one page: a rebalance and a recovery are over by then
RETRY_SECONDS = 1.0  # equal to a worker's Retry-After


class RowAnswer(TypedDict):
    """One row in a worker's answer."""

    key: list[str]
    value: dict[str, Any]


class PageAnswer(TypedDict):
    rows: list[RowAnswer]
    cursor: str | None


class EntryAnswer(RowAnswer):
    partition: int
    offset: int | None
    worker: str


@click.group()
def tables() -> None:
    """Read committed table values from a worker."""


@tables.command()
@click.argument("table", type=KEY)
@click.argument("parts", nargs=-1, required=True, metavar="PART [PART]", type=KEY)
@web_address_option
@output_option
def get(table: str, parts: tuple[str, ...], web_address: str | None, output: OutputFormat) -> None:
    """Show the committed value of one key, such as `positions P00000001 ACME`."""
    from urllib.parse import quote

    path = "/".join(quote(part, safe="") for part in (table, *parts))
    answer = ask_worker(read_settings(), web_address, f"/tables/{path}", EntryAnswer)
    if output == "json":
        print_json(answer)
    else:
        _print(answer)


@tables.command()
@click.argument("table", type=KEY)
@click.option("--prefix", metavar="KEY", type=KEY, help="Only keys with this beginning: P1, or P1/ for one portfolio.")
@click.option("--from", "from_", metavar="KEY", type=KEY, help="Begin at this key, such as P1 or P1/ACME.")
@click.option("--to", metavar="KEY", type=KEY, help="End before this key.")
@click.option("--limit", type=WholeRange(min=1), help="End after this many rows. Default: all.")
@web_address_option
@output_option
def scan(
    table: str,
    prefix: str | None,
    from_: str | None,
    to: str | None,
    limit: int | None,
    web_address: str | None,
    output: OutputFormat,
) -> None:
    """List a table's rows of all partitions in key order, one per line. With -o json a line is the worker's JSON."""
    settings = read_settings()
    given = {"prefix": prefix, "from": from_, "to": to}
    query = {name: value for name, value in given.items() if value is not None}
    for row in _rows(partial(ask_worker, settings, web_address, kind=PageAnswer), table, query, limit):
        print_line(compact_json(row) if output == "json" else _line(row))


def _rows(
    get_page: Callable[[str], PageAnswer], table: str, query: dict[str, str], limit: int | None
) -> Iterator[RowAnswer]:
    from urllib.parse import quote, urlencode

    left, cursor = limit, None
    while left is None or left > 0:
        size = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
        parameters = {**query, "limit": str(size)} | ({} if cursor is None else {"cursor": cursor})
        page = _patiently(get_page, f"/tables/{quote(table, safe='')}?{urlencode(parameters)}")
        yield from page["rows"]
        cursor = page["cursor"]
        if cursor is None:
            return
        left = None if left is None else left - len(page["rows"])


def _patiently(get_page: Callable[[str], PageAnswer], path: str) -> PageAnswer:
    """Get one page, and ask again while a partition has no owner that serves. So a long scan survives a rebalance."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return get_page(path)
        except WorkerRefused as refused:
            if refused.status != 503 or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS)


def _line(row: RowAnswer) -> str:
    values = (f"{name}={_shown(value)}" for name, value in row["value"].items())
    return " ".join((*row["key"], *values))


def _print(answer: EntryAnswer) -> None:
    for name, value in answer["value"].items():
        print_line(f"{name} = {_shown(value)}")
    print_line(f"(partition {answer['partition']}, offset {answer['offset']}, worker {answer['worker']})")


def _shown(value: object) -> str:
    return value if isinstance(value, str) else compact_json(value)
