"""A log that its own process keeps small: no line is lost or cut, whoever else moves the file."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio_stream.cluster.logs import KEPT, NEW_FILE, log_files, rotate

LINES = 20_000


@pytest.fixture
def written(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A log and the descriptor that writes to it."""
    log = tmp_path / "worker.log"
    descriptor = os.open(log, NEW_FILE, 0o644)
    yield log, descriptor
    os.close(descriptor)


def test_no_line_is_lost_while_a_thread_writes(written: tuple[Path, int]) -> None:
    """It writes by two descriptors, as standard output and standard error are, while the file is replaced."""
    log, output = written
    error = os.dup(output)

    def write() -> None:
        for number in range(LINES):
            os.write((output, error)[number % 2], f"{number}\n".encode())

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        rotate(log, (output, error), largest=32 << 10)
    os.close(error)
    files = log_files(log)
    assert 1 < len(files) <= KEPT
    assert list(range(LINES)) == sorted(int(line) for file in files for line in file.read_text().splitlines())


def test_the_oldest_file_goes(written: tuple[Path, int]) -> None:
    """KEPT older files stay, and each name is a step older than the one before."""
    log, descriptor = written
    for number in range(KEPT + 3):
        os.write(descriptor, f"{number}\n".encode())
        rotate(log, (descriptor,), largest=2)
    assert [log.name, *(f"{log.name}.{number}" for number in range(1, KEPT + 1))] == [f.name for f in log_files(log)]
    expected = ["", *(f"{number}\n" for number in range(KEPT + 2, 2, -1))]
    assert expected == [file.read_text() for file in log_files(log)]


def test_a_small_log_stays(written: tuple[Path, int]) -> None:
    log, descriptor = written
    os.write(descriptor, b"line\n")
    rotate(log, (descriptor,), largest=100)
    assert ([log], "line\n") == (log_files(log), log.read_text())


def test_a_log_that_was_moved_away_is_opened_anew(written: tuple[Path, int]) -> None:
    """Logrotate has moved it: what is written next is in the new file, and the moved one is left alone."""
    log, descriptor = written
    os.write(descriptor, b"before\n")
    moved = log.rename(log.with_name("moved"))
    rotate(log, (descriptor,))
    os.write(descriptor, b"after\n")
    assert ("before\n", "after\n") == (moved.read_text(), log.read_text())


def test_a_folder_that_is_gone_loses_nothing(written: tuple[Path, int], tmp_path: Path) -> None:
    """The file is still written to, and the next look tries again."""
    log, descriptor = written
    folder = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    with pytest.raises(OSError, match=log.name):
        rotate(log, (descriptor,))
    os.write(descriptor, b"line\n")
    assert "line\n" == (folder / log.name).read_text()
