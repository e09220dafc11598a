"""A restart of the watcher forgets no alert: neither one that fires, nor how long one has waited, nor what happened."""

import errno
import logging
from pathlib import Path

import pytest

from portfolio_stream.errors import WatchFolderUnusable
from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watcher import judgement_file as module
from portfolio_stream.watcher.judgement_file import RESUMED_SECONDS
from tests.unit.test_watcher_looks import Watch, kafka, states

FOR = int(limit.BROKER_DOWN_SECONDS)
FILE = "g.alerts.json"


def look(watch: Watch, live: int, times: int) -> dict[str, str]:
    """Look so many times. Returns the states of the alerts."""
    watch.watcher.kafka = kafka(live)
    watch.look(times=times)
    return states(watch)


def rebooted(watch: Watch) -> None:
    """Kill the watcher, and start another one whose monotonic clock began anew."""
    watch.now = 5.0
    watch.killed()


def changes(watch: Watch) -> list[tuple[str, str]]:
    return [(one.name, one.state) for one in watch.watcher.watched().changes if one.name != "VerdictTooOld"]


def test_a_firing_alert_fires_on(tmp_path: Path) -> None:
    """Before the first look and after it, since the same time, without another change. It clears like any other."""
    watch = Watch(tmp_path)
    assert {"KafkaBrokerDown": "firing"} == look(watch, 2, FOR + 1)
    before = watch.watcher.watched()
    rebooted(watch)
    assert (before.alerts[0].since, before.changes) == (
        watch.watcher.watched().alerts[0].since,
        watch.watcher.watched().changes,
    )
    assert {"KafkaBrokerDown": "firing"} == look(watch, 2, 5)
    assert before.changes == watch.watcher.watched().changes
    assert {"KafkaBrokerDown": "firing"} == look(watch, 3, int(limit.KEEP_SECONDS))
    assert {} == look(watch, 3, 1)
    assert [("KafkaBrokerDown", "cleared"), ("KafkaBrokerDown", "firing")] == changes(watch)
    rebooted(watch)
    assert [("KafkaBrokerDown", "cleared"), ("KafkaBrokerDown", "firing")] == changes(watch)


def test_a_pending_alert_waits_for_the_rest_of_its_time(tmp_path: Path) -> None:
    """Otherwise it would never fire while the watcher is restarted again and again."""
    watch = Watch(tmp_path)
    look(watch, 2, 1)
    watch.watcher.close()  # as SIGTERM does: the judgement is kept with the slice
    rebooted(watch)
    look(watch, 2, FOR // 2)
    watch.watcher.close()
    rebooted(watch)
    assert {"KafkaBrokerDown": "pending"} == look(watch, 2, FOR // 2)
    assert {"KafkaBrokerDown": "firing"} == look(watch, 2, 3)


def test_an_old_judgement_is_not_taken_up(tmp_path: Path) -> None:
    """Nobody knows what happened meanwhile."""
    watch = Watch(tmp_path)
    watch.at -= RESUMED_SECONDS + 2 * FOR
    look(watch, 2, FOR + 1)
    rebooted(watch)
    assert {} == states(watch)
    assert [] == changes(watch)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"judgement":{"lives":{"KafkaDown":{"phase":"x"}}},"at":1,"now":1}'])
def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    """A log line names both files, and the watcher begins anew."""
    watch = Watch(tmp_path)
    (tmp_path / "watch" / FILE).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        watch.killed()
    assert content == (tmp_path / "watch" / f"{FILE}.damaged").read_bytes()
    assert f"{FILE}.damaged" in caplog.text
    assert {"KafkaBrokerDown": "firing"} == look(watch, 2, FOR + 1)
    watch.killed()
    assert {"KafkaBrokerDown": "firing"} == states(watch)


def test_a_full_disk_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next watcher has what was written when there was room again."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    watch = Watch(tmp_path)
    monkeypatch.setattr(module, "write_atomically", full)
    assert {"KafkaBrokerDown": "firing"} == look(watch, 2, FOR + 1)
    monkeypatch.undo()
    look(watch, 2, 60)
    watch.killed()
    assert {"KafkaBrokerDown": "firing"} == states(watch)


def test_a_file_that_cannot_be_read_is_a_clear_error(tmp_path: Path) -> None:
    """As for the slices."""
    watch = Watch(tmp_path)
    (tmp_path / "watch" / FILE).mkdir()
    with pytest.raises(WatchFolderUnusable):
        watch.killed()
