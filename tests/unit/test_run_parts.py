"""The parts of `portfolio-stream run` that need no process."""

import io
import math
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from portfolio_stream import cli
from portfolio_stream.cluster.child import Ending, explain, name_of_end
from portfolio_stream.cluster.fleet import ATTEMPTS, Fleet
from portfolio_stream.commands.produce import stamped
from portfolio_stream.commands.run import child_environment, export_line
from portfolio_stream.commands.run_measure import Tally, halted, running
from portfolio_stream.commands.run_offsets import RunOffsets
from portfolio_stream.commands.run_status import RunStatus, ShownWorker, line, milliseconds, ranges, table
from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.kafka.group import Offsets
from portfolio_stream.load.events import Generated
from portfolio_stream.observe.histogram import quantile
from portfolio_stream.processes import ending_signals
from portfolio_stream.settings import Security, Settings
from portfolio_stream.web.status import PartitionStatus, WorkerStatus

INFINITE = math.inf


def buckets(*counts: float) -> tuple[tuple[float, float], ...]:
    """Cumulative counts up to 10 ms, 50 ms, 100 ms, and in all."""
    return tuple(zip((0.01, 0.05, 0.1, INFINITE), counts, strict=True))


def status(**changed: object) -> RunStatus:
    members: dict[str, object] = {
        "seconds": 12.4,
        "phase": "running",
        "produced": 12_000,
        "processed": 11_990,
        "rate": 1000.4,
        "p99": 0.042,
        "lag": 10,
        "transactions": 23.0,
        "drops": 0,
        "halted": 0,
        "verdict": "at the end",
        "workers": (
            ShownWorker(
                name="w1", pid=41, address="http://127.0.0.1:6066", partitions=frozenset({0, 1, 2, 6}), restarts=0
            ),
            ShownWorker(name="w2", pid=42, address="http://127.0.0.1:6067", partitions=None, restarts=3),
        ),
    }
    return RunStatus(**(members | changed))  # type: ignore[arg-type]


def told(
    process: str, events: int = 0, commits: int = 0, drops: int = 0, counts: tuple[int, ...] = (0, 0, 0, 0)
) -> WorkerStatus:
    """What a worker's process answers; `counts` are of events within 10, 50, 100 ms, and of slower ones."""
    return WorkerStatus(
        worker="w1",
        address="127.0.0.1:6066",
        process=process,
        version="1",
        uptime_seconds=1.0,
        reasons=(),
        partitions={
            0: PartitionStatus(state="running"),
            3: PartitionStatus(state="halted", offset=7, reason="x"),
            5: PartitionStatus(state="running"),
            6: PartitionStatus(state="recovering"),
        },
        events=events,
        commits=commits,
        rejected=0,
        drops=drops,
        latency_bounds=(0.01, 0.05, 0.1),
        latency_counts=counts,
    )


def test_a_status_says_what_a_worker_processes() -> None:
    """Neither a partition that recovers nor one that waits for an operator is processed."""
    assert (frozenset({0, 5}), 1) == (running(told("1")), halted(told("1")))


@pytest.mark.parametrize(
    ("share", "before", "after", "expected"),
    [
        (0.99, (), (), None),
        (0.99, buckets(1, 2, 3, 4), buckets(1, 2, 3, 4), None),
        (0.5, (), buckets(0, 100, 100, 100), 0.03),  # half of the way from 10 to 50 ms
        (0.99, (), buckets(100, 100, 100, 100), 0.0099),
        (0.99, buckets(0, 0, 1000, 1000), buckets(100, 100, 1100, 1100), 0.0099),  # the slow past does not count
        (0.99, (), buckets(90, 90, 90, 100), 0.1),  # above every bound: the highest one
        (1.0, (), buckets(0, 7, 7, 7), 0.05),
    ],
)
def test_a_quantile_is_of_what_came_between_two_looks(
    share: float, before: object, after: object, expected: float | None
) -> None:
    """Linear within a bucket; None where nothing came."""
    found = quantile(share, before, after)  # type: ignore[arg-type]
    assert expected == (None if found is None else pytest.approx(found))


def test_rates_are_of_the_last_seconds() -> None:
    """What is older than the window has no part in them."""
    tally = Tally()
    assert (0.0, 0.0, None) == (tally.events_rate, tally.commits_rate, tally.p99)
    for second in range(20):
        events = 0 if second < 10 else (second - 9) * 500
        tally.feed(float(second), [told("1", events=events, commits=second * 10)])
    assert (500.0, 10.0) == (tally.events_rate, tally.commits_rate)


