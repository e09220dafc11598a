import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio_stream.broker import processes

ARGUMENT = "the-argument-that-names-us"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when its input does."""
    command = [sys.executable, "-c", "import sys; print('ready', flush=True); sys.stdin.read()", ARGUMENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_is_found_by_its_pid_file(tmp_path: Path, child: "subprocess.Popen[bytes]") -> None:
    """From any process, while it lives."""
    processes.write_pid_file(tmp_path / "pid", child.pid)
    found = processes.find(tmp_path / "pid", ARGUMENT)
    assert found is not None
    assert child.pid == found.pid


def test_another_programs_process_is_not_ours(tmp_path: Path, child: "subprocess.Popen[bytes]") -> None:
    """The command line must name our broker."""
    processes.write_pid_file(tmp_path / "pid", child.pid)
    assert processes.find(tmp_path / "pid", "another-argument") is None


def test_a_reused_number_is_not_ours(tmp_path: Path, child: "subprocess.Popen[bytes]") -> None:
    """The start time must be the recorded one; a stale identity is not signalled either."""
    stale = processes.Process(child.pid, "long ago")
    (tmp_path / "pid").write_text(json.dumps(stale._asdict()), encoding="ascii")
    assert processes.find(tmp_path / "pid", ARGUMENT) is None
    processes.send(stale, signal.SIGKILL)
    assert child.poll() is None


def test_a_process_that_nobody_reaped_has_ended(tmp_path: Path, child: "subprocess.Popen[bytes]") -> None:
    """A zombie holds no lock and no port."""
    processes.write_pid_file(tmp_path / "pid", child.pid)
    found = processes.find(tmp_path / "pid", ARGUMENT)
    assert found is not None
    assert not processes.wait_for_end(found, 0.0)
    processes.send(found, signal.SIGKILL)
    assert processes.wait_for_end(found, 5.0)
    assert child.returncode is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": "x", "started": "y"}'])
def test_a_torn_pid_file_means_no_process(tmp_path: Path, content: str) -> None:
    """It is written atomically; anything else there is not ours."""
    (tmp_path / "pid").write_text(content, encoding="ascii")
    assert processes.find(tmp_path / "pid", "") is None


def test_both_ways_to_look_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc, ps tells whether a process lives and what its command line is."""
    if not any((Path(folder) / "ps").exists() for folder in os.defpath.split(":")):
        pytest.skip("this machine has no ps")
    seen = processes._look_with_ps(os.getpid())
    assert seen is not None
    assert "pytest" in seen[1]
    assert processes._look_with_ps(2**22 + 1) is None


@pytest.mark.parametrize("number", processes.ENDING_SIGNALS)
def test_a_signal_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    """What is begun in it is finished, and the signal is not lost."""
    done = []
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), processes.deferred_signals():
            signal.raise_signal(number)
            done.append(1)
    finally:
        signal.signal(number, before)
    assert [1] == done
