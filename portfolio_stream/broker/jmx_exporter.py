"""The JMX exporter: a Java agent in each broker that tells Prometheus Kafka's own figures over HTTP.

- It has no password, like JMX itself: it runs only if PORTFOLIO_JMX_EXPORTER_PORT is set, and on loopback only.
- Its jar is locked like those of Kafka, and fetched once. jmx_exporter.yaml says which figures it tells, and by which
  names.
"""

from collections.abc import Mapping
from pathlib import Path

from portfolio_stream.broker.jmx import LOOPBACK
from portfolio_stream.kafka.tools import jars
from portfolio_stream.settings import variable

VARIABLE = variable("jmx_exporter_port")
RULES = Path(__file__).with_name("jmx_exporter.yaml")


def agent(environment: Mapping[str, str], port: int) -> str:
    """Returns the agent's jar with its options. Raises the errors of `jars.provide`."""
    folder = jars.provide(environment, lambda _: None, jars.JMX_EXPORTER_LOCK)
    (jar,) = jars.read_lock(jars.JMX_EXPORTER_LOCK)
    return f"{folder / jar.name}={LOOPBACK}:{port}:{RULES}"
