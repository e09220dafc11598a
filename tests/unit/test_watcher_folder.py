"""The watcher's file of slices: appended, torn, written anew, on a full disk, and never written by two."""

import errno
from pathlib import Path

import pytest

from portfolio_stream.errors import WatcherRuns, WatchFolderUnusable
from portfolio_stream.settings import Settings
from portfolio_stream.watch.thresholds import WINDOW_DAYS
from portfolio_stream.watch.time_slices import MINUTE, TimeSlice
from portfolio_stream.watcher import folder as module
from portfolio_stream.watcher.folder import WatchFolder

NOW = 1_795_409_400


def settings(path: Path) -> Settings:
    return Settings(data_dir=path, group="g")


def minute(number: int) -> TimeSlice:
    """The slice of a minute; minute 0 is the newest."""
    return TimeSlice(at=NOW - number * MINUTE, seconds=60.0, events=number, p99=0.05)


def opened(path: Path) -> WatchFolder:
    """The folder of a watcher that has just been started."""
    found = WatchFolder(settings(path))
    found.path.mkdir(exist_ok=True)
    return found


def kept_by(path: Path, *slices: TimeSlice) -> list[TimeSlice]:
    """Append the slices one by one, as a watcher does. Returns all of them."""
    folder = opened(path)
    kept = folder.read(NOW)
    for one in slices:
        kept.append(one)
        folder.append(one, kept)
    return kept


def test_slices_outlive_their_watcher(tmp_path: Path) -> None:
    """Those of a watcher before stay, in their order."""
    kept_by(tmp_path, minute(3), minute(2))
    kept_by(tmp_path, minute(1))
    assert [minute(3), minute(2), minute(1)] == opened(tmp_path).read(NOW)


def test_a_torn_last_line_loses_itself_alone(tmp_path: Path) -> None:
    """The next slice does not become a part of it."""
    kept_by(tmp_path, minute(3), minute(2))
    file = tmp_path / "watch" / "g.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert [minute(3)] == opened(tmp_path).read(NOW)
    kept_by(tmp_path, minute(1))
    assert [minute(3), minute(1)] == opened(tmp_path).read(NOW)


def test_slices_older_than_every_budget_are_forgotten(tmp_path: Path) -> None:
    """30 days and no more."""
    old = minute(WINDOW_DAYS * 24 * 60 + 5)
    kept_by(tmp_path, old, minute(1))
    assert [minute(1)] == opened(tmp_path).read(NOW)


def test_the_file_is_written_anew_when_it_grew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has at most twice the lines that are needed."""
    monkeypatch.setattr(module, "FEWEST_LINES", 10)
    folder = opened(tmp_path)
    for number in range(100, 0, -1):
        folder.append(minute(number), [minute(number)])
    assert 10 >= len((tmp_path / "watch" / "g.jsonl").read_bytes().splitlines())
    assert minute(1) == opened(tmp_path).read(NOW)[-1]


def test_a_full_disk_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slices of that time are written when there is room again, each once."""
    folder = opened(tmp_path)
    folder.append(minute(4), [minute(4)])
    monkeypatch.setattr(Path, "open", _full)
    folder.append(minute(3), [minute(4), minute(3)])
    folder.append(minute(2), [minute(4), minute(3), minute(2)])
    monkeypatch.undo()
    folder.append(minute(1), [minute(4), minute(3), minute(2), minute(1)])
    assert [minute(4), minute(3), minute(2), minute(1)] == opened(tmp_path).read(NOW)


def test_a_full_disk_loses_no_slice_of_a_minute_with_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory they are one."""
    folder = opened(tmp_path)
    monkeypatch.setattr(Path, "open", _full)
    folder.append(TimeSlice(at=NOW, anomalies=1), [TimeSlice(at=NOW, anomalies=1)])
    folder.append(TimeSlice(at=NOW, anomalies=2), [TimeSlice(at=NOW, anomalies=3)])
    monkeypatch.undo()
    folder.append(TimeSlice(at=NOW, anomalies=4), [TimeSlice(at=NOW, anomalies=7)])
    assert [TimeSlice(at=NOW, anomalies=7)] == opened(tmp_path).read(NOW)


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_slice_that_is_half_written_is_written_once(tmp_path: Path) -> None:
    """The device takes nothing at all."""
    folder = opened(tmp_path)
    (folder.path / "g.jsonl").symlink_to("/dev/full")
    folder.append(minute(2), [minute(2)])
    (folder.path / "g.jsonl").unlink()
    folder.append(minute(1), [minute(2), minute(1)])
    assert [minute(2), minute(1)] == opened(tmp_path).read(NOW)


def test_a_second_watcher_of_the_folder_is_refused(tmp_path: Path) -> None:
    """Two would count every minute twice."""
    with WatchFolder(settings(tmp_path)).locked(), pytest.raises(WatcherRuns), WatchFolder(settings(tmp_path)).locked():
        pass
    with WatchFolder(settings(tmp_path)).locked():
        assert (tmp_path / "watch" / "lock").exists()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """It names the folder and the variable."""
    (tmp_path / "watch").write_text("a file")
    with pytest.raises(WatchFolderUnusable, match="PORTFOLIO_DATA_DIR"), WatchFolder(settings(tmp_path)).locked():
        pass
