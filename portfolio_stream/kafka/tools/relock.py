"""Write kafka.lock again: `python -m portfolio_stream.kafka.tools.relock`. Needed when KAFKA_VERSION or a name below
changes.

jgo resolves the artifacts from Maven's metadata, over the network. No start of a broker runs this.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jgo.maven import MavenContext, PythonResolver
from jgo.parse import Coordinate

from portfolio_stream.files import write_atomically
from portfolio_stream.kafka.tools.jars import KAFKA_VERSION, LOCK, Jar
from portfolio_stream.kafka.tools.repository import base_address

LOG4J_VERSION = "2.25.3"
# `!` stops jgo from reading these artifacts as BOMs too: log4j's BOM would downgrade kafka-clients to 3.9.1.
WANTED = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}!",
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}!",
    f"org.apache.logging.log4j:log4j-core:{LOG4J_VERSION}!",
    f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}!",
)
#: Kafka Connect and its web server: half of all jars. Neither the broker nor the tools that we run load them.
LEFT_OUT = (
    "org.apache.kafka:connect-",
    "org.glassfish",
    "org.eclipse.jetty",
    "jakarta.",
    "javax.",
    "com.sun.activation",
    "com.fasterxml.jackson.jakarta",
    "com.fasterxml.jackson.module",
    "com.fasterxml.jackson.dataformat:jackson-dataformat-yaml",
    "io.swagger",
    "io.github.classgraph",
    "org.javassist",
    "org.apache.maven",
    "org.codehaus.plexus",
    "org.yaml",
)


def resolve(names: Sequence[str] = WANTED) -> tuple[Jar, ...]:
    """Returns the named artifacts and all jars that they need at run time, sorted.

    Raises ValueError if a Kafka jar has another version than KAFKA_VERSION.
    """
    repository = {"central": base_address(os.environ)}
    context = MavenContext(resolver=PythonResolver(lenient=True), remote_repos=repository, timeout=60)
    wanted = [context.create_dependency(Coordinate.parse(text)) for text in names]
    given, needed = context.resolver.resolve(wanted)
    at_run_time = [dependency for dependency in needed if dependency.scope in ("compile", "runtime")]
    found = {_jar(dependency.artifact) for dependency in (*given, *at_run_time) if _is_kept(dependency.artifact)}
    versions = {jar.version for jar in found if jar.group == "org.apache.kafka"}
    if versions != {KAFKA_VERSION}:
        raise ValueError(f"Kafka's jars were resolved to {sorted(versions)}, not to {KAFKA_VERSION} alone")
    return tuple(sorted(found))


def _is_kept(artifact: Any) -> bool:
    return not f"{artifact.groupId}:{artifact.artifactId}".startswith(LEFT_OUT)


def _jar(artifact: Any) -> Jar:
    content = Path(artifact.resolve()).read_bytes()
    names = (artifact.groupId, artifact.artifactId, artifact.version)
    return Jar(*names, hashlib.sha256(content).hexdigest(), len(content))


if __name__ == "__main__":
    write_atomically(LOCK, "".join(f"{jar}\n" for jar in resolve()).encode("ascii"))
