"""Run Kafka's own command line tools from the locked jars."""

import os
import subprocess

from portfolio_stream.broker.cluster import ignore
from portfolio_stream.kafka.tools import jars, java


def tool(main_class: str, *arguments: str) -> str:
    """Run a tool such as org.apache.kafka.tools.TopicCommand. Returns what it prints."""
    command = java.command(main_class, *arguments, jars=jars.provide(os.environ, ignore), profile="small")
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
