"""Which members of the group may be workers, and how a stranger's names are shown."""

import pytest

from portfolio_stream.kafka.members import (
    GroupMember,
    Owner,
    alike_named,
    escaped,
    holders_among,
    namesakes_among,
    owners_among,
    worker_of,
)


@pytest.mark.parametrize(
    ("client_id", "instance_id", "address"),
    [
        ("w1@127.0.0.1:6066", "w1", "127.0.0.1:6066"),
        ("a@b@worker-1.example:1", "a@b", "worker-1.example:1"),
        ("w1@[2001:db8::1]:65535", "w1", "[2001:db8::1]:65535"),
        ("n\u00e4me 1@host_a:80", "n\u00e4me 1", "host_a:80"),
    ],
)
def test_client_ids_of_workers(client_id: str, instance_id: str, address: str) -> None:
    """Instance id, host and port; the last @ divides them."""
    assert Owner(instance_id, address, "m") == worker_of(client_id, "m")


@pytest.mark.parametrize(
    "client_id",
    [
        "",
        "console-consumer",
        "@127.0.0.1:6066",
        "w1@127.0.0.1",
        "w1@127.0.0.1:0",
        "w1@127.0.0.1:65536",
        "w1@127.0.0.1:123456",
        "w1@:80",
        "w1@::1:80",
        "w1@host/path:80",
        "w1@host:80/path?",
        "w1@user:password@host:80 ",
        "w1@host:80#",
        "w1@h\u00f6st:80",
        "w1@http://host:80",
        "w\n1@host:80",
        "w\x1b[2J@host:80",
        "w\u202e1@host:80",
        "w" * 256 + "@host:80",
        "w1@" + "h" * 254 + ":80",
        "w1@host:\u0661\u0662",
    ],
)
def test_client_ids_of_others(client_id: str) -> None:
    """No part of a URL beside host and port, nothing that a log or a terminal obeys."""
    assert worker_of(client_id, "m") is None


def test_a_stranger_is_named_on_one_line() -> None:
    """Whatever it calls itself."""
    member = GroupMember("m\r\n1", "\x1b]0;x\x07" + "y" * 200, "/10.0.0.1", None, (1, 3))
    assert "\\x1b]0;x\\x07" in str(member)
    assert str(member).isprintable()
    assert "partitions 1, 3" in str(member)
    assert "no partition" in str(GroupMember("m", "c", "h", None, ()))
    assert escaped("y" * 121) == "y" * 120 + "…"


def test_owners_are_workers() -> None:
    """A partition that a stranger holds has a holder and no owner."""
    worker = GroupMember("m1", "w1@a:1", "h", Owner("w1", "a:1", "m1"), (0,))
    stranger = GroupMember("m2", "x", "h", None, (1,))
    assert {0: worker, 1: stranger} == holders_among([worker, stranger])
    assert {0: worker.worker} == owners_among([worker, stranger])


def test_namesakes() -> None:
    """Two members are two workers, whatever they are called; one that is told twice is one."""
    first, second, other = Owner("w1", "b:1", "m1"), Owner("w1", "a:1", "m2"), Owner("w2", "a:2", "m3")
    assert {"w1": [second, first]} == namesakes_among([first, second, other, first])
    assert "2 workers are named w1: at a:1 and b:1" == alike_named([second, first])
