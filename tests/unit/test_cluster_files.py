"""The files of a supervised cluster, and what a worker's answer means to its supervisor."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream.cluster import child
from portfolio_stream.cluster.folder import ClusterFolder, SupervisorStatus, WorkerShown, WorkerStart
from portfolio_stream.cluster.serving import ReadyAnswer, judged
from portfolio_stream.cluster.supervisor import worker_environment
from portfolio_stream.errors import ClusterFolderUnusable, SupervisorRuns
from portfolio_stream.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> ClusterFolder:
    made = ClusterFolder(replace(Settings(), data_dir=tmp_path))
    made.make()
    return made


def shown(number: int, state: str) -> WorkerShown:
    return WorkerShown(
        number=number, name=f"h-{number}", state=state, pid=7, address="http://127.0.0.1:1", failures=0, restarts=0,
        log="log", settings={},
    )  # fmt: skip


def test_one_supervisor_has_the_folder(folder: ClusterFolder) -> None:
    with folder.locked(), pytest.raises(SupervisorRuns, match="cluster status"), folder.locked():
        pass
    with folder.locked():
        pass


def test_a_worker_keeps_its_name_when_its_host_is_renamed(
    folder: ClusterFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is a legal instance id, whatever the host is called."""
    monkeypatch.setattr("platform.node", lambda: "-bad näme.example" + "x" * 100)
    first = folder.worker_name(3)
    monkeypatch.setattr("platform.node", lambda: "other")
    assert first == folder.worker_name(3)
    assert Settings.from_environment({"PORTFOLIO_INSTANCE_ID": first}).instance_id == first


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"port": "many"}'])
def test_a_damaged_file_is_no_file(folder: ClusterFolder, content: bytes) -> None:
    for name in ("worker-1.json", "status.json", "worker-1.pid", "supervisor.pid"):
        (folder.path / name).write_bytes(content)
    assert (None, None, {}, None) == (folder.start_of(1), folder.status(), folder.workers(), folder.supervisor())


def test_a_start_comes_back_as_it_was_written(folder: ClusterFolder) -> None:
    start = WorkerStart(port=6067, settings={"PORTFOLIO_STANDBYS": "1"})
    folder.write_start(1, start)
    assert start == folder.start_of(1)


def test_a_folder_that_cannot_be_made_is_an_operators_error(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(ClusterFolderUnusable, match="PORTFOLIO_LOG_DIR"):
        ClusterFolder(replace(Settings(), data_dir=tmp_path, log_dir=tmp_path / "logs")).make()


@pytest.mark.parametrize(
    ("wanted", "states", "expected"),
    [
        (2, ["serving", "serving"], True),
        (2, ["serving"], False),
        (1, ["serving", "stopping"], False),
        (2, ["serving", "starting"], False),
        (0, [], True),
    ],
)
def test_a_cluster_serves_when_each_wanted_worker_does(wanted: int, states: list[str], expected: bool) -> None:
    workers = tuple(shown(number, state) for number, state in enumerate(states, 1))
    status = SupervisorStatus(pid=1, wanted=wanted, settings={}, workers=workers, log="log")
    assert expected is status.is_serving


@pytest.mark.parametrize(
    ("reasons", "partitions", "is_joined", "expected"),
    [
        ((), {}, True, True),  # more workers than partitions
        ((), {"0": "running"}, True, True),
        (("recovering partitions 0",), {"0": "recovering", "1": "running"}, True, False),
        (("partition 0 is halted",), {"0": "halted", "1": "running"}, True, True),
        (("a stranger is in the group",), {"0": "running"}, True, True),
        (("the engine starts",), {}, True, False),
        (("the job is stopped",), {}, False, True),
    ],
)
def test_a_worker_serves_when_its_partitions_are_decided(
    reasons: Any, partitions: Any, is_joined: bool, expected: bool
) -> None:
    """A start or a stop mends neither a halted partition nor a stranger, and the next worker need not wait for them."""
    answer = ReadyAnswer(worker="w", reasons=reasons, partitions=partitions)
    assert expected is judged(answer, is_joined=is_joined).serves


def test_a_workers_environment_has_nothing_of_another_worker() -> None:
    """The supervisor decides how a worker stops: its own PORTFOLIO_ON_STOP is for `cluster stop`."""
    given = {
        "PATH": "/bin",
        "PORTFOLIO_INSTANCE_ID": "w",
        "PORTFOLIO_WEB_PORT": "1",
        "PORTFOLIO_WEB_ADVERTISED": "h:1",
        "PORTFOLIO_ON_STOP": "remain",
        "PORTFOLIO_WEB_TOKEN": "t",
    }
    settings = replace(Settings(), bootstrap_servers="k:1", data_dir=Path("/data"))
    assert {
        "PATH": "/bin",
        "PORTFOLIO_WEB_TOKEN": "t",
        "PORTFOLIO_BOOTSTRAP_SERVERS": "k:1",
        "PORTFOLIO_DATA_DIR": "/data",
        "PYTHONUNBUFFERED": "1",
    } == worker_environment(given, settings)


def test_a_log_that_was_rotated_still_has_the_cause(tmp_path: Path) -> None:
    """The log is shorter than at the process's start."""
    log = tmp_path / "log"
    log.write_text("x" * 1000)
    made = child.Child("w", ("true",), {}, log)
    made._since = 1000
    log.write_text("Error: It broke.\nOperator action: Mend it.\n")
    assert ("It broke.", "Mend it.") == made.why()
