"""Start, stop and look at the monitor of a data folder. Any process may call these, whoever started the monitor.

start   start watcher and auditor if none answers, then Alertmanager and Prometheus; they outlive the caller. Without
        watcher or auditor the others run all the same: their alerts say what is missing
stop    end everything that `start` started, and nothing else; the data stays
status  what runs, which processes Prometheus reaches, which alerts fire
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from portfolio_stream.broker.probe import is_free
from portfolio_stream.cluster import hosted
from portfolio_stream.cluster.child import KILL_SECONDS, explain, lines_since
from portfolio_stream.cluster.supervisor import worker_environment
from portfolio_stream.errors import (
    MonitorIncomplete,
    MonitorNotStarted,
    MonitorNotStopped,
    MonitorProgramMissing,
    MonitorRuns,
    PortInUse,
)
from portfolio_stream.http.addresses import is_loopback
from portfolio_stream.processes import OwnProcess, deferred_signals, send, wait_for_end, write_pid_file
from portfolio_stream.prometheus import answers
from portfolio_stream.prometheus.answers import PrometheusAlert, Target
from portfolio_stream.prometheus.configuration import (
    KEPT,
    MonitorPlan,
    alertmanager_file,
    budget_rules_file,
    prometheus_file,
    rules_file,
)
from portfolio_stream.prometheus.folder import HELPERS, SERVERS, MonitorFolder
from portfolio_stream.settings import Settings
from portfolio_stream.watch.alerts import ALERTS, for_at_most

READY_SECONDS = 60.0  # Prometheus reads its log of the last two hours first
POLL_SECONDS = 0.1  # none of them tells that it serves
LOOPBACK = "127.0.0.1"


class StartedProcess(NamedTuple):
    process: "subprocess.Popen[bytes]"
    log: Path
    #: how long the log was before
    since: int

    def why(self) -> str:
        """Why the process has ended, as its log says."""
        lines = lines_since(self.log, self.since)
        told = explain(lines)
        return told[0] if told is not None else (lines[-1] if lines else "its log is empty")


#: the processes that this command has started, by name
Started = dict[str, StartedProcess]


class MonitorProgram(NamedTuple):
    #: of its executable: Debian's first
    names: tuple[str, ...]
    #: of Debian
    package: str
    #: of the environment: the path of another executable
    variable: str


PROGRAMS: Mapping[str, MonitorProgram] = {
    "prometheus": MonitorProgram(("prometheus",), "prometheus", "PROMETHEUS"),
    "alertmanager": MonitorProgram(
        ("prometheus-alertmanager", "alertmanager"), "prometheus-alertmanager", "ALERTMANAGER"
    ),
}


class MonitorStatus(msgspec.Struct, frozen=True, kw_only=True):
    #: None: `monitor start` was never run here
    plan: MonitorPlan | None
    #: process ids, by name
    running: dict[str, int]
    #: the logs of the processes that were started and have ended by themselves, by name
    ended: dict[str, str]
    #: None: Prometheus does not answer
    targets: tuple[Target, ...] | None
    alerts: tuple[PrometheusAlert, ...] | None
    #: whether Prometheus has judged every alert since its start
    has_judged: bool

    @property
    def is_well(self) -> bool:
        """Both run, Prometheus reaches everything, and it has judged the alerts."""
        both = all(name in self.running for name in SERVERS)
        return both and bool(self.targets) and all(one.health == "up" for one in self.targets or ()) and self.has_judged


def found_programs(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the paths of both programs. Raises MonitorProgramMissing."""
    return {name: _found(program, environment) for name, program in PROGRAMS.items()}


def _found(program: MonitorProgram, environment: Mapping[str, str]) -> str:
    given = environment.get(program.variable)
    for name in (given,) if given else program.names:
        path = shutil.which(name, path=environment.get("PATH"))
        if path is not None:
            return path
    packages = " ".join(one.package for one in PROGRAMS.values())
    raise MonitorProgramMissing((given,) if given else program.names, packages, program.variable)


def status(settings: Settings) -> MonitorStatus:
    folder = MonitorFolder(settings)
    plan, running = folder.plan(), folder.running()
    port = plan.prometheus_port if plan is not None and "prometheus" in running else None
    return MonitorStatus(
        plan=plan,
        running={name: process.pid for name, process in running.items()},
        ended={name: str(folder.log(name)) for name in folder.started() if name not in running},
        targets=None if port is None else answers.targets(port),
        alerts=None if port is None else answers.alerts(port),
        has_judged=port is not None and answers.has_judged(port),
    )