def test_a_killed_workers_counts_stay_in_the_totals() -> None:
    """Its successor is another process and begins at zero: no total falls, no rate is negative."""
    tally = Tally()
    tally.feed(0.0, [told("1", events=100, commits=10, drops=1, counts=(100, 0, 0, 0))])
    tally.feed(1.0, [])
    tally.feed(2.0, [told("2", events=50, commits=4, counts=(0, 50, 0, 0))])
    totals = tally.totals
    assert (150, 14, 1) == (totals.events, totals.commits, totals.drops)
    assert (25.0, 2.0) == (tally.events_rate, tally.commits_rate)
    assert tally.p99 is not None and tally.p99_of_all is not None
    assert 0.01 < tally.p99 <= 0.05
    assert 0.01 < tally.p99_of_all <= 0.05


def test_lag_is_of_the_partitions_behind() -> None:
    """From the committed offset, or the log's start, to the last stable offset, as everywhere."""

    def at(committed: int | None, end: int, start: int = 0) -> Offsets:
        return Offsets(log_start=start, committed=committed, last_stable_offset=end, high_watermark=end)

    progress = RunOffsets({0: at(5, 5), 1: at(None, 7), 2: at(None, 0), 3: at(None, 9, start=9)})
    assert ({1: 7}, 21, 5) == (progress.behind, progress.produced, progress.processed)


def test_the_plain_line_holds_everything() -> None:
    """One line; a worker that does not answer is silent; halted partitions appear only where there are some."""
    assert (
        "12 s, running: produced=12,000 processed=11,990 events/s=1,000 p99=42 ms lag=10 transactions/s=23 drops=0 "
        "w1=0-2,6 w2=silent"
    ) == line(status())
    assert "halted partitions=2" in line(status(halted=2))


def test_the_table_names_workers_and_verdict() -> None:
    """What the plain line says, and addresses, processes and restarts."""
    out = io.StringIO()
    Console(file=out, width=120).print(table(status(verdict="holds")))
    text = out.getvalue()
    for part in ("11,990", "42 ms", "holds", "partitions 0-2,6, process 41", "http://127.0.0.1:6067, 3 restarts"):
        assert part in text


def test_numbers_are_shown_short() -> None:
    """Spans of partitions, and milliseconds or nothing."""
    assert ["-", "3", "0-7", "0-1,3,5-6"] == [ranges(x) for x in ((), (3,), range(8), (6, 5, 3, 1, 0))]
    assert ["-", "1,500 ms"] == [milliseconds(None), milliseconds(1.5)]


def test_the_cause_of_an_end_is_found_in_the_log() -> None:
    """Our own sentences before any other error, the last before the first; an innocent log has none."""
    assert ("Kafka is gone.", "Start it.") == explain(["x", "Kafka is gone.", "Operator action: Start it.", "bye"])
    assert ("Kafka is gone.", "Start it.") == explain(["[12:00] [4] [ERROR] Kafka is gone. Operator action: Start it."])
    assert ("ValueError: no", "Read the log.") == explain(["Error: first", "ValueError: no", "[INFO] stopped"])
    assert explain(["[INFO] ready", "[INFO] stopped"]) is None
    assert ["was killed by SIGKILL", "ended by itself with exit code 1"] == [name_of_end(-9), name_of_end(1)]


def test_an_ending_is_well_or_a_failure() -> None:
    """Exit code 0 alone, but for a worker that SIGTERM met while it was starting."""
    endings = [(0, 60.0), (-15, 1.0), (-15, 60.0), (-9, 1.0), (1, 1.0)]
    assert [True, True, False, False, False] == [Ending(name="w1", code=c, age=a).is_well for c, a in endings]


def test_records_carry_the_time_of_their_sending() -> None:
    """Nothing else of them changes, and none is taken before it is sent."""
    record = Generated(b"P1", b"{}", 5, partition=3)
    (sent,) = stamped([record])
    assert sent.timestamp > 1_700_000_000_000
    assert record == sent._replace(timestamp=5)


