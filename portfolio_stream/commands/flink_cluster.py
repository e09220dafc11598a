"""The cluster that the command `flink` asks: Flink's REST interface of a supervisor.

The bearer token goes to loopback and to the address that PORTFOLIO_FLINK_HOST and PORTFOLIO_FLINK_PORT name. It goes to
no other address, because anybody can tell an operator to type `-m HOST:PORT`.
"""

import json
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import click

from portfolio_stream.commands.output import note
from portfolio_stream.errors import (
    FlinkActionGone,
    FlinkJobAmbiguous,
    FlinkJobUnknown,
    FlinkOperationFailed,
    FlinkRefused,
    FlinkUnreachable,
)
from portfolio_stream.http.addresses import authority, is_loopback, reachable
from portfolio_stream.http.exchange import REFUSED, Method, NoAnswer, exchange, phrase_of, text_members
from portfolio_stream.setting_values import ADDRESS
from portfolio_stream.settings import Settings

ANSWER_SECONDS = 60.0  # the preview of a switch reads the ends of all topics
POLL_SECONDS = 0.2
REQUIREMENTS = "/resource-requirements"  # the path of a job's number of workers ends so
JOB_ID = re.compile(r"[0-9a-f]{32}")
STARTED_BY = (
    " Where Compose, systemd or Kubernetes keep the workers, their own command changes how many there are: `docker "
    "compose up --scale worker=N`, `systemctl start portfolio-worker@N`, `kubectl scale`."
)


def given_address(text: str) -> str:
    """The host:port of -m, which may also be written as a URL. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme == "http":
        text = parts.netloc
    found: str = ADDRESS.read(text)
    return found


def placed(address: str | None) -> str | None:
    """The address of a savepoint, or of a place of savepoints, as the supervisor has to read it: it has a folder of its
    own, so a relative path is made absolute here."""
    if address is None or "/" not in address or re.match(r"/|[a-z0-9]+:", address):
        return address
    return str(Path(address).absolute())


class FlinkCluster:
    """Each method raises FlinkUnreachable and FlinkRefused."""

    def __init__(self, settings: Settings, address: str | None) -> None:
        """`address` is that of -m."""
        configured = authority(settings.flink_host, settings.flink_port)
        own = authority(reachable(settings.flink_host), settings.flink_port)
        self.address = address or own
        is_known = is_loopback(self.address) or self.address in (configured, own)
        self._token = settings.web_token if is_known else None
        self._has_kept_token = settings.web_token is not None and not is_known

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def post(self, path: str, body: object = None) -> Any:
        return self._ask("POST", path, body)

    def patch(self, path: str) -> Any:
        return self._ask("PATCH", path)

    def put(self, path: str, body: object) -> Any:
        return self._ask("PUT", path, body)

    def text(self, path: str) -> str:
        """The text of a log."""
        return self._exchange("GET", path, None).decode(errors="replace")

    def job(self, text: str) -> str:
        """The id of a job that is given whole, or by as many first digits as no other job has.

        Raises FlinkJobUnknown, FlinkJobAmbiguous.
        """
        text = text.strip().lower()
        if JOB_ID.fullmatch(text):
            return text
        found = [one["jid"] for one in self.jobs() if text and one["jid"].startswith(text)]
        if not found:
            raise FlinkJobUnknown(text)
        if len(found) > 1:
            raise FlinkJobAmbiguous(text, found)
        return str(found[0])

    def jobs(self) -> list[dict[str, Any]]:
        """The rows of /jobs/overview."""
        found = self.get("/jobs/overview")["jobs"]
        if not isinstance(found, list):
            raise FlinkUnreachable(self.address, "another program answers there")
        return found

    def until_over(self, path: str, what: str, told: Callable[[dict[str, Any]], None] = lambda _: None) -> Any:
        """Look at an operation until it is over. Returns what came of it. Raises FlinkOperationFailed."""
        try:
            while True:
                found = self.get(path)
                told(found)
                if found["status"]["id"] != "IN_PROGRESS":
                    break
                time.sleep(POLL_SECONDS)
        except BaseException:
            note(f"The {what} goes on without this command. `portfolio-stream job describe` shows how far it is.")
            raise
        operation = found.get("operation") or {}
        if (cause := operation.get("failure-cause")) is not None:
            raise FlinkOperationFailed(what, str(cause.get("stack-trace", "no reason was given")).strip())
        return operation

    def _ask(self, method: Method, path: str, body: object = None) -> Any:
        content = self._exchange(method, path, body)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise FlinkUnreachable(self.address, "another program answers there")
        return answer

    def _exchange(self, method: Method, path: str, body: object) -> bytes:
        try:
            status, content = exchange(
                f"http://{self.address}{path}", method=method, token=self._token, body=body, seconds=ANSWER_SECONDS
            )
        except NoAnswer as error:
            more = STARTED_BY if path.endswith(REQUIREMENTS) else ""
            raise FlinkUnreachable(self.address, str(error), more) from error
        if status >= REFUSED:
            raise self._refusal(status, content)
        return content

    def _refusal(self, status: int, content: bytes) -> FlinkRefused:
        cause, action = words_of(status, content)
        if status in (401, 403) and self._has_kept_token:
            action = (
                f"The token was not sent to {self.address}: set PORTFOLIO_FLINK_HOST and PORTFOLIO_FLINK_PORT to that "
                "address, if it is yours, and leave -m out."
            )
        elif status == HTTPStatus.UNAUTHORIZED:
            action = "Set PORTFOLIO_WEB_TOKEN to the token that the cluster was started with, and try again."
        return FlinkRefused(status, cause, action)


def words_of(status: int, content: bytes) -> tuple[str, str | None]:
    """The cause and the next step of a refusal: of Flink's form, or a problem document (RFC 9457)."""
    try:
        errors = json.loads(content)["errors"]
        lines = [line for line in errors if isinstance(line, str)]
        cause = lines[0].removesuffix(".")
        start = "Operator action: "
        action = next((line.removeprefix(start) for line in lines if line.startswith(start)), None)
    except (ValueError, RecursionError, LookupError, TypeError):
        problem = text_members(content)
        cause = (problem.get("detail") or f"The cluster answered {status} {phrase_of(status)}").rstrip(".")
        action = problem.get("action")
    return f"{cause}.", action


class FlinkAddress(click.ParamType):
    """The value of -m."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "yarn-cluster":
            raise no_yarn("-m yarn-cluster")
        try:
            return given_address(value)
        except ValueError:
            self.fail(f"{value[:100]!r} is not host:port.", param, ctx)


class FlinkTarget(click.ParamType):
    """The value of -t: the cluster that runs already is the only one."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Literal["remote"]:
        if str(value).startswith(("yarn", "kubernetes")):
            raise no_yarn(f"-t {value}")
        if value not in ("remote", "local"):
            self.fail(f"{value[:100]!r} is not remote.", param, ctx)
        return "remote"


def no_yarn(what: str) -> FlinkActionGone:
    return FlinkActionGone(
        f"flink {what}",
        "the workers run on this host, or where Compose, systemd or Kubernetes keep them, and neither YARN nor an "
        "operator of Flink's is used",
        "Start a cluster with `portfolio-stream cluster start` (`start-cluster.sh`), then run `flink run` without it.",
    )
