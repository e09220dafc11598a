"""What the launcher systemctl does for our units on a machine whose systemd does not have them.

scripts/systemctl.sh passes a verb and units. Each verb becomes the command of the same meaning, with a line on standard
error that names the command.
"""

import click

from portfolio_stream.commands.broker import broker, is_serving
from portfolio_stream.commands.output import note
from portfolio_stream.errors import UnitMissing

NO_ZOOKEEPER = "Kafka 4 has no ZooKeeper: controllers inside the brokers do that work. There is nothing to {verb}."
#: the command for each verb; is-active differs from status in what it prints alone
VERBS = {"start": "start", "stop": "stop", "restart": "restart", "status": "status", "is-active": "status"}


def main(arguments: list[str]) -> int:
    verb, *units = arguments
    return max(_run(VERBS[verb], unit) for unit in units)


def _run(verb: str, unit: str) -> int:
    if unit == "zookeeper":
        note(f"systemctl: {NO_ZOOKEEPER.format(verb=verb if verb != 'status' else 'look at')}")
        return 0
    if unit == "kafka":
        return _of_group(broker, "broker", verb, unit)
    raise UnitMissing(unit)


def _of_group(group: click.Group, name: str, verb: str, unit: str) -> int:
    if verb == "start" and is_serving():
        note(f"systemctl: {unit} runs already.")
        return 0
    note(f"systemctl: no systemd has the unit {unit} here. Running `portfolio-stream {name} {verb}`.")
    code = group.main([verb], prog_name=f"portfolio-stream {name}", standalone_mode=False)
    return code if isinstance(code, int) else 0