def start(settings: Settings, plan: MonitorPlan, say: Callable[[str], None]) -> MonitorIncomplete | None:
    """Start what does not run, and return when both programs serve.

    If that fails, or an ending signal comes, everything ends again that was started here. Raises
    MonitorProgramMissing, MonitorRuns, PortInUse, MonitorNotStarted, and the errors of MonitorFolder. Returns an error
    if both programs run, and the watcher or the auditor could not be started.
    """
    programs = found_programs(os.environ)
    folder = MonitorFolder(settings)
    ports = {"prometheus": plan.prometheus_port, "alertmanager": plan.alertmanager_port}
    for name, port in ports.items():  # before a folder is made for nothing
        if name not in folder.running() and not is_free(port):
            raise PortInUse(LOOPBACK, port, f"give another --{name}-port")
    with folder.locked(), ExitStack() as undo:
        running = folder.running()
        if running.keys() & set(SERVERS) and plan != folder.plan():
            raise MonitorRuns
        folder.write_token(settings.web_token)
        alerts = ALERTS if plan.for_at_most is None else for_at_most(plan.for_at_most)
        rules = {"rules.yml": rules_file(alerts, plan.runbook)}
        if plan.has_budget_alerts:
            rules["slo.yml"] = budget_rules_file(plan.runbook)
        for name, content in rules.items():
            folder.write(name, content)
        paths = [folder.file(name) for name in rules]
        folder.write("prometheus.yml", prometheus_file(plan, paths, folder.file("token")))
        folder.write("alertmanager.yml", alertmanager_file())
        folder.write("plan.json", msgspec.json.encode(plan))
        started: Started = {}
        undo.callback(lambda: _end_all({n: one for n, one in folder.running().items() if n in started}))
        missing = _start_helpers(settings, plan, running, started, say)
        for name, command in _commands(folder, plan, programs).items():
            if name not in running:
                started[name] = _spawn(folder, name, command, os.environ)
        for name, port in ports.items():
            _until(lambda port=port: answers.is_ready(port), folder, name, started)  # type: ignore[misc]
        missing |= {name: started[name].why() for name in HELPERS if name in started and _has_ended(started[name])}
        undo.pop_all()
    return MonitorIncomplete({name: (why, folder.log(name)) for name, why in missing.items()}) if missing else None


def _commands(folder: MonitorFolder, plan: MonitorPlan, programs: Mapping[str, str]) -> dict[str, list[str]]:
    return {
        "alertmanager": [
            programs["alertmanager"],
            f"--config.file={folder.file('alertmanager.yml')}",
            f"--storage.path={folder.data('alertmanager')}",
            f"--web.listen-address={LOOPBACK}:{plan.alertmanager_port}",
            "--cluster.listen-address=",  # of several Alertmanagers; ours is alone
            "--log.level=warn",
        ],
        "prometheus": [
            programs["prometheus"],
            f"--config.file={folder.file('prometheus.yml')}",
            f"--storage.tsdb.path={folder.data('prometheus')}",
            f"--storage.tsdb.retention.time={KEPT}",
            f"--web.listen-address={LOOPBACK}:{plan.prometheus_port}",
            "--log.level=warn",
        ],
    }


def _start_helpers(
    settings: Settings,
    plan: MonitorPlan,
    running: Mapping[str, OwnProcess],
    started: Started,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Returns why a helper could not be started, by its name."""
    folder = MonitorFolder(settings)
    missing = {}
    for name, address in {"watcher": plan.watcher, "auditor": plan.auditor}.items():
        if name in running:
            continue
        folder.pid_file(name).unlink(missing_ok=True)  # of one that has ended by itself
        if answers.is_alive(address):
            continue
        if not is_loopback(address):
            say(f"No {name} answers at {address}, which is not this machine: start it there.")
            continue
        port = address.rpartition(":")[2]
        command = hosted.command(folder.pid_file(name), folder.log(name), _helper(name, port, plan))
        started[name] = _spawn(folder, name, command, worker_environment(os.environ, settings))
        try:
            _until(lambda address=address: answers.is_at_work(address), folder, name, started)  # type: ignore[misc]
        except MonitorNotStarted as error:
            if _has_ended(started[name]):
                missing[name] = error.reason
            else:  # such as an auditor that reads a large savepoint first
                say(f"The {name} is still starting after {READY_SECONDS:g} s. Its log is {folder.log(name)}.")
        else:
            say(f"The {name} is started: http://{address}")
    return missing


def _helper(name: str, port: str, plan: MonitorPlan) -> tuple[str, ...]:
    """A found violation does not end the auditor: without an auditor the alert on the violation would clear."""
    shortened = () if plan.for_at_most is None else (f"--for-at-most={plan.for_at_most:g}",)
    arguments = {
        "watcher": ("watch", f"--web-port={port}", *shortened),
        "auditor": ("verify", "--follow", "--keep-going", f"--web-port={port}"),
    }
    return ("portfolio_stream", *arguments[name])


def _spawn(folder: MonitorFolder, name: str, command: Sequence[str], environment: Mapping[str, str]) -> StartedProcess:
    with deferred_signals(), folder.log(name).open("ab") as log:
        since = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        write_pid_file(folder.pid_file(name), process.pid)
    return StartedProcess(process, folder.log(name), since)


def _has_ended(started: StartedProcess) -> bool:
    return started.process.poll() is not None


def _until(is_there: Callable[[], bool], folder: MonitorFolder, name: str, started: Started) -> None:
    """Raises MonitorNotStarted if the process ends first, or after READY_SECONDS."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        if name in started and _has_ended(started[name]):  # another process may answer in its place
            raise MonitorNotStarted(name, started[name].why(), folder.log(name))
        if is_there():
            return
        if time.monotonic() > deadline:
            raise MonitorNotStarted(name, f"it does not answer within {READY_SECONDS:g} s", folder.log(name))
        time.sleep(POLL_SECONDS)


def stop(settings: Settings) -> list[str]:
    """Returns the names of what ran. Raises MonitorNotStopped and the errors of MonitorFolder."""
    folder = MonitorFolder(settings)
    if not folder.path.exists():
        return []
    with folder.locked():
        running = folder.running()
        _end_all(running)
        for name in (*SERVERS, *HELPERS):
            folder.pid_file(name).unlink(missing_ok=True)
        folder.write_token(None)
    return list(running)


def _end_all(running: Mapping[str, OwnProcess]) -> None:
    for process in running.values():
        send(process, signal.SIGTERM)
    deadline = time.monotonic() + KILL_SECONDS
    for name, process in running.items():
        if not wait_for_end(process, max(0.0, deadline - time.monotonic())):
            send(process, signal.SIGKILL)
            if not wait_for_end(process, KILL_SECONDS):
                raise MonitorNotStopped(name, process.pid)
