"""The metrics and the log of a worker, as a bundle may show them. Pure."""

import re
from collections.abc import Callable, Mapping

from kio.schema.errors import ErrorCode

from portfolio_stream.control.job_figures import OUTCOMES
from portfolio_stream.control.job_life import JobState
from portfolio_stream.doctor.allowed import ACTIONS, FIELDS, VERSION
from portfolio_stream.doctor.findings import LEFT_OUT
from portfolio_stream.domain.rejection import REJECTION_CODES
from portfolio_stream.exactly_once.engine import NO_QUEUES
from portfolio_stream.exactly_once.protocol import TransactionStep
from portfolio_stream.kafka.topic_rules import PARTITION_COUNT, RULES
from portfolio_stream.observe.disks import PLACES
from portfolio_stream.observe.families import PREFIX
from portfolio_stream.observe.kafka_counts import MOVES
from portfolio_stream.observe.start_steps import STEPS
from portfolio_stream.observe.statistics import PHASES

FAMILIES = (PREFIX, "process_", "python_")
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
_BOUND = re.compile(r"[0-9.e+-]{1,20}|\+Inf", re.ASCII)
_SAMPLE = re.compile(r"([a-z_]+)(?:\{(.*)\})? ([0-9.eE+-]+|NaN|[+-]Inf)", re.ASCII)
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', re.ASCII)
#: what the value of a label may be: the words that a worker has for it. Other labels are left out
LABELS: Mapping[str, Callable[[str], bool]] = {
    "partition": lambda value: _NUMBER.fullmatch(value) is not None,
    "le": lambda value: _BOUND.fullmatch(value) is not None,
    "version": lambda value: re.fullmatch(VERSION, value, re.ASCII) is not None,
    "step": frozenset((*STEPS, *(step.value for step in TransactionStep))).__contains__,
    "phase": frozenset(PHASES).__contains__,
    "code": frozenset(("", *REJECTION_CODES, "operator_dead_letter", "unreadable")).__contains__,
    "outcome": frozenset(("accepted", "duplicate", "rejected", "price", "deletion", "invalid", *OUTCOMES)).__contains__,
    "direction": frozenset(MOVES).__contains__,
    "queue": NO_QUEUES.__contains__,
    "place": frozenset(PLACES).__contains__,
    "state": frozenset(state.value for state in JobState).__contains__,
    "reason": frozenset(("late", "early")).__contains__,
    "error": frozenset(code.name for code in ErrorCode).__contains__,
    "setting": frozenset((*(rule.setting for rule in RULES), PARTITION_COUNT)).__contains__,
}

#: [2026-11-29 20:56:48,741] [2764] [INFO] recovered partition=0 offset=0
_LINE = re.compile(r"\[([0-9-]{10} [0-9:,]{8,12})\] \[([0-9]{1,10})\] \[([A-Z]{4,8})\] (.*)", re.ASCII)
_ACTION = re.compile("|".join(re.escape(action) for action in sorted(ACTIONS, key=len, reverse=True)))
_PAIR = re.compile(r"(?:^|\s)([a-z_]+)=([0-9]+(?:\.[0-9]+)?(?:\.\.[0-9]+)?|yes|no)(?=\s|$)", re.ASCII)


def metrics(exposition: str) -> str:
    """The samples of our own families, with the labels that may be shown. Help and comments are left out."""
    lines = []
    for line in exposition.splitlines():
        match = _SAMPLE.fullmatch(line.strip())
        if match is None or not match[1].startswith(FAMILIES):
            continue
        labels = [f'{name}="{value}"' for name, value in _LABEL.findall(match[2] or "") if _may_show(name, value)]
        lines.append(f"{match[1]}{{{','.join(labels)}}} {match[3]}" if labels else f"{match[1]} {match[3]}")
    return "\n".join(lines) + "\n"


def _may_show(name: str, value: str) -> bool:
    return name in LABELS and LABELS[name](value)


def log_lines(content: str) -> str:
    """Of each line: time, process, level, the action of a worker event, and its fields that are numbers."""
    shown = []
    for line in content.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue  # the rest of a message or a traceback
        when, process, level, message = match.groups()
        action = _ACTION.match(message)
        is_whole = action is not None and message[action.end() : action.end() + 1] in ("", " ")
        if action is None or not is_whole:
            shown.append(f"{when} {process} {level} {LEFT_OUT}")
            continue
        pairs = [f"{name}={value}" for name, value in _PAIR.findall(message[action.end() :]) if name in FIELDS]
        shown.append(" ".join([when, process, level, action[0], *pairs]))
    return "\n".join(shown) + "\n"
