"""Start, stop and look at the cluster of a data folder. Any process may call these, whoever started the cluster.

start   start a supervisor in the background, and wait until its workers serve
stop    end the supervisor, which ends its workers; then end the workers of a supervisor that was killed
status  what the supervisor last wrote, and which processes live
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from portfolio_stream.cluster.child import KILL_SECONDS, TERM_SECONDS, explain
from portfolio_stream.cluster.folder import ClusterFolder, SupervisorStatus, WorkerShown
from portfolio_stream.cluster.worker import FAILURES
from portfolio_stream.errors import ClusterNotServing, SupervisorEnded
from portfolio_stream.processes import OwnProcess, deferred_signals, send, wait_for_end
from portfolio_stream.settings import Settings

POLL_SECONDS = 0.1  # the supervisor's file can only be polled
#: a worker has KILL_SECONDS, and then the supervisor ends in moments
STOP_SECONDS = KILL_SECONDS + TERM_SECONDS


def status(settings: Settings) -> tuple[SupervisorStatus | None, dict[int, OwnProcess]]:
    """What the running supervisor shows; None if none runs. And the workers' live processes, by number."""
    folder = ClusterFolder(settings)
    supervisor, shown = folder.supervisor(), folder.status()
    is_its = supervisor is not None and shown is not None and shown.pid == supervisor.pid
    return shown if is_its else None, folder.workers()


def start(settings: Settings, arguments: Sequence[str], seconds: float, say: Callable[[str], None]) -> SupervisorStatus:
    """Start a supervisor, unless one runs, and wait until the wanted workers serve.

    `arguments` are those of `portfolio-stream`. If an ending signal comes first, the supervisor that was started here
    is stopped. Raises SupervisorEnded, and ClusterNotServing after `seconds`, or as soon as a worker cannot start: the
    supervisor goes on then.
    """
    folder = ClusterFolder(settings)
    folder.make()
    process = None
    if folder.supervisor() is None:
        with deferred_signals(), folder.supervisor_log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "portfolio_stream", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    try:
        return _until_serving(folder, process, settings, seconds, say)
    except KeyboardInterrupt:
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(STOP_SECONDS)
        raise


def _until_serving(
    folder: ClusterFolder,
    process: subprocess.Popen[bytes] | None,
    settings: Settings,
    seconds: float,
    say: Callable[[str], None],
) -> SupervisorStatus:
    deadline, told = time.monotonic() + seconds, ""
    while True:
        shown, _ = status(settings)
        if process is not None and process.poll() is not None and folder.supervisor() is None:
            raise SupervisorEnded(*_why(folder))  # it has not lost the race against another one
        if shown is not None:
            if shown.is_serving:
                return shown
            stuck = [worker for worker in shown.workers if _is_stuck(worker)]
            if stuck or time.monotonic() > deadline:
                raise ClusterNotServing(*_cause(stuck or shown.workers, shown))
            told = _tell(shown, told, say)
        elif time.monotonic() > deadline:
            raise ClusterNotServing("it is still starting", None)
        time.sleep(POLL_SECONDS)


def _is_stuck(worker: WorkerShown) -> bool:
    return worker.state == "refused" or (worker.failures >= FAILURES)


def _cause(workers: Sequence[WorkerShown], shown: SupervisorStatus) -> tuple[str, str | None]:
    for worker in workers:
        if worker.state != "serving":
            reason = worker.cause or f"it is {worker.state}"
            return f"{worker.name}: {reason.rstrip('.')}", worker.action
    return shown.problem or "not all wanted workers are there yet", None


def _tell(shown: SupervisorStatus, told: str, say: Callable[[str], None]) -> str:
    serving = sum(worker.state == "serving" for worker in shown.workers)
    now = f"{serving} of {shown.wanted} workers serve."
    if now != told:
        say(now)
    return now


def _why(folder: ClusterFolder) -> tuple[str, str]:
    lines = folder.supervisor_log.read_text("utf-8", "replace").splitlines()[-50:]
    return explain(lines) or ("its log has no error", f"Read {folder.supervisor_log}.")


def stop(settings: Settings, say: Callable[[str], None]) -> bool:
    """Returns whether anything ran."""
    folder = ClusterFolder(settings)
    supervisor = folder.supervisor()
    if supervisor is not None:
        send(supervisor, signal.SIGTERM)
        if not wait_for_end(supervisor, STOP_SECONDS):
            say(f"The supervisor (process {supervisor.pid}) runs {STOP_SECONDS:.0f} s after SIGTERM; it is killed.")
            send(supervisor, signal.SIGKILL)
            wait_for_end(supervisor, TERM_SECONDS)
    orphans = folder.workers().values()
    for worker in orphans:
        say(f"Worker process {worker.pid} has no supervisor; it is stopped.")
        send(worker, signal.SIGTERM)
    deadline = time.monotonic() + KILL_SECONDS
    for worker in orphans:
        if not wait_for_end(worker, max(0.0, deadline - time.monotonic())):
            os.killpg(worker.pid, signal.SIGKILL)
    return supervisor is not None or bool(orphans)
