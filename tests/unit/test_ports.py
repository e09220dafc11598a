"""The ports of tests: nobody else is given a port that a test has picked."""

import socket
from pathlib import Path

import pytest

from tests.ports import END, FIRST, free_port

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("brokers", [1, 3])
def test_no_port_is_picked_twice(brokers: int) -> None:
    """All ports of a pick are one run; no later pick has any of them."""
    picked = [port + node for port in (free_port(brokers) for _ in range(20)) for node in range(brokers)]
    assert len(picked) == len(set(picked))
    assert all(FIRST <= port < END for port in picked)


def test_a_port_in_use_is_passed_over() -> None:
    """A pick of three ports begins behind a port at which somebody listens."""
    first = free_port()
    with socket.create_server(("127.0.0.1", first + 2)):
        assert free_port(3) > first + 2 or free_port(3) < first


def test_every_test_takes_its_ports_here() -> None:
    """Import free_port from tests.ports. The system may give the port that probe.free_port returns to anybody else."""
    own = {Path(__file__), ROOT / "tests/ports.py"}
    others = [path for path in (ROOT / "tests").rglob("*.py") if path not in own]
    assert [] == [path.name for path in others if "probe import free_port" in path.read_text()]
