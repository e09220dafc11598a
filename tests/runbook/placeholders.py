"""What stands in the runbook for something of the operator's own system, and what the tests' system has there.

All other text of a command runs as it stands. An address or an id is asked for right before the command runs, because
a start from a savepoint gives the job another id.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol


class Place(Protocol):
    """What a test's cluster tells of itself."""

    broker_ports: tuple[int, int, int]
    flink_port: int
    jmx_port: int
    #: of the broker whose host we are on
    kafka_folder: Path
    kafka_properties: Path
    kafka_records: Path
    log_folder: Path
    backup_folder: Path
    project: Path

    def job_id(self) -> str: ...
    def vertex_id(self) -> str: ...
    def checkpoint_id(self) -> str: ...
    def savepoint_id(self) -> str: ...
    def oldest_savepoint_id(self) -> str: ...
    def broker_pid(self) -> str: ...
    def worker_pid(self) -> str: ...


def _broker(number: int) -> Callable[[Place], str]:
    return lambda place: f"127.0.0.1:{place.broker_ports[number - 1]}"


#: in this order: a longer text comes before the texts that it contains
PLACEHOLDERS: Mapping[str, Callable[[Place], str]] = {
    # addresses: three brokers on one host have a port each
    "broker1:9092 broker2:9092 broker3:9092": lambda place: " ".join(_broker(n)(place) for n in (1, 2, 3)),
    "broker1 broker2 broker3": lambda place: "127.0.0.1 127.0.0.1 127.0.0.1",
    "nc -zv $broker 9092": lambda place: f"nc -zv $broker {place.broker_ports[0]}",
    "localhost:9092": _broker(1),
    "localhost:8081": lambda place: f"127.0.0.1:{place.flink_port}",
    "localhost:9999": lambda place: f"localhost:{place.jmx_port}",
    # a worker beside those of the supervisor takes a port of its own
    "python src/process_events.py": lambda place: "env -u PORTFOLIO_WEB_PORT python src/process_events.py",
    # folders
    "/var/lib/kafka/data": lambda place: str(place.kafka_records),
    "/var/lib/kafka": lambda place: str(place.kafka_folder),
    # the operator's own file; the brokers' whole file is written again by each start
    "vi /etc/kafka/server.properties": lambda place: f"vi {place.kafka_folder / 'server.properties'}",
    "/etc/kafka/server.properties": lambda place: str(place.kafka_properties),
    "/var/log": lambda place: str(place.log_folder),
    "/backup/": lambda place: f"{place.backup_folder}/",
    "/home/user/Portfolio-Project/projects/5-real-time-data-streaming": lambda place: str(place.project),
    # ids: the runbook has these as examples
    "savepoint-12345": lambda place: f"savepoint-{place.savepoint_id()}",
    "savepoint-old-*": lambda place: f"savepoint-{place.oldest_savepoint_id()}*",
    "<job-id>": lambda place: place.job_id(),
    "<vertex-id>": lambda place: place.vertex_id(),
    "<checkpoint-id>": lambda place: place.checkpoint_id(),
    "<kafka-pid>": lambda place: place.broker_pid(),
    "<flink-taskmanager-pid>": lambda place: place.worker_pid(),
}


def filled(command: str, place: Place) -> str:
    """Returns the command with every placeholder replaced by what the place has there."""
    for text, value in PLACEHOLDERS.items():
        if text in command:
            command = command.replace(text, value(place))
    return command
