"""Format the brokers' directories, once.

Each directory is formatted under a temporary name and then renamed, so a directory with its final name is complete.
cluster.json says when all are formatted. Until then they hold no data, and a first start that was interrupted formats
all of them again.
"""

import base64
import shutil
import subprocess
import uuid
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from portfolio_stream.broker import diagnosis
from portfolio_stream.broker.layout import ClusterRecord, Layout
from portfolio_stream.broker.server import server_properties
from portfolio_stream.kafka.tools import java

UNFINISHED = ".formatting"


def new_cluster_id() -> str:
    """Returns a random id in Kafka's form. It never begins with a dash: a command line would read an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text


def format_all(layout: Layout, record: ClusterRecord, jars: Path, profile: java.JvmProfile) -> ClusterRecord:
    """Format all nodes. Writes and returns the record with `is_formatted` set."""
    format_nodes(layout, record, range(record.brokers), jars, profile)
    formatted = replace(record, is_formatted=True)
    layout.write_record(formatted)
    return formatted


def format_nodes(
    layout: Layout, record: ClusterRecord, nodes: Collection[int], jars: Path, profile: java.JvmProfile
) -> None:
    """Format some nodes at the same time, for the record's cluster. All that is in their folders is deleted first."""
    for node in nodes:
        for folder in (layout.log_dir(node), _unfinished(layout, node)):
            shutil.rmtree(folder, ignore_errors=True)
        _unfinished(layout, node).mkdir()
    since = [diagnosis.log_length(layout, node) for node in nodes]
    processes = [_format(layout, record, node, jars, profile) for node in nodes]
    codes = [process.wait() for process in processes]
    for node, length, code in zip(nodes, since, codes, strict=True):
        if code != 0:
            raise diagnosis.why_it_died(layout, node, length, code)
        _unfinished(layout, node).rename(layout.log_dir(node))


def _unfinished(layout: Layout, node: int) -> Path:
    return layout.log_dir(node).with_suffix(UNFINISHED)


def _format(
    layout: Layout, record: ClusterRecord, node: int, jars: Path, profile: java.JvmProfile
) -> "subprocess.Popen[bytes]":
    text = server_properties(node, record, _unfinished(layout, node), profile)
    layout.properties(node).write_text(text, encoding="ascii")
    arguments = ("format", "--cluster-id", record.cluster_id, "--config", str(layout.properties(node)))
    command = java.command(
        "kafka.tools.StorageTool", *arguments, jars=jars, profile="small", properties=java_properties(layout, node)
    )
    with layout.output(node).open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def java_properties(layout: Layout, node: int) -> dict[str, str]:
    """Returns a broker's Java system properties: they keep its log and temporary files in the data directory."""
    return {
        "log4j2.configurationFile": str(Path(__file__).with_name("log4j2.properties")),
        "portfolio.log": str(layout.log(node)),
        "java.io.tmpdir": str(layout.tmp),
    }
