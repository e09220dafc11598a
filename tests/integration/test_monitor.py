"""`portfolio-stream monitor`: a real Prometheus and Alertmanager, and one HTTP server in the place of the system.

They are skipped where Debian's packages are not installed.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream.monitoring.objectives import alert_name
from portfolio_stream.processes import OwnProcess, find, is_alive
from portfolio_stream.watch.slos import OBJECTIVES
from tests.ports import free_port

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("prometheus-alertmanager") is None,
    reason="Debian's prometheus and prometheus-alertmanager are not installed",
)
TOKEN = "a-token-of-more-than-16-characters"
SEEN_SECONDS = 30.0
POLL_SECONDS = 0.1


class FakeSystem(ThreadingHTTPServer):
    """Watcher, auditor and worker in one: all brokers are away."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.address = f"127.0.0.1:{self.server_port}"
        #: the headers Authorization that came, by path
        self.authorizations: dict[str, set[str | None]] = {}


class _Answers(BaseHTTPRequestHandler):
    server: FakeSystem

    def do_GET(self) -> None:
        self.server.authorizations.setdefault(self.path, set()).add(self.headers.get("Authorization"))
        body, kind = {
            "/health/live": ("{}", "application/json"),
            "/targets": (json.dumps([{"targets": [self.server.address]}]), "application/json"),
            "/metrics": ('portfolio_stream_kafka_brokers{state="live"} 0\n', "text/plain; version=0.0.4"),
        }[self.path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def system() -> Iterator[FakeSystem]:
    with FakeSystem() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class MonitorHost:
    def __init__(self, folder: Path, system: FakeSystem) -> None:
        self.folder = folder / "data" / "monitor"
        self.ports = (free_port(), free_port())
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PORTFOLIO_")}
        self.environment = kept | {
            "PORTFOLIO_DATA_DIR": str(folder / "data"),
            "PORTFOLIO_WATCHER": system.address,
            "PORTFOLIO_AUDITOR": system.address,
            "PORTFOLIO_WEB_TOKEN": TOKEN,
        }

    def type(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "portfolio_stream", "monitor", *arguments]
        return subprocess.run(command, env=self.environment | variables, capture_output=True, text=True, timeout=120)

    def start(
        self, *options: str, for_at_most: str | None = "2s", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        ports = [f"--prometheus-port={self.ports[0]}", f"--alertmanager-port={self.ports[1]}"]
        drill = [] if for_at_most is None else [f"--for-at-most={for_at_most}"]
        return self.type("start", *ports, "--scrape-interval=1s", *drill, *options, **variables)

    def status(self) -> Mapping[str, Any]:
        shown: Mapping[str, Any] = json.loads(self.type("status", "-o", "json").stdout)
        return shown

    def processes(self) -> list[OwnProcess]:
        found = [find(path, str(self.folder)) for path in self.folder.glob("*.pid")]
        return [process for process in found if process is not None]


@pytest.fixture
def host(tmp_path: Path, system: FakeSystem) -> Iterator[MonitorHost]:
    made = MonitorHost(tmp_path, system)
    yield made
    assert 0 == made.type("stop").returncode


def firing(host: MonitorHost) -> set[str]:
    return {one["labels"]["alertname"] for one in host.status()["alerts"] or () if one["state"] == "firing"}


def jobs(host: MonitorHost) -> set[str]:
    """What Prometheus reaches."""
    return {target["labels"]["job"] for target in host.status()["targets"] or () if target["health"] == "up"}


def test_an_alert_fires_in_a_prometheus_that_survives_its_command(host: MonitorHost, system: FakeSystem) -> None:
    """Both run after `start`, Prometheus reaches worker, watcher and auditor, and `stop` ends both and keeps the data.

    The token is in no command line and in one file alone, which nobody else can read. Only a worker gets the token.
    """
    done = host.start()
    assert 0 == done.returncode, done.stderr
    deadline = time.monotonic() + SEEN_SECONDS
    while "KafkaDown" not in firing(host) or jobs(host) != {"workers", "watcher", "auditor"}:
        assert time.monotonic() < deadline, host.type("status").stdout
        time.sleep(POLL_SECONDS)
    assert 0 == host.type("status").returncode
    assert {None} == system.authorizations["/targets"]
    assert {None, f"Bearer {TOKEN}"} == system.authorizations["/metrics"]

    processes = host.processes()
    assert 2 == len(processes)
    assert not any(TOKEN in Path(f"/proc/{one.pid}/cmdline").read_text() for one in processes)
    holders = [path for path in host.folder.iterdir() if path.is_file() and TOKEN in path.read_text()]
    assert [host.folder / "token"] == holders
    assert 0o600 == stat.S_IMODE(holders[0].stat().st_mode)

    assert 0 == host.start().returncode  # both run already: nothing to do
    assert processes == host.processes()
    other = host.start("--scrape-interval=5s")
    assert 1 == other.returncode
    assert "monitor stop" in other.stderr

    assert "Stopped: " in host.type("stop").stdout
    assert not any(map(is_alive, processes))
    assert (host.folder / "prometheus").is_dir()
    assert not (host.folder / "token").exists()
    assert 1 == host.type("status").returncode


def test_prometheus_has_the_alerts_on_burn_rates(host: MonitorHost) -> None:
    """Two for each objective, in a state that Prometheus could compute."""
    assert 0 == host.start(for_at_most=None).returncode
    url = f"http://127.0.0.1:{host.ports[0]}/api/v1/rules?type=alert"
    deadline, rules = time.monotonic() + SEEN_SECONDS, [{"health": "unknown"}]
    while {"ok"} != {rule["health"] for rule in rules}:
        assert time.monotonic() < deadline, rules
        time.sleep(POLL_SECONDS)
        with urllib.request.urlopen(url, timeout=5) as reply:
            rules = [rule for group in json.load(reply)["data"]["groups"] for rule in group["rules"]]
    names = [rule["name"] for rule in rules]
    assert [2] * len(OBJECTIVES) == [names.count(alert_name(objective)) for objective in OBJECTIVES]


def test_a_port_that_is_taken_is_named(host: MonitorHost, system: FakeSystem) -> None:
    """Nothing is left, neither a process nor a folder."""
    done = host.start(f"--alertmanager-port={system.server_port}")
    assert 1 == done.returncode
    assert f"Port {system.server_port}" in done.stderr
    assert "--alertmanager-port" in done.stderr
    assert not host.folder.exists()


def test_an_auditor_that_cannot_start_is_no_success(host: MonitorHost) -> None:
    """Without Kafka the auditor serves for a moment, and ends. `start` says so each time, and Prometheus runs on.

    `status` names its log and how to start it again, and does not say that no alert fires before one was judged.
    """
    without_kafka = {
        "PORTFOLIO_AUDITOR": f"127.0.0.1:{free_port()}",
        "PORTFOLIO_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
    }
    for _ in range(2):
        done = host.start(for_at_most=None, **without_kafka)
        assert 1 == done.returncode, done.stdout
        assert "The auditor is started" not in done.stderr
        cause, action = done.stderr.splitlines()[-2:]
        assert "The auditor has not started: No Kafka broker answers" in cause
        assert f"{host.folder / 'auditor.log'}" in action
        assert {"prometheus", "alertmanager"} == host.status()["running"].keys()
        assert ("No alert fires." in done.stdout) <= ("has not judged" not in done.stdout)
    shown = host.type("status")
    assert 1 == shown.returncode
    assert f"auditor: has ended. Its log is {host.folder / 'auditor.log'}" in shown.stdout
    assert "monitor start" in shown.stdout
    host.type("stop")
    nothing = host.type("status").stdout
    assert "No monitor runs. Start it with `portfolio-stream monitor start`.\n" == nothing


def test_a_program_that_is_missing_is_named_with_its_package(host: MonitorHost) -> None:
    done = host.start(ALERTMANAGER="/nowhere/alertmanager")
    assert 1 == done.returncode
    assert "apt-get install prometheus prometheus-alertmanager" in done.stderr
    assert "slo" in done.stderr


def test_a_program_that_ends_at_once_leaves_nothing_running(host: MonitorHost) -> None:
    done = host.start(PROMETHEUS=shutil.which("false") or "")
    assert 1 == done.returncode
    assert "prometheus has not started" in done.stderr
    assert [] == host.processes()
