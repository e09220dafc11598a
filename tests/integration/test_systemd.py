"""The units of deploy/systemd. No systemd runs here: the tests show that they fit each other, the code and systemd."""

import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from portfolio_stream import cli
from portfolio_stream.broker import cluster as brokers
from portfolio_stream.cluster import child
from portfolio_stream.commands import systemctl
from portfolio_stream.commands.service_manager import tell_ready
from portfolio_stream.errors import UnitMissing
from portfolio_stream.launchers.kinds import Script
from portfolio_stream.launchers.scripts import Paths, text_of
from portfolio_stream.settings import VARIABLES, Settings

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
PROGRAMS = "/opt/portfolio-stream/bin/"
UNITS = {path.name: path.read_text() for path in FOLDER.glob("*.service")}
#: the longest time that the code itself takes for an end; systemd must wait longer before it kills
LONGEST_STOP = {
    "kafka.service": 3 * (brokers.STOP_SECONDS + brokers.KILL_SECONDS),
    "portfolio-worker@.service": child.KILL_SECONDS,
    "portfolio-cluster.service": child.KILL_SECONDS + child.TERM_SECONDS,
    "portfolio-watcher.service": child.KILL_SECONDS,
    "portfolio-auditor.service": child.KILL_SECONDS,
}
#: a bad setting. The auditor also ends so if its first look finds no Kafka: there StartLimitBurst ends the tries
NO_RESTART = {unit: ["2"] for unit in UNITS} | {"portfolio-auditor.service": []}


def values(unit: str, directive: str) -> Sequence[str]:
    return re.findall(rf"^{directive}=(.*)$", UNITS[unit], re.MULTILINE)


def test_there_is_a_unit_for_each_kind_of_process() -> None:
    """Brokers, workers, supervisor, watcher, auditor."""
    assert LONGEST_STOP.keys() == UNITS.keys()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """systemd only warns of a directive that it does not know. The programs are replaced by one that exists."""
    for name, text in UNITS.items():
        named = name.replace("@.", "@1.")
        (tmp_path / named).write_text(re.sub(rf"{PROGRAMS}[a-z-]+", "/bin/true", text))
        checked = subprocess.run(
            ["systemd-analyze", "verify", str(tmp_path / named)], capture_output=True, text=True, check=False
        )
        assert (0, "") == (checked.returncode, checked.stdout + checked.stderr)


@pytest.mark.parametrize("unit", UNITS)
def test_each_command_is_one_of_ours(unit: str) -> None:
    """Every command of ours takes the options that its unit gives. faust is the worker."""
    for line in (*values(unit, "ExecStartPre"), *values(unit, "ExecStart")):
        program, *arguments = shlex.split(re.sub(r" \$[A-Z]+_OPTIONS$", "", line))
        assert program.startswith(PROGRAMS)
        if program == f"{PROGRAMS}portfolio-stream":
            assert 0 == cli.run([*arguments, "--help"])
        else:
            assert [f"{PROGRAMS}faust", "-A", "portfolio_stream", "worker"] == [program, *arguments[:3]]


