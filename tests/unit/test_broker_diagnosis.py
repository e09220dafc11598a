from pathlib import Path
from types import SimpleNamespace

import pytest

from portfolio_stream.broker.diagnosis import last_meaningful_line, log_length, why_it_died
from portfolio_stream.broker.layout import FULL_BYTES, Layout
from portfolio_stream.errors import BrokerAlreadyRunning, BrokerDied, BrokerDiskFull

INFO = "2026-11-23T10:00:00.000 INFO LogManager Loading logs from log dirs\n"
ERROR = "2026-11-23T10:00:01.000 ERROR KafkaRaftServer Exiting Kafka due to fatal exception\n"
TRACE = (
    "java.lang.RuntimeException: outer\n"
    "\tat kafka.Kafka$.main(Kafka.scala:1)\n"
    "Caused by: java.lang.IllegalArgumentException: inner\n"
    "\t... 3 more\n"
)
AFTER = "2026-11-23T10:00:02.000 INFO AppInfoParser App info unregistered\n"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "broker")
    made.claim()
    made.output(0).touch()
    return made


@pytest.mark.parametrize(
    ("written", "printed", "expected"),
    [
        (INFO + ERROR + TRACE + AFTER, "", "java.lang.IllegalArgumentException: inner"),
        (
            INFO + ERROR + "java.lang.RuntimeException: alone\n\tat x.Y\n" + AFTER,
            "",
            "java.lang.RuntimeException: alone",
        ),
        (INFO + ERROR + AFTER, "", "Exiting Kafka due to fatal exception"),
        (INFO, "Error: Could not find or load main class\n", "Error: Could not find or load main class"),
        (INFO, "", "Loading logs from log dirs"),
        ("", "", "it logged nothing"),
    ],
)
def test_the_line_that_tells_most_is_cited(written: str, printed: str, expected: str) -> None:
    """The root cause, else the deadly record, else what was printed, else what was logged last."""
    assert expected == last_meaningful_line(written, printed)


def test_an_endless_line_is_cut() -> None:
    """The error stays one line of a terminal."""
    assert len(last_meaningful_line(ERROR.replace("fatal", "x" * 1000), "")) == 300


def test_an_older_runs_error_is_not_cited(layout: Layout) -> None:
    """Only what was written since the start counts."""
    layout.log(0).write_text(ERROR, encoding="utf-8")
    since = log_length(layout, 0)
    with layout.log(0).open("a", encoding="utf-8") as log:
        log.write(INFO)
    error = why_it_died(layout, 0, since, 1)
    assert isinstance(error, BrokerDied)
    assert "Loading logs" in error.cause
    assert str(layout.log(0)) in error.action


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("java.io.IOException: No space left on device\n", BrokerDiskFull),
        ("org.apache.kafka.common.KafkaException: Failed to acquire lock on file .lock in /x\n", BrokerAlreadyRunning),
        ("java.lang.RuntimeException: anything else\n", BrokerDied),
    ],
)
def test_known_causes_get_their_own_error(layout: Layout, line: str, kind: type[Exception]) -> None:
    """An operator acts differently on each."""
    layout.log(0).write_text(ERROR + line, encoding="utf-8")
    assert isinstance(why_it_died(layout, 0, 0, 1), kind)


@pytest.mark.parametrize(("exit_code", "kind"), [(1, BrokerDiskFull), (-6, BrokerDiskFull), (-9, BrokerDied)])
def test_a_full_disk_has_no_room_for_the_line_that_says_so(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, exit_code: int, kind: type[Exception]
) -> None:
    """The log ends in the middle: then the disk itself is looked at. Whoever is killed from outside is said to be."""
    layout.log(0).write_text(INFO + ERROR[:20], encoding="utf-8")
    full = SimpleNamespace(free=FULL_BYTES - 1)
    monkeypatch.setattr("portfolio_stream.broker.layout.shutil.disk_usage", lambda _: full)
    assert kind is type(why_it_died(layout, 0, 0, exit_code))


def test_a_killed_broker_is_said_to_be_killed(layout: Layout) -> None:
    """Its log ends in an innocent line."""
    layout.log(0).write_text(INFO, encoding="utf-8")
    assert "SIGKILL" in str(why_it_died(layout, 0, 0, -9))
