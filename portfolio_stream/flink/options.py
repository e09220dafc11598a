"""Flink's -D options: which of them this job applies, which ask for what is so already, and which have no effect. Pure.

1. OPTIONS is the table, by Flink's newest name of each option. OLDER_NAMES has the names that Flink gave up.
2. Nothing is passed over in silence: each option that was given gets one `Outcome`.
3. An unknown option is no error, as with Flink. A value that Flink or a setting would refuse is one (InvalidSetting).
4. Checkpoints have a rule of their own: a time-out lasts at most MOST_IN_PROGRESS intervals. The option that was given
   counts, and the other setting follows.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from portfolio_stream.errors import InvalidSetting
from portfolio_stream.savepoints.addresses import is_savepoint_store
from portfolio_stream.settings import KINDS, MOST_IN_PROGRESS, Settings, read_value, variable

OptionEffect = Literal["applied", "already so", "no effect"]

_DURATION = re.compile(r"(?P<count>[0-9]{1,12})\s*(?P<unit>[a-zµ]*)")
_MILLISECONDS: Mapping[str, float] = {
    **dict.fromkeys(("ns", "nano", "nanos", "nanosecond", "nanoseconds"), 1e-6),
    **dict.fromkeys(("µs", "micro", "micros", "microsecond", "microseconds"), 1e-3),
    **dict.fromkeys(("", "ms", "milli", "millis", "millisecond", "milliseconds"), 1),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1000),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60_000),
    **dict.fromkeys(("h", "hour", "hours"), 3_600_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000),
}
_MEMORY = re.compile(r"(?P<count>[0-9]{1,15})\s*(?P<unit>[a-z]*)")
_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("", "b", "bytes"), 1),
    **dict.fromkeys(("k", "kb", "kibibytes"), 1 << 10),
    **dict.fromkeys(("m", "mb", "mebibytes"), 1 << 20),
    **dict.fromkeys(("g", "gb", "gibibytes"), 1 << 30),
    **dict.fromkeys(("t", "tb", "tebibytes"), 1 << 40),
}


class Outcome(NamedTuple):
    """What came of one option."""

    #: as it was given
    option: str
    value: str
    effect: OptionEffect
    #: as what it is applied, or why it changes nothing; without a full stop
    detail: str

    def __str__(self) -> str:
        return f"{self.option}={self.value}: {self.effect}{'' if self.effect == 'applied' else ':'} {self.detail}"


@dataclass(slots=True)
class Translation:
    """What a set of options asks of the job."""

    #: how many workers
    parallelism: int | None = None
    #: changes of the job's settings, by PORTFOLIO_ variable
    settings: dict[str, str] = field(default_factory=dict)
    #: a savepoint's address, as it was given
    savepoint: str | None = None
    outcomes: list[Outcome] = field(default_factory=list)


# -- the rules


class Setting(NamedTuple):
    """The option sets a variable of ours. `read` turns Flink's text into ours, or raises ValueError."""

    field: str
    read: Callable[[str], str]
    expected: str


class Fixed(NamedTuple):
    """The job always works with `value`. Another legal value has no effect."""

    value: str
    detail: str
    others: tuple[str, ...]
    #: Flink also takes a class of somebody's own
    is_open: bool = False


class Without(NamedTuple):
    """Nothing here is like what the option sets."""

    detail: str


class Parallelism(NamedTuple):
    """The option is another way to say -p."""


class FromSavepoint(NamedTuple):
    """The option is another way to say -s."""


class SavepointDirectory(NamedTuple):
    """The option names the place of savepoints."""


Rule = Setting | Fixed | Without | Parallelism | FromSavepoint | SavepointDirectory


