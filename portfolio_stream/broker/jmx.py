"""Java's remote monitoring (JMX) of a broker: Kafka's own figures, for `kafka-jmx` and its like.

- It has no password: every user of this machine can read the figures, and call what Java and Kafka offer there. So it
  is opened only if it was asked for, and on loopback only.
- jcmd opens it in a running broker. Java's options at a start would do more: they also open a second port, at all
  addresses of the machine.
"""

import subprocess
from collections.abc import Mapping

from portfolio_stream.errors import JmxNotOpened
from portfolio_stream.kafka.tools import java

LOOPBACK = "127.0.0.1"
JCMD_SECONDS = 30.0  # it takes a second; a loaded machine may need ten
#: a Java system property from the broker's start on: the address that the port tells its clients
START: Mapping[str, str] = {"java.rmi.server.hostname": LOOPBACK}


def open_port(pid: int, node: int, port: int) -> None:
    """Let the broker's process listen at the port. Raises JmxNotOpened."""
    options = {
        "port": port,
        "rmi.port": port,  # otherwise a second, random port
        "host": LOOPBACK,  # otherwise all addresses
        "authenticate": "false",
        "ssl": "false",
    }
    command = [str(java.executable().with_name("jcmd")), str(pid), "ManagementAgent.start"]
    command += [f"jmxremote.{name}={value}" for name, value in options.items()]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=JCMD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise JmxNotOpened(node, port, f"Java's jcmd did not answer in {JCMD_SECONDS:g} s") from None
    if ended.returncode != 0:
        lines = (ended.stderr or ended.stdout).strip().splitlines() or ["jcmd told no reason"]
        raise JmxNotOpened(node, port, lines[0])
