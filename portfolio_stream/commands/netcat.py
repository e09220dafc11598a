"""What the launcher `nc` does in Python: it answers ZooKeeper's words, and probes where no nc is installed."""

import getopt
import os
import socket
import string
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from portfolio_stream.commands.output import note, print_line
from portfolio_stream.errors import ProgramMissing, QuorumWithoutLeader, ZooKeeperGone

if TYPE_CHECKING:
    from portfolio_stream.kafka.health import KafkaHealth

PROBE_SECONDS = 10.0  # nc itself waits for the system's time-out, which is minutes
LONGEST_WORD = 64  # bytes of standard input; a word has four


def four_letter_word(arguments: list[str]) -> int:
    """`nc HOST 2181`: the real nc if something listens there, else ZooKeeper's word, answered by Kafka's own quorum.

    The arguments are the real nc's path (empty: none), the host and the port.
    """
    real, host, port = arguments
    if _reason_against(host, int(port)) is None:
        if not real:
            raise ProgramMissing("nc", f"Something listens at {host}:{port}, and only nc can talk to it.")
        os.execv(real, [real, host, port])
    word = _input().strip()
    if len(word) != 4 or not set(word) <= set(string.ascii_lowercase):
        note(f"nc: nothing listens at {host}:{port}, and the input is no four-letter word of ZooKeeper.")
        return 1
    return _answer(word)


def _answer(word: str) -> int:
    if word not in ("ruok", "srvr", "stat", "mntr"):
        raise ZooKeeperGone(word)
    note("nc: Kafka 4 has no ZooKeeper. The state of the brokers' metadata quorum answers (kafka-metadata-quorum).")
    health = _health()
    if health.controller is None:
        raise QuorumWithoutLeader
    if word == "ruok":
        print_line("imok")
        return 0
    print_line(f"cluster id: {health.cluster_id}")
    print_line(f"quorum leader: {health.controller}")
    for broker in health.brokers:
        print_line(f"broker {broker.node} at {broker.address}: {'live' if broker.is_live else 'fenced'}")
    return 0


def _input() -> str:
    """Returns the beginning of standard input, as soon as there is some: the word and its line end come at once."""
    return os.read(sys.stdin.fileno(), LONGEST_WORD).decode("ascii", "replace")


def _health() -> "KafkaHealth":
    from portfolio_stream.commands import common
    from portfolio_stream.kafka.health import look

    return common.run(look(common.read_settings()))


def probe(arguments: list[str]) -> int:
    """`nc -z [-v] [-n] [-w SECONDS] HOST PORT` where the host has no nc. Exit code 0 if something listens, else 1."""
    try:
        pairs, (host, port) = getopt.getopt(arguments, "zvnw:")
        options = dict(pairs)
        number, seconds = int(port), float(options.get("-w", PROBE_SECONDS))
    except (getopt.GetoptError, ValueError):
        options = {}
    if "-z" not in options:
        raise ProgramMissing("nc", "This host has no nc. Without it only `nc -z [-v] [-w SECONDS] HOST PORT` works.")
    reason = _reason_against(host, number, seconds)
    if "-v" in options:
        succeeded = f"Connection to {host} {port} port [tcp/*] succeeded!"
        note(succeeded if reason is None else f"nc: connect to {host} port {port} (tcp) failed: {reason}")
    return 0 if reason is None else 1


def _reason_against(host: str, port: int, seconds: float = PROBE_SECONDS) -> str | None:
    """Returns None if something accepts a connection there, else why nothing does."""
    try:
        with closing(socket.create_connection((host, port), seconds)):
            return None
    except (OSError, OverflowError) as error:  # no port has such a number
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
