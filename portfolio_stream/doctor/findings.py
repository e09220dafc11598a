"""What the doctor finds, as values. Pure.

1. A finding says what is wrong, where, and which remedy mends it. The words are a literal template and named values.
2. A value that a stranger may have chosen (a client id, the reason of a halt) is a `Private`. A terminal shows it. A
   bundle never does: `Words.public` leaves it out. So a bundle shows literal templates and our own values alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from portfolio_stream.foreign import printable

LEFT_OUT = "(left out)"
SHOWN_CHARACTERS = 300  # of a value that a stranger chose

#: error: events are lost, not processed, or not safe; or a worker cannot start.
#: warning: all is well until something else fails, too.
#: note: an operator should know it.
Gravity = Literal["error", "warning", "note"]
GRAVITIES: tuple[Gravity, ...] = ("error", "warning", "note")


class Private(str):
    """A text that somebody else chose, or that may name a person, an amount, a secret or a place of this machine."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Words:
    """A template with {names}, and the value of each name."""

    template: str
    values: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.template.format(**{name: _shown(value) for name, value in self.values.items()})

    @property
    def public(self) -> str:
        """The words without a stranger's texts."""
        shown = {name: LEFT_OUT if isinstance(value, Private) else value for name, value in self.values.items()}
        return self.template.format(**shown)


def say(template: str, **values: object) -> Words:
    return Words(template, values)


def _shown(value: object) -> object:
    if not isinstance(value, Private):
        return value
    shown = printable(value[:SHOWN_CHARACTERS])
    return f"{shown}…" if len(value) > SHOWN_CHARACTERS else shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    gravity: Gravity
    #: the topic, partition, worker, folder, variable or address
    where: Words
    what: Words
    #: the command to type, or what else the operator does; None for a note that asks for nothing
    remedy: Words | None = None
    #: the remedy is a command line that can be typed as it stands
    is_command: bool = True


def _finding(
    gravity: Gravity, where: Words | str, what: Words | str, run: Words | str | None, do: Words | str | None
) -> Finding:
    remedy = run if run is not None else do
    return Finding(
        gravity=gravity,
        where=_words(where),
        what=_words(what),
        remedy=None if remedy is None else _words(remedy),
        is_command=run is not None,
    )


def error(
    where: Words | str, what: Words | str, *, run: Words | str | None = None, do: Words | str | None = None
) -> Finding:
    """`run` is a command line; `do` says what to do where no single command does."""
    return _finding("error", where, what, run, do)


def warning(
    where: Words | str, what: Words | str, *, run: Words | str | None = None, do: Words | str | None = None
) -> Finding:
    return _finding("warning", where, what, run, do)


def remark(
    where: Words | str, what: Words | str, *, run: Words | str | None = None, do: Words | str | None = None
) -> Finding:
    return _finding("note", where, what, run, do)


def own_command(bootstrap_servers: str, command: str) -> str:
    """A command line of ours that asks the examined cluster."""
    return f"portfolio-stream {command} --bootstrap-servers {bootstrap_servers}"


def _words(text: Words | str) -> Words:
    """A plain text is ours, and may have braces."""
    return text if isinstance(text, Words) else Words("{text}", {"text": text})


#: checked: the judge looked at all its evidence. not checked: a piece of the evidence could not be had.
#: nothing to check: what the check looks at is not there, and need not be (no worker runs)
CheckState = Literal["checked", "not checked", "nothing to check"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The outcome of one check."""

    check: str
    group: str
    state: CheckState
    #: why the check was not carried out
    reason: Words = Words("")
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    results: tuple[Result, ...]

    def count(self, gravity: Gravity) -> int:
        return sum(finding.gravity == gravity for result in self.results for finding in result.findings)

    @property
    def unchecked(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.state == "not checked")

    def exit_code(self, *, is_strict: bool = False) -> int:
        """1: an error, or with `is_strict` a warning. 2: neither, but a check could not be carried out. Otherwise 0."""
        if self.count("error") or (is_strict and self.count("warning")):
            return 1
        return 2 if self.unchecked else 0


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, the gravest first; otherwise in their order."""
    return tuple(sorted(findings, key=lambda finding: GRAVITIES.index(finding.gravity)))
