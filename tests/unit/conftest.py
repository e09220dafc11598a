"""What holds for every unit test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio_stream.kafka import reach
from portfolio_stream.savepoints.objects import MemoryObjects, Objects, open_objects
from tests.unit.no_process import watch


@pytest.fixture(autouse=True)
def no_process() -> Iterator[None]:
    """A test that starts a process fails."""
    watch.is_on = True
    yield
    watch.is_on = False


@pytest.fixture(autouse=True)
def no_pause_before_a_broker_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker answers in a unit test, however long the client waits."""
    monkeypatch.setattr(reach, "BOOTSTRAP_PAUSE_SECONDS", 0.0)


@pytest.fixture(params=["memory", "folder", "bucket"])
def objects(request: pytest.FixtureRequest) -> Objects:
    """An empty place for savepoints, of each kind."""
    if request.param == "memory":
        return MemoryObjects()
    if request.param == "folder":
        folder: Path = request.getfixturevalue("tmp_path")
        return open_objects(str(folder / "savepoints"))
    return open_objects(f"{request.getfixturevalue('bucket')}/some/prefix")
