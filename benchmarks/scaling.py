"""The arithmetic of docs/scaling.md: what a larger system needs, from figures that were measured on a small one.

    python -m benchmarks.scaling

writes the tables of docs/scaling.md anew. Each row of ROWS is a formula and its explanation. To use newer figures,
change their values in GIVEN: all tables follow.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PAGE = Path("docs/scaling.md")
BEGIN, END = "<!-- {name}: made by python -m benchmarks.scaling -->", "<!-- end of {name} -->"
MEBIBYTE = 1 << 20
DAY_SECONDS = 86_400
HEARTBEAT_SECONDS = 0.4  # see membership.py
EPOCHS = 32_767  # an int16, and each transaction takes one


class Given(NamedTuple):
    """A figure that the arithmetic begins with."""

    value: float
    unit: str
    what: str
    #: where the figure was measured, or why it is assumed
    source: str


GIVEN: Mapping[str, Given] = {
    "worker_us": Given(
        60, "CPU us/event", "a worker at 10,000 events/s in 8 partitions", "measured: `benchmarks latency`"
    ),
    "backlog_us": Given(24.4, "CPU us/event", "a worker on a backlog", "measured: `benchmarks throughput`"),
    "broker_us": Given(48, "CPU us/event", "the broker at 10,000 events/s, one copy", "measured: `benchmarks latency`"),
    "interval": Given(0.031, "s", "between two commits of a worker", "measured: events/transaction of `latency`"),
    "source_bytes": Given(225, "bytes/event", "in the source log", "measured: key and value, 212, and the record"),
    "output_bytes": Given(330, "bytes/event", "in the output log", "estimated; `benchmarks backlog` measures the disk"),
    "changelog_bytes": Given(390, "bytes/event", "written to the changelog", "estimated for small transactions"),
    "state_bytes": Given(93, "bytes/key", "in a worker's store, for each position key", "measured: `restart`"),
    "replay_keys": Given(150_000, "keys/s", "position keys that a worker replays", "measured: `restart`, lost folder"),
    "memory": Given(250, "MiB", "highest resident memory of a worker", "measured: `restart`, 1,000,000 keys"),
    "verify_rate": Given(14_000, "events/s", "`verify` compares in one process", "estimated; see `backlog`"),
    "marker_bytes": Given(78, "bytes", "of a transaction marker in a log", "Kafka's format: a batch of one record"),
    "offset_bytes": Given(150, "bytes", "of a committed offset in `__consumer_offsets`", "Kafka's format, our names"),
    "busy": Given(0.6, "", "the share of its core that a worker may use on average", "assumed: room for peaks"),
    "copies": Given(3, "", "copies of each log (replication)", "assumed: as in the guide for deployment"),
    "broker_write": Given(200, "MiB/s", "a broker writes to disk all the time", "assumed: a fast network disk"),
    "broker_cores": Given(8, "cores", "of a broker", "assumed"),
    "keys": Given(1_000, "keys", "position keys for each event/s of load", "assumed: a key changes every 17 minutes"),
}


class Size(NamedTuple):
    """A system to compute."""

    name: str
    partitions: int
    rate: float


SIZES: Sequence[Size] = (
    Size("8 partitions, 10,000/s", 8, 10_000),  # measured here
    Size("100 partitions, 100,000/s", 100, 100_000),
    Size("1,000 partitions, 100,000/s", 1_000, 100_000),
    Size("1,000 partitions, 1,000,000/s", 1_000, 1_000_000),
)


class Row(NamedTuple):
    #: key of the dict that `compute` returns
    name: str
    what: str
    formula: str


ROWS: Sequence[Row] = (
    Row("workers", "workers, each with a core of its own", "events/s x worker's CPU us/event / busy share"),
    Row("worker_partitions", "partitions of a worker", "partitions / workers"),
    Row("transactions", "transactions/s", "workers / interval"),
    Row("memory", "GiB of memory for all workers", "workers x memory of a worker"),
    Row("partition_peak", "events/s of one partition at most", "1 / worker's CPU us/event on a backlog"),
    Row("share_events", "events of a partition in a transaction", "events/s x interval / partitions"),
    Row("markers", "transaction markers/s", "transactions/s x (2 logs x partitions of a worker + 1 for offsets)"),
    Row("marker_share", "markers, % of the bytes of outputs and changelog", "markers/s x bytes / (events/s x bytes)"),
    Row("offsets", "offsets/s, all in one partition of `__consumer_offsets`", "partitions / interval"),
    Row("offset_log", "MiB/s of this partition, one copy", "offsets/s x bytes + transactions/s x marker bytes"),
    Row("written", "MiB/s that all brokers write", "events/s x (source + output + changelog bytes) x copies"),
    Row(
        "brokers",
        "brokers",
        "the most of: 3; MiB/s written / MiB/s of a broker; events/s x CPU us/event x copies / busy cores",
    ),
    Row(
        "requests", "requests of transactions/s", "transactions/s x (1 offsets + 1 Produce for each broker + 1 EndTxn)"
    ),
    Row(
        "log_appends", "appends/s to the log of transactions", "transactions/s x (1 offsets + brokers + 2 for the end)"
    ),
    Row("compacted", "MiB/s of changelog that a broker compacts", "events/s x changelog bytes x copies / brokers"),
    Row("replicas", "copies of partitions on a broker", "partitions x 4 topics x copies / brokers"),
    Row("heartbeats", "heartbeats/s to the group's coordinator", "workers / 0.4 s"),
    Row("epoch_minutes", "minutes until a worker needs a new producer id", "32,767 x interval"),
    Row("verifiers", "processes of `verify --follow` to keep up", "events/s / events/s of `verify`"),
    Row("logs", "TB a day of source and outputs", "events/s x (source + output bytes) x 86,400 s x copies"),
    Row("state", "GB of state in a worker's store", "keys x bytes / workers"),
    Row("replay_partition", "seconds to replay one partition", "keys / partitions / keys/s of a replay"),
    Row("replay_worker", "seconds to replay a worker's share", "keys / workers / keys/s of a replay"),
)


def compute(size: Size, given: Mapping[str, Given] = GIVEN) -> dict[str, float]:
    """Returns the values of ROWS."""
    of = {name: one.value for name, one in given.items()}
    partitions, rate, interval, copies = size.partitions, size.rate, of["interval"], of["copies"]
    workers = min(partitions, math.ceil(rate * of["worker_us"] * 1e-6 / of["busy"]))
    transactions = workers / interval
    markers = transactions * (2 * partitions / workers + 1)
    offsets = partitions / interval
    written = rate * (of["source_bytes"] + of["output_bytes"] + of["changelog_bytes"]) * copies / MEBIBYTE
    cores = rate * of["broker_us"] * 1e-6 * copies
    brokers = max(3, math.ceil(written / of["broker_write"]), math.ceil(cores / of["busy"] / of["broker_cores"]))
    keys = of["keys"] * rate
    return {
        "workers": workers,
        "worker_partitions": partitions / workers,
        "transactions": transactions,
        "memory": workers * of["memory"] / 1024,
        "partition_peak": 1e6 / of["backlog_us"],
        "share_events": rate * interval / partitions,
        "markers": markers,
        "marker_share": 100 * markers * of["marker_bytes"] / (rate * (of["output_bytes"] + of["changelog_bytes"])),
        "offsets": offsets,
        "offset_log": (offsets * of["offset_bytes"] + transactions * of["marker_bytes"]) / MEBIBYTE,
        "written": written,
        "brokers": brokers,
        "requests": transactions * (brokers + 2),
        "log_appends": transactions * (brokers + 3),
        "compacted": rate * of["changelog_bytes"] * copies / brokers / MEBIBYTE,
        "replicas": partitions * 4 * copies / brokers,
        "heartbeats": workers / HEARTBEAT_SECONDS,
        "epoch_minutes": EPOCHS * interval / 60,
        "verifiers": math.ceil(rate / of["verify_rate"]),
        "logs": rate * (of["source_bytes"] + of["output_bytes"]) * DAY_SECONDS * copies / 1e12,
        "state": keys * of["state_bytes"] / workers / 1e9,
        "replay_partition": keys / partitions / of["replay_keys"],
        "replay_worker": keys / workers / of["replay_keys"],
    }


def given_table(given: Mapping[str, Given] = GIVEN) -> str:
    lines = ["| figure | value | where from |", "| --- | --- | --- |"]
    lines += [f"| {one.what} | {shown(one.value)} {one.unit} | {one.source} |" for one in given.values()]
    return "\n".join(lines)


def sizes_table(sizes: Sequence[Size] = SIZES, given: Mapping[str, Given] = GIVEN) -> str:
    computed = [compute(size, given) for size in sizes]
    lines = ["| | " + " | ".join(size.name for size in sizes) + " | formula |", "| --- |" + " --- |" * (len(sizes) + 1)]
    for row in ROWS:
        values = " | ".join(shown(values[row.name]) for values in computed)
        lines.append(f"| {row.what} | {values} | {row.formula} |")
    return "\n".join(lines)


def shown(value: float) -> str:
    """Returns a figure with three digits at most, but a whole number below 1,000,000 as it is."""
    if value == int(value) and value < 1e6:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{round(value, 2 - math.floor(math.log10(value))):,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def renewed(page: str) -> str:
    """Returns the text of the page with new tables between the marks."""
    for name, table in (("figures", given_table()), ("sizes", sizes_table())):
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
