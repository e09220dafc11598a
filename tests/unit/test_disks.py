"""The disks' figures: looked at beside everything else, and absent where nothing answers."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from portfolio_stream.observe import disks as module
from portfolio_stream.observe.disks import DiskFigures, Disks, disk_of
from portfolio_stream.settings import Settings
from portfolio_stream.web.server import disk_places

ANSWER_SECONDS = 10.0


def await_that(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + ANSWER_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_the_figures_are_those_of_the_file_system(tmp_path: Path) -> None:
    """Also for a folder that is not made yet: the savepoints' folder comes with the first savepoint."""
    seen = os.statvfs(tmp_path)
    told = disk_of(tmp_path / "not" / "made")
    assert seen.f_blocks * seen.f_frsize == told.total_bytes
    assert 0 < told.available_bytes <= told.total_bytes


def test_a_relative_folder_has_a_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of PORTFOLIO_DATA_DIR is one."""
    monkeypatch.chdir(tmp_path)
    assert disk_of(tmp_path).total_bytes == disk_of(Path("data")).total_bytes


def test_a_file_system_that_hangs_delays_nobody(tmp_path: Path) -> None:
    """The other place's figures come, the hanging one's are absent, and the stop waits for nobody."""
    hangs = threading.Event()

    def look(place: Path) -> DiskFigures:
        if place.name == "hanging":
            hangs.wait(ANSWER_SECONDS)
        return DiskFigures(2, 1)

    disks = Disks({"state": tmp_path, "savepoints": tmp_path / "hanging"}, look)
    disks.start()
    await_that(lambda: bool(disks.figures()))
    assert {"state": DiskFigures(2, 1)} == disks.figures()
    disks.stop()
    hangs.set()


def test_figures_that_are_old_are_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that answered once and hangs now must not look as free as it was."""
    disks = Disks({"state": tmp_path})
    disks.start()
    await_that(lambda: bool(disks.figures()))
    monkeypatch.setattr(module, "KEPT_SECONDS", -1.0)
    assert {} == disks.figures()
    disks.stop()


def test_a_place_that_cannot_be_asked_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back when the file system answers again."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    is_broken = True

    def look(place: Path) -> DiskFigures:
        if is_broken:
            raise PermissionError
        return DiskFigures(2, 1)

    disks = Disks({"state": tmp_path}, look)
    disks.start()
    assert {} == disks.figures()
    is_broken = False
    await_that(lambda: bool(disks.figures()))
    is_broken = True
    await_that(lambda: not disks.figures())
    disks.stop()


def test_savepoints_in_a_bucket_fill_no_disk() -> None:
    """Only folders have a file system."""
    settings = Settings(data_dir=Path("d"), savepoint_dir="s")
    assert {"state": Path("d"), "savepoints": Path("s")} == disk_places(settings)
    assert {"state": Path("d")} == disk_places(Settings(data_dir=Path("d"), savepoint_dir="s3://bucket/prefix"))
