"""What a library repeats."""

import logging
from types import SimpleNamespace

import pytest

from portfolio_stream.kafka import quiet_logs
from portfolio_stream.kafka.quiet_logs import OncePerPeriod, quieten


def record(name: str, message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, message, args, None)


def test_a_repeated_message_comes_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its arguments; another message comes at once."""
    now = 0.0
    monkeypatch.setattr(quiet_logs, "time", SimpleNamespace(monotonic=lambda: now))
    once = OncePerPeriod()
    assert once.filter(record("aiokafka.client", "no broker %s", 1))
    now = 9.9
    assert not once.filter(record("aiokafka.client", "no broker %s", 2))
    assert once.filter(record("aiokafka.client", "another"))
    assert once.filter(record("aiokafka.cluster", "no broker %s", 1))
    now = 10.0
    assert once.filter(record("aiokafka.client", "no broker %s", 3))


def test_only_the_libraries_are_quietened() -> None:
    """Our own lines are events: each counts."""
    ours, theirs = logging.getLogger("portfolio_stream.a_test"), logging.getLogger("aiokafka.a_test")
    quieten()
    try:
        assert ([], 1) == (ours.filters, len(theirs.filters))
    finally:
        for name in logging.root.manager.loggerDict:
            logger = logging.getLogger(name)
            logger.filters = [found for found in logger.filters if not isinstance(found, OncePerPeriod)]
