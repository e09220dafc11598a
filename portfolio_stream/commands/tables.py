"""portfolio-stream tables: ask a worker for committed state, over HTTP."""

import json
from typing import Any

import click

from portfolio_stream.commands.common import OutputFormat, output_option, read_settings
from portfolio_stream.errors import WorkerRefused, WorkerUnreachable
from portfolio_stream.settings import Settings

ANSWER_SECONDS = 10.0  # a worker forwards one hop; longer than that is an error worth seeing


@click.group()
def tables() -> None:
    """Ask a worker for its tables."""


@tables.command()
@click.argument("table")
@click.argument("parts", nargs=-1, required=True, metavar="PART [PART]")
@click.option("--web-address", metavar="URL", help="A worker's. Default: PORTFOLIO_WEB_HOST and _WEB_PORT, port 6066.")
@output_option
def get(table: str, parts: tuple[str, ...], web_address: str | None, output: OutputFormat) -> None:
    """The committed value of one key, such as `positions P00000001 ACME`."""
    from urllib.parse import quote

    settings = read_settings()
    path = "/".join(quote(part, safe="") for part in (table, *parts))
    answer = _ask(settings, f"{(web_address or _address(settings)).rstrip('/')}/tables/{path}")
    if output == "json":
        click.echo(answer.strip())
    else:
        _print(json.loads(answer))


def _print(answer: dict[str, Any]) -> None:
    for name, value in answer["value"].items():
        click.echo(f"{name} = {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    click.echo(f"(partition {answer['partition']}, offset {answer['offset']}, worker {answer['worker']})")


def _address(settings: Settings) -> str:
    host = f"[{settings.web_host}]" if ":" in settings.web_host else settings.web_host
    return f"http://{host}:{settings.web_port or 6066}"


def _ask(settings: Settings, url: str) -> str:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

    address = url.partition("/tables/")[0]
    headers = {} if settings.web_token is None else {"Authorization": f"Bearer {settings.web_token}"}
    opener = build_opener(ProxyHandler({}), HTTPRedirectHandler())  # a worker is inside: no proxy stands between
    try:
        with opener.open(Request(url, headers=headers), timeout=ANSWER_SECONDS) as answer:
            content: bytes = answer.read()
    except HTTPError as error:
        raise WorkerRefused(error.code, _detail(error.read()) or error.reason) from error
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise WorkerUnreachable(address, str(reason)) from error
    return content.decode()


def _detail(problem: bytes) -> str:
    """The sentence of an application/problem+json answer, or nothing."""
    try:
        members = json.loads(problem)
    except ValueError:
        return ""
    words = (members.get("detail") or members.get("title")) if isinstance(members, dict) else None
    return str(words or "").rstrip(".")
