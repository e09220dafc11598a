"""What `broker status` says of a cluster's health."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from portfolio_stream.broker.status import BrokerStatus, ClusterStatus
from portfolio_stream.commands.broker_status import print_status
from portfolio_stream.kafka.health import BrokerHealth, KafkaHealth, PartitionHealth

BROKERS = tuple(
    BrokerHealth(node=node, address=f"127.0.0.1:{9092 + node}", is_live=True, leaders=1, replicas=1)
    for node in range(3)
)
WHOLE = PartitionHealth(topic="t", partition=0, leader=0, replicas=(0, 1, 2), in_sync=(0, 1, 2), needed=2)
HEALTHY = KafkaHealth(cluster_id="c", controller=1, brokers=BROKERS, partitions=(WHOLE,))
FOLDER = ClusterStatus(
    data_dir=Path("here"),
    bootstrap_servers="127.0.0.1:9092",
    cluster_id="c",
    brokers=(
        BrokerStatus(node=0, port=9092, pid=7, is_ready=True, log=Path("0.log")),
        BrokerStatus(node=7, port=9099, pid=None, is_ready=False, log=Path("7.log")),
    ),
)


def test_a_whole_cluster_is_healthy() -> None:
    """Nothing below is said of one that lacks nothing."""
    assert (True, (), (), ()) == (HEALTHY.is_healthy, HEALTHY.offline, HEALTHY.under_replicated, HEALTHY.under_min_isr)


@pytest.mark.parametrize(
    "hurt",
    [
        replace(HEALTHY, controller=None),
        replace(HEALTHY, brokers=(*BROKERS[:2], replace(BROKERS[2], is_live=False))),
        replace(HEALTHY, partitions=(WHOLE, replace(WHOLE, partition=1, leader=None))),
        replace(HEALTHY, partitions=(replace(WHOLE, in_sync=(0, 1)),)),
        replace(HEALTHY, partitions=(replace(WHOLE, replicas=(0,), in_sync=(0,)),)),
    ],
    ids=["no controller", "a dead broker", "an offline partition", "a copy behind", "fewer copies than needed"],
)
def test_whatever_lacks_makes_it_unhealthy(hurt: KafkaHealth) -> None:
    """Each alone."""
    assert not hurt.is_healthy


def test_the_table_shows_numbers_as_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """Node 0 is not "no"; yes, no and - are for what is known or not."""
    print_status(FOLDER, HEALTHY, "text")
    header, *rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:6]]
    assert ["NODE", "PORT", "PID", "READY", "LOG", "ADDRESS", "LIVE", "LEADERS", "REPLICAS"] == header
    assert [
        ["0", "9092", "7", "yes", "0.log", "127.0.0.1:9092", "yes", "1", "1"],
        ["7", "9099", "-", "no", "7.log", "-", "-", "-", "-"],
        ["1", "-", "-", "-", "-", "127.0.0.1:9093", "yes", "1", "1"],
        ["2", "-", "-", "-", "-", "127.0.0.1:9094", "yes", "1", "1"],
    ] == rows


def test_json_joins_processes_and_health(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a broker, whichever side knows it."""
    print_status(FOLDER, replace(HEALTHY, partitions=(replace(WHOLE, in_sync=(0,)),)), "json")
    printed = json.loads(capsys.readouterr().out)
    assert [0, 7, 1, 2] == [broker["node"] for broker in printed["brokers"]]
    assert (7, "127.0.0.1:9092") == (printed["brokers"][0]["pid"], printed["brokers"][0]["address"])
    assert (False, [[0]], [[0]]) == (
        printed["healthy"],
        [one["in_sync"] for one in printed["under_min_isr"]],
        [one["in_sync"] for one in printed["under_replicated"]],
    )


def test_text_names_what_lacks_and_cuts_long_lists(capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal's line is no place for a thousand partitions."""
    offline = tuple(replace(WHOLE, partition=number, leader=None) for number in range(12))
    print_status(FOLDER, replace(HEALTHY, partitions=offline), "text")
    printed = capsys.readouterr().out
    assert "  offline: t-0, t-1, t-2, t-3, t-4, t-5, t-6, t-7, t-8, t-9 and 2 more\n" in printed
    assert "  under replicated: none\n" in printed
    assert "controller 1, 12 partitions" in printed


def test_nothing_there_is_said_in_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first start."""
    print_status(None, None, "text")
    print_status(None, None, "json")
    assert "No broker was ever started in this folder.\nnull\n" == capsys.readouterr().out
