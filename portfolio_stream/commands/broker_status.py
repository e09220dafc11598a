"""The output of `broker start` and `broker status`: the processes of a folder, and the health of a cluster."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from portfolio_stream.commands.common import OutputFormat
from portfolio_stream.commands.output import print_columns, print_json, print_line

if TYPE_CHECKING:
    from portfolio_stream.broker.status import BrokerStatus, ClusterStatus
    from portfolio_stream.kafka.health import BrokerHealth, KafkaHealth, PartitionHealth

SHOWN = 10  # partitions in a line of text; JSON lists all


def print_status(found: "ClusterStatus | None", health: "KafkaHealth | None", output: OutputFormat) -> None:
    """Print the status. `found` is None if the cluster belongs to no local folder.

    `health` is None if no broker answered, or if none was asked.
    """
    status = _status(found, health)
    if output == "json":
        print_json(status or None)
    elif status:
        _print(found, health, status["brokers"])
    else:
        print_line("No broker was ever started in this folder.")


def _print(found: "ClusterStatus | None", health: "KafkaHealth | None", brokers: Sequence[dict[str, Any]]) -> None:
    if found is not None:
        print_line(f"{found.bootstrap_servers} in {found.data_dir}")
    columns = list(dict.fromkeys(name for broker in brokers for name in broker))
    rows = [[_shown(value) for value in map(broker.get, columns)] for broker in brokers]
    print_columns([name.upper() for name in columns], rows)
    if health is not None:
        controller = "no controller" if health.controller is None else f"controller {health.controller}"
        print_line(f"Cluster {health.cluster_id}: {controller}, {len(health.partitions)} partitions")
        for what, partitions in _lacking(health).items():
            print_line(f"  {what.replace('_', ' ')}: {_names(partitions)}")


def _status(found: "ClusterStatus | None", health: "KafkaHealth | None") -> dict[str, Any]:
    status: dict[str, Any] = {}
    brokers: dict[int, dict[str, Any]] = {}
    if found is not None:
        status |= {
            "bootstrap_servers": found.bootstrap_servers,
            "data_dir": str(found.data_dir),
            "cluster_id": found.cluster_id,
            "ready": found.is_ready,
        }
        brokers = {one.node: _process(one) for one in found.brokers}
    if health is not None:
        status |= {
            "cluster_id": health.cluster_id,
            "healthy": health.is_healthy,
            "controller": health.controller,
            "partitions": len(health.partitions),
            **{what: [_place(one) for one in partitions] for what, partitions in _lacking(health).items()},
        }
        for one in health.brokers:
            brokers[one.node] = brokers.get(one.node, {"node": one.node}) | _member(one)
    return status | {"brokers": list(brokers.values())} if status else status


def _lacking(health: "KafkaHealth") -> dict[str, "Sequence[PartitionHealth]"]:
    return {
        "offline": health.offline,
        "under_min_isr": health.under_min_isr,
        "under_replicated": health.under_replicated,
    }


def _process(one: "BrokerStatus") -> dict[str, Any]:
    return {"node": one.node, "port": one.port, "pid": one.pid, "ready": one.is_ready, "log": str(one.log)}


def _member(one: "BrokerHealth") -> dict[str, Any]:
    return {"address": one.address, "live": one.is_live, "leaders": one.leaders, "replicas": one.replicas}


def _place(one: "PartitionHealth") -> dict[str, Any]:
    return {
        "topic": one.topic,
        "partition": one.partition,
        "leader": one.leader,
        "replicas": one.replicas,
        "in_sync": one.in_sync,
        "min_insync_replicas": one.needed,
    }


def _shown(value: object) -> object:
    if isinstance(value, bool):  # `value == False` would be true for node 0
        return "yes" if value else "no"
    return "-" if value is None else value


def _names(partitions: "Sequence[PartitionHealth]") -> str:
    names = [f"{one.topic}-{one.partition}" for one in partitions[:SHOWN]] or ["none"]
    return ", ".join(names) + (f" and {len(partitions) - SHOWN} more" if len(partitions) > SHOWN else "")
