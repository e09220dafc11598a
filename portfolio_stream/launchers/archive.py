"""The class archive of Kafka's tools: their classes, loaded and linked once, in a file that Java maps into memory.

- A tool starts in half the time with it: `python -m benchmarks.launchers` measures.
- The archive is bound to one Java, its options COMMON, and these jars. Java compares them when it starts, and does
  without the archive, in silence, if the file does not exist, does not fit or is damaged (-XX:+VerifySharedSpaces: its
  checksums cost 0.03 s, and without them a damaged file ends Java with a crash).
- The file gets its name by a rename, so two processes may make it at the same time. A running Java keeps the file that
  it has mapped.
"""

import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from portfolio_stream.kafka.tools.java import COMMON
from portfolio_stream.launchers.scripts import LOG_SETTINGS, Paths

DIGITS = 12
NOBODY = "127.0.0.1:1"  # an address where no broker answers: the tools load nearly all of their classes all the same
SOON = "default.api.timeout.ms=50\nrequest.timeout.ms=50\nmax.block.ms=50\n"  # and then they give up
#: the runs whose classes the archive gets; each ends by itself
RUNS: Mapping[str, Sequence[str]] = {
    "org.apache.kafka.tools.TopicCommand": ("--list", "--command-config", "soon.properties"),
    "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand": ("--list", "--timeout", "50"),
    "org.apache.kafka.tools.ConsoleProducer": ("--topic", "none"),
    "org.apache.kafka.tools.consumer.ConsoleConsumer": ("--topic", "none", "--timeout-ms", "50"),
    "kafka.admin.ConfigCommand": ("--describe", "--entity-type", "topics", "--command-config", "soon.properties"),
}
RUN_SECONDS = 60.0  # on a busy machine; a second on an idle one
DUMP_SECONDS = 120.0


def path(base: Path, java_home: Path, class_path: str) -> Path:
    """Returns where the archive of this Java and these jars stands, in the folder `base`."""
    release = (java_home / "release").read_bytes()
    digest = hashlib.sha256(release + str(java_home).encode() + class_path.encode()).hexdigest()
    return base / f"classes-{digest[:DIGITS]}.jsa"


def provide(paths: Paths, progress: Callable[[str], None]) -> bool:
    """Make the archive if it does not exist. Returns whether it exists now; without it the tools only start later."""
    if paths.archive.is_file():
        return True
    progress("Preparing Kafka's tools to start faster (once; takes 5 to 20 seconds).")
    try:
        with tempfile.TemporaryDirectory(prefix=".archive.", dir=paths.archive.parent) as folder:
            made = _make(paths, Path(folder))
            made.rename(paths.archive)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        progress(f"The class archive was not made ({reason}). Kafka's tools work, and start later.")
        return False
    return True


def _make(paths: Paths, folder: Path) -> Path:
    (folder / "soon.properties").write_text(SOON, encoding="ascii")
    lists = [folder / f"{number}.classes" for number in range(len(RUNS))]
    runs = [_start(paths, folder, kept, main, *more) for kept, (main, more) in zip(lists, RUNS.items(), strict=True)]
    for run in runs:
        _wait(run)
    merged, archive = folder / "classes", folder / "archive"
    merged.write_text("".join(f"{line}\n" for line in merge(one.read_text() for one in lists)), encoding="utf-8")
    dump = ("-Xshare:dump", f"-XX:SharedClassListFile={merged}", f"-XX:SharedArchiveFile={archive}")
    quiet = subprocess.DEVNULL
    command = [*_java(paths), *dump, "-cp", paths.class_path]
    subprocess.run(command, check=True, stdin=quiet, stdout=quiet, stderr=quiet, timeout=DUMP_SECONDS)
    return archive


def merge(lists: Iterable[str]) -> list[str]:
    """Returns the lines of all class lists, each once.

    The numbers of one run's classes mean nothing in another run. A class with a `source` needs them, and is left out.
    """
    lines = [line for text in lists for line in text.splitlines() if line and not line.startswith("#")]
    return list(dict.fromkeys(line.partition(" id: ")[0] for line in lines if " source: " not in line))


def _start(paths: Paths, folder: Path, kept: Path, main: str, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [
        *_java(paths),
        f"-XX:DumpLoadedClassList={kept}",
        f"-Dlog4j2.configurationFile={LOG_SETTINGS['log4j']}",
        "-cp",
        paths.class_path,
        main,
        "--bootstrap-server",
        NOBODY,
        *arguments,
    ]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, stdin=quiet, stdout=quiet, stderr=quiet)


def _wait(run: "subprocess.Popen[bytes]") -> None:
    try:
        run.wait(RUN_SECONDS)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()
        raise


def _java(paths: Paths) -> Sequence[str]:
    return (str(paths.java_home / "bin" / "java"), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *COMMON)
