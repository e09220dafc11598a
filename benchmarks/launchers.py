"""Measure the cold start of Kafka's launchers, without and with the class archive: `python -m benchmarks.launchers`.

Each launcher runs against one broker, the two ways in turn, in ROUNDS rounds after one to warm up. The table has the
median seconds until the command ends, its CPU seconds, and the ratio of the archive's to the plain start. On a busy
machine only the ratios count.
"""

import os
import resource
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.broker.probe import free_port
from portfolio_stream.kafka.tools import jars
from portfolio_stream.launchers import archive, folder

ROUNDS = 5
TOPIC = "launchers"
#: makes the topic, with one record
PREPARED: Mapping[str, Sequence[str]] = {
    "kafka-topics": ("--create", "--topic", TOPIC, "--partitions", "1", "--replication-factor", "1"),
    "kafka-console-producer": ("--topic", TOPIC),
}
#: how each launcher is called; it ends by itself
CALLS: Mapping[str, Sequence[str]] = {
    "kafka-topics": ("--list",),
    "kafka-consumer-groups": ("--list",),
    "kafka-console-producer": ("--topic", TOPIC),
    "kafka-console-consumer": ("--topic", TOPIC, "--from-beginning", "--max-messages", "1"),
    "kafka-configs": ("--entity-type", "topics", "--describe"),
    "kafka-broker-api-versions": (),
    "kafka-get-offsets": ("--topic", TOPIC),
    "kafka-transactions": ("list",),
    "kafka-log-dirs": ("--describe",),
    "kafka-reassign-partitions": ("--list",),
    "kafka-metadata-quorum": ("describe", "--status"),
}
#: the Java options of each way; the Java has no archive of its own
WAYS: Mapping[str, str] = {"plain": "-Xshare:off", "archive": "-Xshare:auto"}


class Run(NamedTuple):
    seconds: float
    cpu_seconds: float


def measure(launchers: Path, address: str) -> dict[str, dict[str, Run]]:
    """Returns the median run of each launcher and way."""
    found: dict[str, dict[str, Run]] = {}
    for name, arguments in CALLS.items():
        command = [str(launchers / name), "--bootstrap-server", address, *arguments]
        runs: dict[str, list[Run]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS + 1):
            for way, options in WAYS.items():
                runs[way].append(_run(command, options))
        found[name] = {way: Run(*map(median, zip(*runs[way][1:], strict=True))) for way in WAYS}
        _show(name, found[name])
    return found


def _run(command: Sequence[str], java_options: str) -> Run:
    environment = {**os.environ, "KAFKA_OPTS": java_options}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run(
        command, env=environment, input=b"one\n", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    seconds, after = perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(seconds, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def _show(name: str, runs: Mapping[str, Run]) -> None:
    plain, faster = runs["plain"], runs["archive"]
    print(
        f"{name:28} {plain.seconds:6.2f} {faster.seconds:8.2f} {faster.seconds / plain.seconds:6.2f}"
        f" {plain.cpu_seconds:10.2f} {faster.cpu_seconds:8.2f} {faster.cpu_seconds / plain.cpu_seconds:6.2f}",
        flush=True,
    )


def main() -> None:
    jar_folder = jars.provide(os.environ, print)
    base = jar_folder.parent / "launchers"
    paths = folder.paths(jar_folder, base)
    launchers = folder.provide(base, folder.scripts(paths))
    assert archive.provide(paths, print), "no archive, so there is nothing to compare"
    with tempfile.TemporaryDirectory() as data, Cluster(Path(data) / "broker", free_port()) as cluster:
        address = cluster.bootstrap_servers
        for name, arguments in PREPARED.items():
            _run([str(launchers / name), "--bootstrap-server", address, *arguments], WAYS["archive"])
        print(f"{'seconds':28} {'plain':>6} {'archive':>8} {'ratio':>6} {'plain CPU':>10} {'archive':>8} {'ratio':>6}")
        found = measure(launchers, address).values()
    for way in WAYS:
        print(f"{way}: median of all {median(runs[way].seconds for runs in found):.2f} s")


if __name__ == "__main__":
    main()