def test_another_terminal_gets_all_by_which_commands_find_the_run() -> None:
    """Its ports and its folder are chosen by the run, so no command knows them by itself. It shows no other one."""
    told = export_line(
        {
            "PORTFOLIO_WATCHER": "127.0.0.1:6061",
            "PORTFOLIO_BOOTSTRAP_SERVERS": "127.0.0.1:4711",
            "PORTFOLIO_DATA_DIR": "/tmp/a folder",
            "PORTFOLIO_WEB_TOKEN": "secret",
        }
    )
    expected = "PORTFOLIO_BOOTSTRAP_SERVERS=127.0.0.1:4711 PORTFOLIO_DATA_DIR='/tmp/a folder' "
    assert f"export {expected}PORTFOLIO_WATCHER=127.0.0.1:6061" == told


def test_children_share_the_broker_and_no_identity() -> None:
    """The run's broker and folder beat the environment; security is of another Kafka, so it is left out."""
    environment = {
        "PATH": "/bin",
        "PORTFOLIO_BOOTSTRAP_SERVERS": "elsewhere:9092",
        "PORTFOLIO_INSTANCE_ID": "one",
        "PORTFOLIO_WEB_ADVERTISED": "here:1",
        "PORTFOLIO_KAFKA_SASL_MECHANISM": "PLAIN",
        "PORTFOLIO_OUTPUT_TOPIC": "mine",
    }
    settings = Settings(bootstrap_servers="127.0.0.1:5", data_dir=Path("/w"))
    expected = {
        "PATH": "/bin",
        "PORTFOLIO_OUTPUT_TOPIC": "mine",
        "PORTFOLIO_BOOTSTRAP_SERVERS": "127.0.0.1:5",
        "PORTFOLIO_DATA_DIR": "/w",
        "PORTFOLIO_REPLICATION_FACTOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    assert expected == child_environment(environment, settings)
    secured = Settings(security=Security(protocol="SASL_PLAINTEXT"))
    assert "PORTFOLIO_KAFKA_SASL_MECHANISM" in child_environment(environment, secured)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--events", "0"],
        ["--rate", "-1"],
        ["--workers", "0"],
        ["--from-file", "does-not-exist.jsonl"],
        ["--duplicates", "0.6", "--invalid", "0.6"],
        ["--bootstrap-servers", "no-port"],
        ["bogus"],
    ],
)
def test_a_bad_argument_is_answered_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 before anything is started."""
    assert 2 == cli.run(["run", *arguments])
    captured = capsys.readouterr()
    assert ("", 1) == (captured.out, captured.err.count("\n"))
    assert captured.err.startswith("Error: ")


class Failing:
    """A worker that ends with this code as soon as it is started."""

    def __init__(self, code: int) -> None:
        self.name, self.pid, self.address, self.started = "w1", 7, "http://127.0.0.1:6066", time.monotonic()
        self.starts = 1
        self._code = code

    async def wait(self) -> int:
        return self._code

    async def start(self) -> None:
        self.starts += 1

    def move(self) -> bool:
        return False

    def why(self) -> tuple[str, str]:
        return "It is so.", "Mend it."


@pytest.mark.parametrize(("code", "starts", "exit_code"), [(2, 1, 2), (1, ATTEMPTS, 1)])
async def test_a_worker_that_refuses_its_settings_is_not_started_again(code: int, starts: int, exit_code: int) -> None:
    """No start changes them; another error may pass by itself."""
    worker: Any = Failing(code)
    with pytest.raises(PortfolioStreamError, match="It is so") as caught:
        await Fleet([worker], lambda _: None).keep(worker)
    assert (starts, exit_code, "Mend it.") == (worker.starts, caught.value.exit_code, caught.value.action)


@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [(["--data-dir", "{file}/x"], {}, "--data-dir"), ([], {"TMPDIR": "{file}"}, "TMPDIR")],
)
def test_a_run_without_a_folder_is_a_bad_argument(
    arguments: list[str],
    variables: dict[str, str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before a broker is started; the message names what to correct."""
    (tmp_path / "file").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(file=tmp_path / "file"))
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert 2 == cli.run(["run", "--events", "1", *(one.format(file=tmp_path / "file") for one in arguments)])
    said = capsys.readouterr().err
    assert named in said and "unexpectedly" not in said


def test_nohup_keeps_what_a_closed_terminal_would_end() -> None:
    """SIGHUP counts unless it is ignored when the command begins."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} == set(ending_signals())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert {signal.SIGINT, signal.SIGTERM} == set(ending_signals())
    finally:
        signal.signal(signal.SIGHUP, before)
