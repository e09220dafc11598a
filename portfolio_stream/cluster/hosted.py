"""The process of a supervised worker: `python -m portfolio_stream.cluster.hosted PID_FILE LOG FAUST_ARGUMENTS...`.

It does two things that the supervisor cannot do for it after kill -9 of the supervisor, and then becomes `faust`:

1. It writes its pid file, so that the next supervisor finds it.
2. It keeps its log small: its standard output and standard error are that file.
"""

import os
import runpy
import sys
from pathlib import Path

from portfolio_stream.cluster.logs import STANDARD, keep_small
from portfolio_stream.processes import write_pid_file

MODULE = "portfolio_stream.cluster.hosted"
WORKER = ("-A", "portfolio_stream", "worker", "-l", "info")


def command(pid_file: Path, log: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", MODULE, str(pid_file), str(log), *WORKER)


def main() -> None:
    pid_file, log, *arguments = sys.argv[1:]
    write_pid_file(Path(pid_file), os.getpid())
    keep_small(Path(log), STANDARD)
    sys.argv = ["faust", *arguments]
    runpy.run_module("faust", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
