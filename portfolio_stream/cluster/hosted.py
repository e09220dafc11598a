"""A process that outlives the one that started it: `python -m portfolio_stream.cluster.hosted PID_FILE LOG MODULE ...`.

It does two things that nobody can do for it when the other process is gone, and then becomes the module:

1. It writes its pid file, so that later commands find it.
2. It keeps its log small: its standard output and standard error are that file.
"""

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from portfolio_stream.cluster.logs import STANDARD, keep_small
from portfolio_stream.processes import write_pid_file

MODULE = "portfolio_stream.cluster.hosted"
WORKER = ("faust", "-A", "portfolio_stream", "worker", "-l", "info")


def command(pid_file: Path, log: Path, program: Sequence[str] = WORKER) -> tuple[str, ...]:
    """`program` is a module with its arguments."""
    return (sys.executable, "-m", MODULE, str(pid_file), str(log), *program)


def main() -> None:
    pid_file, log, module, *arguments = sys.argv[1:]
    write_pid_file(Path(pid_file), os.getpid())
    keep_small(Path(log), STANDARD)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