def duration_text(text: str) -> str:
    """A duration of Flink's as our settings have it. Flink's number without a unit has milliseconds."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or found["unit"] not in _MILLISECONDS:
        raise ValueError
    return _text_of(int(found["count"]) * _MILLISECONDS[found["unit"]])


def _text_of(milliseconds: float) -> str:
    whole = round(milliseconds)
    return f"{whole}ms" if whole % 1000 else f"{whole // 1000}s"


def _milliseconds_text(text: str) -> str:
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or found["unit"] not in _MILLISECONDS:
        raise ValueError
    return str(max(1, round(int(found["count"]) * _MILLISECONDS[found["unit"]])))


def _mebibytes_text(text: str) -> str:
    found = _MEMORY.fullmatch(text.strip().lower())
    if found is None or found["unit"] not in _BYTES:
        raise ValueError
    return str(int(found["count"]) * _BYTES[found["unit"]] >> 20)


_A_DURATION = "a duration such as 60000 (milliseconds), 60s or 1min"
_NO_JVM = (
    "a worker is a Python process, which has no heap to size; what bounds it is its host or container (systemd's "
    "MemoryMax, Compose's mem_limit), and its state has taskmanager.memory.managed.size"
)
_NO_JVM_SUPERVISOR = "the supervisor is a Python process, which has no heap to size, and it needs little memory"
_COMMITS = "a checkpoint here is a commit to Kafka, at least ten times a second, which neither blocks nor overlaps"
_NO_YARN = "the workers are processes of this host, or of Compose, systemd or Kubernetes, and YARN is not used"
_RESTARTS = (
    "a worker that fails is started again by its supervisor, without a last try, and a partition that cannot go on "
    "halts alone (`portfolio-stream partitions list`)"
)

OPTIONS: Mapping[str, Rule] = {
    "execution.checkpointing.interval": Setting(
        "checkpoint_interval", duration_text, f"{_A_DURATION}, from 100 ms to 1 h"
    ),
    "execution.checkpointing.timeout": Setting(
        "checkpoint_timeout", duration_text, f"{_A_DURATION}, from 100 ms to 1 h"
    ),
    "execution.buffer-timeout.interval": Setting(
        "commit_interval_ms",
        _milliseconds_text,
        f"{_A_DURATION}, up to 10 s: it bounds how long an output waits for its commit",
    ),
    "taskmanager.memory.managed.size": Setting(
        "state_memory", _mebibytes_text, "a size such as 512m or 4g, from 64m to 1000000m"
    ),
    "kubernetes.operator.periodic.savepoint.interval": Setting(
        "savepoint_interval", duration_text, f"{_A_DURATION}, from 1 s to 30 d"
    ),
    "parallelism.default": Parallelism(),
    "execution.state-recovery.path": FromSavepoint(),
    "execution.checkpointing.savepoint-dir": SavepointDirectory(),
    "execution.checkpointing.mode": Fixed(
        "exactly_once", "every commit is one Kafka transaction, in each mode", ("at_least_once",)
    ),
    "execution.checkpointing.incremental": Fixed(
        "true", "each commit writes only what has changed to the changelog", ("false",)
    ),
    "state.backend.type": Fixed(
        "rocksdb",
        "the state is kept in RocksDB, and in the changelog",
        ("hashmap", "forst", "filesystem", "jobmanager", "memory"),
        is_open=True,
    ),
    "state.backend.rocksdb.memory.managed": Fixed("true", "PORTFOLIO_STATE_MEMORY bounds RocksDB's memory", ("false",)),
    "execution.runtime-mode": Fixed("streaming", "the job reads an endless source", ("batch", "automatic")),
    "execution.state-recovery.from-local": Fixed(
        "true",
        "a worker keeps its state in its data folder, and reads only what is missing from the changelog",
        ("false",),
    ),
    "execution.state-recovery.claim-mode": Fixed(
        "no_claim",
        "a savepoint stays as it is; `portfolio-stream savepoint expire` deletes old ones",
        ("claim", "legacy"),
    ),
    "execution.state-recovery.ignore-unclaimed-state": Without("every row of a savepoint is loaded, or it is refused"),
    "execution.buffer-timeout.enabled": Without("a commit never waits for a full buffer"),
    "execution.checkpointing.min-pause": Without(_COMMITS),
    "execution.checkpointing.max-concurrent-checkpoints": Without(_COMMITS),
    "execution.checkpointing.tolerable-failed-checkpoints": Without(
        "a checkpoint that fails is counted, and ends nothing"
    ),
    "execution.checkpointing.externalized-checkpoint-retention": Without(
        "the commits are kept in Kafka whether the job runs or not"
    ),
    "execution.checkpointing.unaligned.enabled": Without("there are no barriers to align"),
    "execution.checkpointing.storage": Without("checkpoints are commits to Kafka"),
    "execution.checkpointing.dir": Without("checkpoints are commits to Kafka"),
    "execution.checkpointing.num-retained": Without("Kafka keeps the newest value of each key"),
    "pipeline.max-parallelism": Without("the source's partitions bound how many workers fold"),
    "pipeline.name": Without("the job's name is portfolio_stream"),
    "taskmanager.numberOfTaskSlots": Without("a worker is one slot; -p says how many workers there are"),
    "execution.target": Without("the job runs on the cluster that -m names"),
}

#: options that begin so, if OPTIONS does not have them
PREFIXES: Mapping[str, Rule] = {
    "taskmanager.memory.": Without(_NO_JVM),
    "jobmanager.memory.": Without(_NO_JVM_SUPERVISOR),
    "env.java.": Without("no process of the job runs in a JVM"),
    "restart-strategy": Without(_RESTARTS),
    "state.backend.rocksdb.": Without("RocksDB has settings of its own here, and PORTFOLIO_STATE_MEMORY bounds it"),
    "execution.checkpointing.": Without(_COMMITS),
    "yarn.": Without(_NO_YARN),
    "kubernetes.": Without(
        "Kubernetes runs the workers by its own manifests (docs/deployment.md), not by this command"
    ),
    "high-availability": Without("the control topic in Kafka holds the job; any supervisor goes on with it"),
    "jobmanager.scheduler": Without("the job can always be given another number of workers: `flink modify ID -p N`"),
    "metrics.": Without("each worker serves its metrics at /metrics"),
    "rest.": Without("-m names the address of the cluster"),
    "security.": Without("PORTFOLIO_KAFKA_* variables set the security of the connections to Kafka"),
    "pipeline.": Without("the workers' own code is the pipeline"),
    "table.": Without("the job has no SQL"),
    "python.": Without("the job is a Python program already, and brings its own interpreter"),
}

#: Flink's earlier name of an option, and its newest one
OLDER_NAMES: Mapping[str, str] = {
    "execution.buffer-timeout": "execution.buffer-timeout.interval",
    "state.backend": "state.backend.type",
    "state.backend.incremental": "execution.checkpointing.incremental",
    "state.backend.local-recovery": "execution.state-recovery.from-local",
    "state.checkpoint-storage": "execution.checkpointing.storage",
    "state.checkpoints.dir": "execution.checkpointing.dir",
    "state.checkpoints.num-retained": "execution.checkpointing.num-retained",
    "state.savepoints.dir": "execution.checkpointing.savepoint-dir",
    "execution.checkpointing.unaligned": "execution.checkpointing.unaligned.enabled",
    "execution.savepoint.path": "execution.state-recovery.path",
    "execution.savepoint.ignore-unclaimed-state": "execution.state-recovery.ignore-unclaimed-state",
    "execution.savepoint-restore-mode": "execution.state-recovery.claim-mode",
    "taskmanager.managed.memory.size": "taskmanager.memory.managed.size",
    "taskmanager.heap.size": "taskmanager.memory.process.size",
    "jobmanager.heap.size": "jobmanager.memory.process.size",
}


def rule_of(option: str) -> Rule | None:
    """The rule of an option, by any of its names. None if the option is unknown."""
    name = OLDER_NAMES.get(option, option)
    if name in OPTIONS:
        return OPTIONS[name]
    return next((rule for prefix, rule in PREFIXES.items() if name.startswith(prefix)), None)


def translated(
    given: Mapping[str, str], settings: Settings, job_settings: Mapping[str, str], parallelism: int
) -> Translation:
    """What the options ask of a job that has these settings of its own, and this many workers.

    `settings` are the supervisor's. Raises InvalidSetting, which names the option.
    """
    asked = Translation()
    for option, value in given.items():
        detail: tuple[OptionEffect, str]
        match rule_of(option):
            case None:
                detail = "no effect", "no such option of Flink's is known here"
            case Without(because):
                detail = "no effect", because
            case Fixed() as fixed:
                detail = _fixed(option, value, fixed)
            case Parallelism():
                asked.parallelism = _whole(option, value)
                is_so = asked.parallelism == parallelism
                detail = ("already so", f"{parallelism} workers") if is_so else ("applied", f"as -p {value}")
            case FromSavepoint():
                if not value.strip():
                    raise InvalidSetting(f"-D{option}", value, "the name of a savepoint")
                asked.savepoint = value
                detail = "applied", f"as -s {value}"
            case SavepointDirectory():
                is_so = is_savepoint_store(value, settings)
                because = (
                    "savepoints are kept there"
                    if is_so
                    else (
                        f"savepoints are kept at {settings.savepoint_dir}: PORTFOLIO_SAVEPOINT_DIR, which all workers "
                        "and the supervisor read when they start"
                    )
                )
                detail = ("already so" if is_so else "no effect"), because
            case Setting() as setting:
                detail = _set(option, value, setting, settings, job_settings, asked)
        asked.outcomes.append(Outcome(f"-D{option}", value, *detail))
    _fit_checkpoints(asked, settings, job_settings)
    return asked


def _fixed(option: str, value: str, rule: Fixed) -> tuple[OptionEffect, str]:
    """Flink reads an enumeration without case, and with - or _."""
    said = value.strip().lower().replace("-", "_")
    if said == rule.value:
        return "already so", rule.detail
    if said in rule.others or rule.is_open:
        return "no effect", rule.detail
    raise InvalidSetting(f"-D{option}", value, f"one of {', '.join((rule.value, *rule.others))}")


def _whole(option: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 7 and int(value)):
        raise InvalidSetting(f"-D{option}", value, "a whole number from 1")
    return int(value)


def _set(
    option: str,
    value: str,
    rule: Setting,
    settings: Settings,
    job_settings: Mapping[str, str],
    asked: Translation,
) -> tuple[OptionEffect, str]:
    name = variable(rule.field)
    try:
        text = rule.read(value)
        wanted = read_value(name, text, KINDS[rule.field])
    except (ValueError, InvalidSetting):
        raise InvalidSetting(f"-D{option}", value, rule.expected) from None
    if name not in asked.settings and wanted == _now(rule.field, settings, job_settings):
        return "already so", f"{name}={text}"
    asked.settings[name] = text
    return "applied", f"as {name}={text}"


def _now(name: str, settings: Settings, job_settings: Mapping[str, str]) -> object:
    """The value that the workers have: the job's own, or the supervisor's."""
    text = job_settings.get(variable(name))
    return getattr(settings, name) if text is None else read_value(variable(name), text, KINDS[name])


def _fit_checkpoints(asked: Translation, settings: Settings, job_settings: Mapping[str, str]) -> None:
    """Let the setting that was not given follow the one that was. Raises InvalidSetting if both were."""
    names = variable("checkpoint_interval"), variable("checkpoint_timeout")
    both = {**job_settings, **asked.settings}
    interval, timeout = (
        float(str(_now(one, settings, both))) * 1000 for one in ("checkpoint_interval", "checkpoint_timeout")
    )
    if timeout <= MOST_IN_PROGRESS * interval:
        return
    if all(name in asked.settings for name in names):
        expected = f"at most {MOST_IN_PROGRESS} times execution.checkpointing.interval ({interval:g} ms)"
        raise InvalidSetting("-Dexecution.checkpointing.timeout", f"{timeout:g} ms", expected)
    is_timeout_given = names[1] in asked.settings
    follows = names[0] if is_timeout_given else names[1]
    milliseconds = -(-timeout // MOST_IN_PROGRESS) if is_timeout_given else MOST_IN_PROGRESS * interval
    asked.settings[follows] = _text_of(milliseconds)
    because = f"because at most {MOST_IN_PROGRESS} checkpoints may be in progress at once"
    asked.outcomes.append(Outcome(follows, asked.settings[follows], "applied", because))
