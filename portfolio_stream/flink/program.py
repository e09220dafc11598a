"""What `flink run` asks for besides Flink's options: a request's body, and the arguments of the program. Pure.

The program is the job that the workers run. So an argument may only repeat what the job has: two jobs on the same
topics would be two states.
"""

from collections.abc import Iterator, Sequence

import msgspec

from portfolio_stream.errors import FlinkTopicsDiffer
from portfolio_stream.flink.options import Outcome
from portfolio_stream.settings import Settings, variable

#: the arguments of the program that name a setting
ARGUMENTS = {
    "--kafka-bootstrap-servers": "bootstrap_servers",
    "--bootstrap-servers": "bootstrap_servers",
    "--input-topic": "input_topic",
    "--output-topic": "output_topic",
    "--dlq-topic": "dlq_topic",
    "--prices-topic": "prices_topic",
    "--group": "group",
    "--group-id": "group",
}
LOOPBACK = "localhost"
_LOOPBACK_NAMES = ("127.0.0.1", "[::1]", LOOPBACK)


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Flink's JarRunRequestBody."""

    entry_class: str | None = None
    program_args: str | None = None
    program_args_list: list[str] | None = None
    parallelism: int | None = None
    allow_non_restored_state: bool | None = None
    savepoint_path: str | None = None
    claim_mode: str | None = None
    restore_mode: str | None = None
    flink_configuration: dict[str, str] = {}

    @property
    def arguments(self) -> list[str]:
        return self.program_args_list or (self.program_args or "").split()


def check_arguments(arguments: Sequence[str], settings: Settings) -> Iterator[Outcome]:
    """What comes of each argument.

    Raises FlinkTopicsDiffer for an argument that names another Kafka or another topic than the job has.
    """
    for name, value in _pairs(arguments):
        field = ARGUMENTS.get(name)
        if field is None:
            yield Outcome(name, value, "no effect", "the job's program has no such argument")
            continue
        found: str = getattr(settings, field)
        if value != found and not (field == "bootstrap_servers" and _is_same_cluster(value, found)):
            raise FlinkTopicsDiffer(name, value, variable(field), found)
        yield Outcome(name, value, "already so", f"{variable(field)} is {found}")


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The arguments of the forms `--name value`, `--name=value` and `--name`."""
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not equals and name.startswith("-") and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
        yield name, value


def _is_same_cluster(given: str, found: str) -> bool:
    """Every address is one by which the job knows its cluster."""
    known = {_plain(address) for address in found.split(",")}
    return all(_plain(address) in known for address in given.split(","))


def _plain(address: str) -> str:
    """The address, with one name for loopback."""
    host, _, port = address.strip().lower().rpartition(":")
    return f"{LOOPBACK if host in _LOOPBACK_NAMES else host}:{port}"
