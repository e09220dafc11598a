"""Flink's own command, from the extra `flink` (apache-flink-libraries), on the Java that runs the embedded broker.

1. The jars are those of the installed extra, or of the folder that FLINK_LIB names: .../site-packages/pyflink/lib.
2. On Java 24 and later Flink 2.3's command ends with exit code 31 and no word: java.util.ServiceLoader looks at the
   constructors of Flink's YARN client, and Hadoop's classes are not there. Two empty classes stand in for them.
"""

import asyncio
import os
import struct
from pathlib import Path

import pytest

from portfolio_stream.flink.interface import jar
from portfolio_stream.kafka.tools import java

SECONDS = 120.0  # a start of its JVM takes 3 s, and 20 s on a busy machine
MAIN = "org.apache.flink.client.cli.CliFrontend"
CONFIGURATION = "org/apache/hadoop/conf/Configuration"
#: the classes that stand in for Hadoop's, each with its superclass
HADOOP = {CONFIGURATION: "java/lang/Object", "org/apache/hadoop/yarn/conf/YarnConfiguration": CONFIGURATION}
JAVA_8, PUBLIC_SUPER = 52, 0x21


class FlinkClient:
    def __init__(self, folder: Path, address: str) -> None:
        """`address` is the cluster's, host:port. Skips the test if Flink's jars are not there."""
        self._lib = _lib()
        self._address = address
        self._folder = folder
        folder.mkdir()
        (folder / "config.yaml").write_text("rest.address: 127.0.0.1\n")
        for name, parent in HADOOP.items():
            path = folder / f"{name}.class"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(empty_class(name, parent))

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run `flink ARGUMENTS...`. Returns its exit code and its output without the frames of stack traces."""
        process = await asyncio.create_subprocess_exec(
            str(java.executable()), "-XX:TieredStopAtLevel=1", "-cp", f"{self._lib}/*:{self._folder}", MAIN,
            *arguments, "-m", self._address,
            env={**os.environ, "FLINK_CONF_DIR": str(self._folder)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        lines = output.decode(errors="replace").splitlines()
        return process.returncode or 0, "\n".join(line for line in lines if not line.startswith("\tat "))


def _lib() -> Path:
    given, found = os.environ.get("FLINK_LIB"), jar()
    lib = Path(given) if given else None if found is None else found.parent
    if lib is None or not sorted(lib.glob("flink-dist-*.jar")):
        pytest.skip("Flink's own command is an extra: pip install --no-deps apache-flink-libraries, or set FLINK_LIB")
    return lib


def empty_class(name: str, parent: str) -> bytes:
    """A Java class without members (The Java Virtual Machine Specification, 4.1)."""
    pool = b"".join(b"\x01" + struct.pack(">H", len(one)) + one.encode() + b"\x07" + struct.pack(">H", index)
                    for index, one in ((1, name), (3, parent)))  # fmt: skip
    head = struct.pack(">IHHH", 0xCAFEBABE, 0, JAVA_8, 5)
    return head + pool + struct.pack(">7H", PUBLIC_SUPER, 2, 4, 0, 0, 0, 0)
