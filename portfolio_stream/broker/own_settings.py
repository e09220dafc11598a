"""The operator's own broker settings: server.properties in the data directory, in Kafka's form.

They go over the settings of `server`, and take effect when a broker starts. Kafka checks their values. A property that
decides who the broker is, where it listens or where its data lies is refused: other processes find the brokers by them.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from portfolio_stream.errors import BrokerSettingRefused

FILE = "server.properties"
TEMPLATE = """\
# Settings of your own for the brokers of this folder, such as log.retention.hours=24.
# They take effect at the next start: portfolio-stream broker restart
# broker-0.properties, which each start writes again, has all settings of broker 0.
"""
#: who decides the property instead
REFUSED: Mapping[str, str] = {
    "process.roles": "each broker is a controller too",
    "node.id": "brokers are numbered from 0",
    "broker.id": "brokers are numbered from 0",
    "listeners": "--port chooses the ports",
    "advertised.listeners": "--port chooses the ports",
    "listener.security.protocol.map": "the brokers listen on loopback, in plain text",
    "inter.broker.listener.name": "the brokers listen on loopback, in plain text",
    "security.inter.broker.protocol": "the brokers listen on loopback, in plain text",
    "controller.listener.names": "cluster.json has the controllers' ports",
    "controller.quorum.voters": "cluster.json has the controllers' ports",
    "controller.quorum.bootstrap.servers": "cluster.json has the controllers' ports",
    "log.dir": "--data-dir chooses the folder",
    "log.dirs": "--data-dir chooses the folder",
    "metadata.log.dir": "--data-dir chooses the folder",
    "zookeeper.connect": "Kafka 4 has no ZooKeeper",
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SEPARATOR = re.compile(r"(?:\\.|[^\\=:\s])*")  # up to the first = : or blank without a backslash before it
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def read(path: Path) -> Mapping[str, str]:
    """Returns the operator's settings; none without the file. Raises BrokerSettingRefused."""
    try:
        settings = dict(parse(path.read_text(encoding="utf-8", errors="replace")))
    except FileNotFoundError:
        return {}
    for name in settings:
        if name in REFUSED:
            raise BrokerSettingRefused(path, name, REFUSED[name])
        if not NAME.fullmatch(name):
            raise BrokerSettingRefused(path, name, "no setting of Kafka has such a name")
    return settings


def parse(text: str) -> Iterator[tuple[str, str]]:
    """Read the form of java.util.Properties. A name that stands twice comes twice; the later one counts."""
    for line in _logical_lines(text):
        found = _SEPARATOR.match(line)
        name = "" if found is None else found[0]
        rest = line[len(name) :].lstrip(" \t\f")
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(" \t\f")
        yield _unescaped(name), _unescaped(rest)


def _logical_lines(text: str) -> Iterator[str]:
    """A backslash at a line's end joins the next line to it. Comments and empty lines are left out."""
    begun = ""
    for line in re.split(r"\r\n|\r|\n", text):
        stripped = line.lstrip(" \t\f")
        if not begun and (not stripped or stripped[0] in "#!"):
            continue
        begun += stripped
        if (len(begun) - len(begun.rstrip("\\"))) % 2 == 0:
            yield begun
            begun = ""
        else:
            begun = begun[:-1]
    if begun:
        yield begun


def _unescaped(text: str) -> str:
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _CONTROL.get(found[2], found[2]), text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # Java writes UTF-16 units
