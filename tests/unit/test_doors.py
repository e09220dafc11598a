"""The door to a worker. tests/integration/test_source_programs.py runs all doors as processes."""

import os
import sys

import pytest

from portfolio_stream.commands import doors
from portfolio_stream.commands.ending import exit_code_of


def test_the_worker_takes_the_place_of_its_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """So signals and exit codes are the worker's own. Options that were not given leave the environment as it is."""
    begun = []
    monkeypatch.setattr(os, "execve", lambda *process: begun.append(process))
    monkeypatch.setenv("PORTFOLIO_OUTPUT_TOPIC", "mine")
    order = ["--bootstrap-servers", "127.0.0.1:1", "--input-topic", "source", "--web-port", "7"]
    assert 0 == exit_code_of(lambda: doors.process(order), "process_events.py")
    ((program, command, environment),) = begun
    worker = ("-m", "faust", "-A", "portfolio_stream", "worker", "-l", "info", "--web-port", "7")
    assert (program, command) == (sys.executable, (sys.executable, *worker))
    names = ("PORTFOLIO_BOOTSTRAP_SERVERS", "PORTFOLIO_INPUT_TOPIC", "PORTFOLIO_OUTPUT_TOPIC")
    assert ["127.0.0.1:1", "source", "mine"] == [environment[name] for name in names]
