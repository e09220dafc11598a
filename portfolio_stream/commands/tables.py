"""portfolio-stream tables: ask a worker for committed state, over HTTP."""

import json
from typing import Any

import click

from portfolio_stream.commands.common import OutputFormat, output_option, read_settings
from portfolio_stream.commands.worker_client import ask, web_address_option


@click.group()
def tables() -> None:
    """Ask a worker for its tables."""


@tables.command()
@click.argument("table")
@click.argument("parts", nargs=-1, required=True, metavar="PART [PART]")
@web_address_option
@output_option
def get(table: str, parts: tuple[str, ...], web_address: str | None, output: OutputFormat) -> None:
    """The committed value of one key, such as `positions P00000001 ACME`."""
    from urllib.parse import quote

    path = "/".join(quote(part, safe="") for part in (table, *parts))
    answer = ask(read_settings(), web_address, f"/tables/{path}")
    if output == "json":
        click.echo(answer.strip())
    else:
        _print(json.loads(answer))


def _print(answer: dict[str, Any]) -> None:
    for name, value in answer["value"].items():
        click.echo(f"{name} = {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    click.echo(f"(partition {answer['partition']}, offset {answer['offset']}, worker {answer['worker']})")
