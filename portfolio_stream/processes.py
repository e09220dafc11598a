"""Find and signal our processes by identity, not by pid alone.

A pid file may outlive its process, and the system may give the pid to another program. A process is ours only if its
start time equals the pid file's and its command line has the words that the caller expects. No other process ever gets
a signal.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from portfolio_stream.files import write_atomically

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_SECONDS = 0.02  # a process can wait only for its own children; all others must be polled


class OwnProcess(NamedTuple):
    pid: int
    #: start time as the platform writes it; it is only compared
    started: str


def ending_signals() -> tuple[signal.Signals, ...]:
    """Returns the signals that ask a command to end. Under nohup, SIGHUP is not among them."""
    is_kept = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(one for one in ENDING_SIGNALS if one is not signal.SIGHUP or not is_kept)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Hold back the ending signals until the block is over, then raise them.

    A signal between a process's start and the record of its pid would leave a process that no record names. Only the
    main thread runs signal handlers, so in another thread this does nothing. A signal mask would not do: the child
    would inherit it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        waiting.append(number)

    before = {number: signal.signal(number, note) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for arrived in dict.fromkeys(waiting):
            signal.raise_signal(arrived)


def write_pid_file(path: Path, pid: int) -> None:
    """Record a process that has just been started. Writes nothing if the process has already ended."""
    seen = _look(pid)
    if seen is not None:
        write_atomically(path, json.dumps({"pid": pid, "started": seen[0]}).encode("ascii"))


def find(pid_file: Path, argument: str) -> OwnProcess | None:
    """Returns the live process that the pid file records, or None.

    Also returns None if the process started at another time than the pid file says, or its command line lacks
    `argument`: the pid then belongs to another program.
    """
    try:
        content = json.loads(pid_file.read_text(encoding="ascii"))
        process = OwnProcess(int(content["pid"]), str(content["started"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    seen = _look(process.pid)
    is_same = seen is not None and seen[0] == process.started and argument in seen[1]
    return process if is_same else None


def is_alive(process: OwnProcess) -> bool:
    seen = _look(process.pid)
    return seen is not None and seen[0] == process.started


def send(process: OwnProcess, number: signal.Signals) -> None:
    """Send a signal to the process, unless the process has ended."""
    if is_alive(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def wait_for_end(process: OwnProcess, seconds: float) -> bool:
    """Returns True as soon as the process has ended, False if it still runs after `seconds`."""
    deadline = time.monotonic() + seconds
    while is_alive(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _look(pid: int) -> tuple[str, str] | None:
    """Returns start time and command line of a live process; None if the process is a zombie or does not exist."""
    return _look_in_proc(pid) if Path("/proc/self/stat").exists() else _look_with_ps(pid)


def _look_in_proc(pid: int) -> tuple[str, str] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the program's name in parentheses may hold any character
    state, threads, started = fields[0], int(fields[17]), fields[19]
    has_ended = state in "ZX" and threads <= 1  # the process's other threads may still hold its ports
    return None if has_ended else (started, arguments.replace(b"\0", b" ").decode("utf-8", "replace"))


def _look_with_ps(pid: int) -> tuple[str, str] | None:
    columns = ["ps", "-ww", "-o", "state=,lstart=,command=", "-p", str(pid)]
    environment = {"LC_ALL": "C", "PATH": os.defpath}  # dates in one language
    words = subprocess.run(columns, capture_output=True, text=True, check=False, env=environment)
    state, _, rest = words.stdout.strip().partition(" ")
    started = " ".join(rest.split()[:5])  # Mon Nov 23 10:00:00 2026
    return (started, rest) if started and not state.startswith("Z") else None
