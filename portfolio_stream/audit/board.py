"""The results of the audit so far, for the terminal, for programs and for Prometheus.

A violation stays: no later pass takes it back. The verdict `unverifiable` may change with the next pass.
"""

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import msgspec

from portfolio_stream.audit.anomaly import HistoryAnomaly, describe_anomaly
from portfolio_stream.audit.result import FIGURES, BaseResult, Findings, PartitionResult, base_line, notices_of

Verdict = Literal["holds", "violated", "unverifiable", "starting"]
#: the exit code of a command for each verdict; 130 is that of SIGINT in a shell: there is no verdict
EXIT_CODES: dict[Verdict, int] = {"holds": 0, "violated": 1, "unverifiable": 2, "starting": 130}


class ShownAnomaly(msgspec.Struct, frozen=True):
    kind: str
    partition: int
    offset: int | None
    detail: str


class Statement(msgspec.Struct, frozen=True):
    """GET /verdict, and a line of `verify --follow -o json`."""

    verdict: Verdict
    #: source records compared
    records: int
    #: source offsets that are not folded yet
    lag: int
    #: the first anomalies, at most LISTED of result.py
    anomalies: tuple[ShownAnomaly, ...]
    #: how many anomalies there are
    found: int
    #: RFC 3339: when the last pass ended, or failed
    updated: str
    #: RFC 3339: when the last pass ended that reached a verdict; null: none has
    decided: str | None
    #: changes when the auditor is started again: then `found` counts from 0
    run: str


@dataclass(slots=True)
class Board:
    findings: Findings = field(default_factory=Findings)
    results: dict[int, PartitionResult] = field(default_factory=dict)
    #: requests to workers that got no answer
    unanswered: int = 0
    #: the passes that ended, and the passes that failed
    passes: int = 0
    failures: int = 0
    #: how long the last pass took
    seconds: float = 0.0
    #: UNIX time when the last pass ended or failed, or when the audit started
    updated: float = field(default_factory=time.time)
    #: UNIX time when the last pass ended that compared everything: a failed pass reaches no verdict. None: none has
    decided: float | None = None
    #: why the last pass failed; None if it ended
    trouble: str | None = None
    #: the savepoint that the audit began with; None: it began with the first records
    base: BaseResult | None = None
    #: whether Kafka has answered, and the audit knows what it begins with
    has_begun: bool = False
    #: how often the history moved, so that the audit started over; and why it did so last
    moves: int = 0
    moved_because: str | None = None
    #: the id of this run of the auditor
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    #: the figures of the audits before the last move
    _earlier: Counter[str] = field(default_factory=Counter)

    @property
    def verdict(self) -> Verdict:
        if self.findings.counts:
            return "violated"
        if self.trouble is not None:
            return "unverifiable"
        return "holds" if self.passes else "starting"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    @property
    def figures(self) -> dict[str, int]:
        return {
            name: self._earlier[name] + sum(one.figures.get(name, 0) for one in self.results.values())
            for name in FIGURES
        }

    @property
    def lag(self) -> int:
        return sum(one.lag for one in self.results.values())

    @property
    def notices(self) -> tuple[str, ...]:
        base = () if self.base is None else (base_line(self.base),)
        moved = () if self.moved_because is None else (f"The audit started over: {self.moved_because}.",)
        return (*moved, *base, *notices_of(self.results.values()))

    def begun(self, base: BaseResult | None) -> None:
        """Note what the audit begins with."""
        self.base, self.has_begun = base, True

    def moved(self, reason: str) -> None:
        """Note that the audit starts over. What it found stays, but belongs to the earlier history."""
        self._earlier = Counter({name: count for name, count in self.figures.items() if name != "keys"})
        self.results.clear()
        self.moves += 1
        self.moved_because = reason
        self.failed(reason)

    def note(self, result: PartitionResult, anomalies: Sequence[HistoryAnomaly]) -> None:
        """Take the result of one partition's pass."""
        self.results[result.partition] = result
        self.findings.add(anomalies)

    def passed(self, seconds: float) -> None:
        """Note that a pass has compared every partition."""
        self.passes += 1
        self.seconds, self.trouble = seconds, None
        self.updated = self.decided = time.time()

    def failed(self, trouble: str) -> None:
        self.failures += 1
        self.updated, self.trouble = time.time(), trouble

    @property
    def time(self) -> str:
        """Returns `updated` as RFC 3339."""
        return _rfc3339(self.updated)

    def line(self) -> str:
        return msgspec.json.encode(self.statement()).decode()

    def statement(self) -> Statement:
        return Statement(
            verdict=self.verdict,
            records=self.figures["records"],
            lag=self.lag,
            anomalies=tuple(
                ShownAnomaly(one.kind, one.partition, one.offset, describe_anomaly(one)) for one in self.findings.listed
            ),
            found=self.findings.counts.total(),
            updated=self.time,
            decided=None if self.decided is None else _rfc3339(self.decided),
            run=self.run,
        )


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
