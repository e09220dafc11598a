"""What the launcher systemctl does for our units on a machine whose systemd does not have them.

scripts/systemctl.sh passes a verb and units. Each verb becomes commands of the same meaning, with a line on standard
error that names them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import click

from portfolio_stream.commands import broker, cluster
from portfolio_stream.commands.output import note
from portfolio_stream.errors import UnitMissing


class Unit(NamedTuple):
    group: click.Group
    #: whether `start` has nothing to do
    runs: Callable[[], bool]
    #: the group's commands for each verb of systemctl
    commands: Mapping[str, Sequence[str]]


ALIKE = {"start": ("start",), "stop": ("stop",), "status": ("status",), "is-active": ("status",)}
UNITS: Mapping[str, Unit] = {
    "kafka": Unit(broker.broker, broker.is_serving, ALIKE | {"restart": ("restart",)}),
    "portfolio-cluster": Unit(cluster.cluster, cluster.is_running, ALIKE | {"restart": ("stop", "start")}),
}
NO_ZOOKEEPER = "Kafka 4 has no ZooKeeper: controllers inside the brokers do that work."


def main(arguments: list[str]) -> int:
    verb, *units = arguments
    return max(_run(verb, unit) for unit in units)


def _run(verb: str, name: str) -> int:
    """Returns the exit code: that of the first command that fails."""
    if name == "zookeeper":
        note(f"systemctl: {NO_ZOOKEEPER} {verb} has nothing to do.")
        return 0
    unit = UNITS.get(name)
    if unit is None:
        raise UnitMissing(name)
    if verb == "start" and unit.runs():
        note(f"systemctl: {name} runs already.")
        return 0
    for command in unit.commands[verb]:
        line = f"portfolio-stream {unit.group.name} {command}"
        note(f"systemctl: no systemd has the unit {name} here. Running `{line}`.")
        code = unit.group.main([command], prog_name=f"portfolio-stream {unit.group.name}", standalone_mode=False)
        if isinstance(code, int) and code != 0:
            return code
    return 0
