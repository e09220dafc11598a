import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio_stream import processes

ARGUMENT = "the-argument-that-names-us"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when its standard input is closed."""
    command = [sys.executable, "-c", "import sys; print('ready', flush=True); sys.stdin.read()", ARGUMENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_is_found_by_its_pid_file(tmp_path: Path, child: "subprocess.Popen[bytes]") -> None:
    """Any process can find a live process by its pid file."""
    processes.write_pid_file(tmp_path / "pid", child.pid)
    found = processes.find(tmp_path / "pid", ARGUMENT)
    assert found is not None
    assert child.pid == found.pid


def test_another_programs_process_is_not_ours(tmp_path: Path, child: "subprocess.Popen[bytes]") -> None:
    """A process whose command line does not name our broker is not found."""
    processes.write_pid_file(tmp_path / "pid", child.pid)
    assert processes.find(tmp_path / "pid", "another-argument") is None


def test_a_reused_number_is_not_ours(tmp_path: Path, child: "subprocess.Popen[bytes]") -> None:
    """A process with another start time than the recorded one is not found and gets no signal."""
    stale = processes.OwnProcess(child.pid, "long ago")
    (tmp_path / "pid").write_text(json.dumps(stale._asdict()), encoding="ascii")
    assert processes.find(tmp_path / "pid", ARGUMENT) is None
    processes.send(stale, signal.SIGKILL)
    assert child.poll() is None


def test_a_process_that_nobody_reaped_has_ended(tmp_path: Path, child: "subprocess.Popen[bytes]") -> None:
    """A zombie counts as ended: it has no lock and no port any more."""
    processes.write_pid_file(tmp_path / "pid", child.pid)
    found = processes.find(tmp_path / "pid", ARGUMENT)
    assert found is not None
    assert not processes.wait_for_end(found, 0.0)
    processes.send(found, signal.SIGKILL)
    assert processes.wait_for_end(found, 5.0)
    assert child.returncode is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": "x", "started": "y"}'])
def test_a_torn_pid_file_means_no_process(tmp_path: Path, content: str) -> None:
    """A damaged pid file names no process: ours are written atomically, so this one is not ours."""
    (tmp_path / "pid").write_text(content, encoding="ascii")
    assert processes.find(tmp_path / "pid", "") is None


def test_both_ways_to_look_agree(child: "subprocess.Popen[bytes]") -> None:
    """Without /proc, ps gives a start time and the command line."""
    if not any((Path(folder) / "ps").exists() for folder in os.defpath.split(":")):
        pytest.skip("this machine has no ps")
    seen = processes._look_with_ps(child.pid)
    assert seen is not None
    assert ARGUMENT in seen[1]
    assert processes._look_with_ps(2**22 + 1) is None


@pytest.mark.parametrize("number", processes.ENDING_SIGNALS)
def test_a_signal_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    """A signal during the block arrives at the block's end: the work is finished, the signal is not lost."""
    done = []
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), processes.deferred_signals():
            signal.raise_signal(number)
            done.append(1)
    finally:
        signal.signal(number, before)
    assert [1] == done
