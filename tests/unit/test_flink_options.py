"""Flink's -D options: each one of the runbook is applied, is so already, or has no effect and says why."""

from typing import Any

import pytest

from portfolio_stream.errors import InvalidSetting
from portfolio_stream.flink.options import OLDER_NAMES, OPTIONS, PREFIXES, Translation, rule_of, translated
from portfolio_stream.jobs.job_settings import ALLOWED, changed_settings
from portfolio_stream.settings import Settings

SETTINGS = Settings(savepoint_dir="/srv/savepoints")
#: as the runbook types them: option, value, effect, and what the detail begins with
RUNBOOK = [
    ("jobmanager.memory.process.size", "2048m", "no effect", "the supervisor is a Python process"),
    ("taskmanager.memory.process.size", "8192m", "no effect", "a worker is a Python process"),
    ("taskmanager.memory.managed.size", "4096m", "applied", "as PORTFOLIO_STATE_MEMORY=4096"),
    ("execution.checkpointing.timeout", "600000", "applied", "as PORTFOLIO_CHECKPOINT_TIMEOUT=600s"),
    ("execution.checkpointing.interval", "60000", "applied", "as PORTFOLIO_CHECKPOINT_INTERVAL=60s"),
    ("execution.checkpointing.interval", "120000", "applied", "as PORTFOLIO_CHECKPOINT_INTERVAL=120s"),
    ("execution.checkpointing.mode", "EXACTLY_ONCE", "already so", "every commit is one Kafka transaction"),
    ("execution.buffer-timeout", "100", "applied", "as PORTFOLIO_COMMIT_INTERVAL_MS=100"),
    ("execution.buffer-timeout", "50", "applied", "as PORTFOLIO_COMMIT_INTERVAL_MS=50"),
    ("state.backend", "rocksdb", "already so", "the state is kept in RocksDB"),
    ("state.backend.rocksdb.memory.managed", "true", "already so", "PORTFOLIO_STATE_MEMORY bounds"),
    ("state.backend.incremental", "true", "already so", "each commit writes only what has changed"),
]


def ask(option: str, value: str, job: dict[str, str] | None = None, settings: Any = SETTINGS) -> Translation:
    return translated({option: value}, settings, job or {}, 2)


@pytest.mark.parametrize(("option", "value", "effect", "detail"), RUNBOOK)
def test_every_option_of_the_runbook(option: str, value: str, effect: str, detail: str) -> None:
    found = ask(option, value)
    first = found.outcomes[0]
    assert (f"-D{option}", value, effect) == first[:3]
    assert first.detail.startswith(detail), first.detail
    assert (effect == "applied") == bool(found.settings)
    changed_settings({}, found.settings)  # a worker takes them


@pytest.mark.parametrize(
    ("option", "value", "effect"),
    [
        ("execution.checkpointing.interval", "10 s", "already so"),
        ("execution.checkpointing.interval", "500 ms", "applied"),
        ("execution.checkpointing.interval", "2min", "applied"),
        ("taskmanager.memory.managed.size", "304m", "already so"),
        ("taskmanager.memory.managed.size", "2 gb", "applied"),
        ("execution.checkpointing.mode", "at-least-once", "no effect"),
        ("state.backend.type", "org.example.Backend", "no effect"),
        ("parallelism.default", "2", "already so"),
        ("parallelism.default", "4", "applied"),
        ("state.savepoints.dir", "hdfs:///flink/savepoints", "already so"),
        ("state.savepoints.dir", "hdfs:///elsewhere", "no effect"),
        ("execution.savepoint.path", "hdfs:///flink/savepoints/latest", "applied"),
        ("restart-strategy.type", "fixed-delay", "no effect"),
        ("yarn.application.name", "x", "no effect"),
        ("execution.checkpointing.something-new", "x", "no effect"),
        ("no.such.option", "x", "no effect"),
    ],
)
def test_other_options(option: str, value: str, effect: str) -> None:
    """Flink's units, both names of an option, options by their prefix, and unknown ones."""
    assert effect == ask(option, value).outcomes[0].effect


def test_what_the_job_has_already_is_not_applied_again() -> None:
    job = {"PORTFOLIO_CHECKPOINT_INTERVAL": "60s"}
    assert "already so" == ask("execution.checkpointing.interval", "60000", job).outcomes[0].effect
    assert "applied" == ask("execution.checkpointing.interval", "10s", job).outcomes[0].effect


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("execution.checkpointing.interval", "soon"),
        ("execution.checkpointing.interval", "2h"),
        ("execution.checkpointing.timeout", "10 parsecs"),
        ("execution.buffer-timeout", "11 s"),
        ("execution.checkpointing.mode", "TWICE"),
        ("taskmanager.memory.managed.size", "1m"),
        ("taskmanager.memory.managed.size", "-4g"),
        ("parallelism.default", "0"),
        ("parallelism.default", "many"),
        ("execution.state-recovery.path", " "),
    ],
)
def test_a_value_that_cannot_be_is_an_error_with_the_options_own_name(option: str, value: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        ask(option, value)
    assert f"-D{option}" in refused.value.cause
    assert value in refused.value.cause


def test_the_interval_of_checkpoints_follows_their_time_out() -> None:
    """The runbook's time-out of 600 s is longer than 50 intervals of 10 s: it counts, and the interval grows."""
    found = ask("execution.checkpointing.timeout", "600000")
    assert {"PORTFOLIO_CHECKPOINT_TIMEOUT": "600s", "PORTFOLIO_CHECKPOINT_INTERVAL": "12s"} == found.settings
    assert "PORTFOLIO_CHECKPOINT_INTERVAL=12s: applied because" in str(found.outcomes[1])
    changed_settings({}, found.settings)


def test_the_time_out_of_checkpoints_follows_their_interval() -> None:
    found = ask("execution.checkpointing.interval", "1000")
    assert {"PORTFOLIO_CHECKPOINT_TIMEOUT": "50s", "PORTFOLIO_CHECKPOINT_INTERVAL": "1s"} == found.settings


def test_a_time_out_and_an_interval_that_contradict_each_other_are_refused() -> None:
    given = {"execution.checkpointing.timeout": "600000", "execution.checkpointing.interval": "1000"}
    with pytest.raises(InvalidSetting):
        translated(given, SETTINGS, {}, 2)


def test_the_table_is_whole() -> None:
    """An older name leads to a rule; a setting is one that a job may give; no rule hides behind another one."""
    assert all(rule_of(name) is not None for name in OLDER_NAMES)
    assert not OLDER_NAMES.keys() & OPTIONS.keys()
    fields = {f"PORTFOLIO_{rule.field.upper()}" for rule in OPTIONS.values() if hasattr(rule, "field")}
    assert fields <= set(ALLOWED)
    prefixes = list(PREFIXES)
    assert not [(one, two) for one in prefixes for two in prefixes[: prefixes.index(one)] if one.startswith(two)]