@pytest.mark.parametrize("unit", UNITS)
def test_each_variable_is_a_setting(unit: str) -> None:
    """A variable that nothing reads would have no effect."""
    given = dict(pair.split("=", 1) for pair in values(unit, "Environment"))
    assert {name for name in given if name.startswith("PORTFOLIO_")} <= VARIABLES
    example = re.findall(r"^(?:# )?(PORTFOLIO_\w+)=(\S*)", (FOLDER / "environment.example").read_text(), re.MULTILINE)
    settings = {name: value for name, value in (*given.items(), *example) if name in VARIABLES and "%" not in value}
    assert Settings.from_environment(settings).bootstrap_servers == "127.0.0.1:9092"
    assert {name for name, _ in example} <= VARIABLES


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_waits_longer_than_the_process_needs_to_end(unit: str) -> None:
    """A process that systemd kills too early leaves an open transaction. A bad setting is not tried again and again."""
    (seconds,) = values(unit, "TimeoutStopSec")
    assert int(seconds) > LONGEST_STOP[unit]
    assert [["SIGTERM"], ["mixed"], ["on-failure"], NO_RESTART[unit]] == [
        values(unit, name) for name in ("KillSignal", "KillMode", "Restart", "RestartPreventExitStatus")
    ]


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_may_write_its_own_folders_alone(unit: str) -> None:
    """All folders of its settings lie where systemd lets it write, and its user is one that sysusers makes."""
    assert ["strict"] == values(unit, "ProtectSystem")
    assert ["yes"] == values(unit, "NoNewPrivileges")
    roots = {"StateDirectory": "/var/lib", "LogsDirectory": "/var/log", "CacheDirectory": "/var/cache"}
    writable = {f"{root}/{name}" for kind, root in roots.items() for name in values(unit, kind)}
    folders = re.findall(r"(?:_DIR|_HOME|--data-dir)[= ](/\S+)", "\n".join(values(unit, "(?:Environment|ExecStart)")))
    assert folders
    assert all(
        any(f"{folder}/".startswith(f"{one}/") for one in writable) for folder in folders if folder != "/var/log"
    )
    users = re.findall(r"^u (\S+)", (FOLDER / "portfolio-stream.sysusers").read_text(), re.MULTILINE)
    assert set(values(unit, "User")) <= set(users)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder with a real systemctl, which knows the unit portfolio-worker@1, and the launcher of ours."""
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "systemctl"
    real.write_text('#!/bin/sh\ncase $1 in cat) [ $2 = portfolio-worker@1.service ];; *) echo real "$@";; esac\n')
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nshift 3\necho ours "$@"\n')
    launcher = tmp_path / "systemctl"
    paths = Paths(Path("/java"), "jars", Path("/archive"), python, tmp_path)
    launcher.write_text(text_of("systemctl", Script("systemctl.sh"), paths))
    for program in (real, python, launcher):
        program.chmod(0o755)
    return tmp_path


OURS = "ours systemctl portfolio_stream.commands.systemctl:main"


@pytest.mark.parametrize(
    ("arguments", "with_systemd", "without"),
    [
        ("restart kafka", f"{OURS} restart kafka", f"{OURS} restart kafka"),
        ("--no-block start kafka.service zookeeper", *[f"{OURS} start kafka zookeeper"] * 2),
        ("status portfolio-worker@1", "real status portfolio-worker@1", f"{OURS} status portfolio-worker@1"),
        ("restart ssh", "real restart ssh", "real restart ssh"),
        ("stop kafka ssh", "real stop kafka ssh", "real stop kafka ssh"),
        ("enable kafka", "real enable kafka", "real enable kafka"),
        ("list-units", "real list-units", "real list-units"),
        ("stop *", "real stop *", "real stop *"),
    ],
)
def test_systemctl_takes_what_no_systemd_has(host: Path, arguments: str, with_systemd: str, without: str) -> None:
    """Where systemd runs and has the unit, and for all other units and verbs, the real systemctl does the work."""
    launcher, environment = host / "systemctl", {"PATH": f"{host}:{host}/real:/usr/bin:/bin"}
    script = launcher.read_text()
    for booted, expected in (("/", with_systemd), ("/nowhere", without)):
        launcher.write_text(script.replace("/run/systemd/system", booted))
        ran = subprocess.run([launcher, *arguments.split()], capture_output=True, text=True, env=environment)
        assert (0, f"{expected}\n") == (ran.returncode, ran.stdout)


def test_without_a_real_systemctl_other_units_are_unknown(host: Path) -> None:
    """As the shell says it. The launcher alone on PATH does not take itself for the real one."""
    environment = {"PATH": str(host)}
    ran = subprocess.run(
        [host / "systemctl", "stop", "ssh"], capture_output=True, text=True, env=environment, timeout=20
    )
    assert (127, "systemctl: command not found\n") == (ran.returncode, ran.stderr)


def test_a_unit_without_a_command_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ZooKeeper has nothing to do. A unit of ours that only systemd could run is refused. The first failure counts."""
    monkeypatch.setenv("PORTFOLIO_DATA_DIR", str(tmp_path))
    assert 0 == systemctl.main(["start", "zookeeper"])
    assert 0 == systemctl.main(["stop", "kafka", "zookeeper"])
    assert 1 == systemctl.main(["status", "kafka", "zookeeper"])
    with pytest.raises(UnitMissing, match="cluster start"):
        systemctl.main(["start", "portfolio-worker@1"])


def test_systemd_is_told_when_kafka_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once: a second call, or a child process, says nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(1)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        tell_ready()
        tell_ready()
        assert b"READY=1" == manager.recv(100)
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
