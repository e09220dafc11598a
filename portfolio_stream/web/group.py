"""The whole group as one value: workers, partitions, rates, lag. Pure: a `Ledger` turns looks into the state.

1. The owner of a partition is the worker that says so. If no worker says so, the group's coordinator decides. So the
   row of a partition shows a dead owner until the coordinator has given the partition to another worker.
2. Each process counts from 0. The Ledger takes the growth between two looks at the same process, so neither a restart
   nor a new worker looks like a peak.
3. Lag comes from Kafka (log ends and committed offsets), never from a worker: a dead worker's partitions have lag too.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from portfolio_stream.kafka.group import Offsets
from portfolio_stream.kafka.members import Owner
from portfolio_stream.observe.rates import WINDOW_SECONDS, Counted, Meter
from portfolio_stream.web.status import LATEST_EVENTS, WorkerStatus
from portfolio_stream.web.verdict import NOT_AUDITED, Audit

FORGOTTEN_SECONDS = 600.0  # how long the page shows a worker that has gone
#: if two workers claim a partition, as in a moment of a rebalance, the state that comes first here counts
CLAIMS = ("running", "paused", "halted", "recovering")
LEFT = "it left the group, or the group gave it up"


@dataclass(frozen=True, slots=True)
class Silence:
    """The absence of an answer from a worker."""

    #: silent: the worker may be there. gone: the worker is not there
    state: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLook:
    """A look at one worker, at one moment."""

    worker: Owner
    is_member: bool
    #: the worker's partitions, as the coordinator knows them
    assigned: tuple[int, ...]
    answer: WorkerStatus | Silence


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    worker: str
    address: str
    #: ready, unready, silent or gone
    state: str
    detail: str
    version: str | None
    uptime_seconds: float | None
    #: seconds since its last answer; None if it has never answered
    seen_seconds_ago: float | None
    partitions: dict[int, str]
    events_per_second: float | None
    transactions_per_second: float | None
    #: drops of this process
    drops: int | None
    #: restarts that the worker that serves the page has seen
    restarts: int


class PartitionRow(msgspec.Struct, frozen=True, kw_only=True):
    partition: int
    owner: str | None
    #: running, paused, recovering, halted, unowned, silent (its owner does not answer), or foreign (its owner is no
    #: worker)
    state: str
    detail: str
    #: the offset of the record that halts the partition
    halted_at: int | None
    lag: int | None
    committed: int | None
    end: int | None


class GroupTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of the last five seconds; null while there is nothing to measure."""

    events_per_second: float | None
    transactions_per_second: float | None
    rejected_per_second: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    #: null if the lag of any partition is unknown
    lag: int | None
    #: drops of the running processes
    drops: int
    restarts: int


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a worker told."""

    worker: str
    #: another one after each start of the worker
    process: str
    sequence: int
    #: milliseconds since 1970, by the worker's clock
    time: int
    level: str
    text: str


class GroupState(msgspec.Struct, frozen=True, kw_only=True):
    served_by: str
    #: whether readers sign in, and may sign out
    asks_for_token: bool
    #: the gaps in this value, a sentence each
    problems: tuple[str, ...]
    workers: tuple[WorkerRow, ...]
    partitions: tuple[PartitionRow, ...]
    totals: GroupTotals
    audit: Audit
    #: the latest ones of all workers that answer, newest first
    events: tuple[EventRow, ...] = ()


@dataclass(slots=True)
class _KnownWorker:
    look: WorkerLook
    status: WorkerStatus | None = None
    #: when it last answered, in monotonic seconds
    answered: float | None = None
    #: when it last answered or was a member
    seen: float = 0.0
    restarts: int = 0

    def feed(self, now: float, look: WorkerLook) -> Counted:
        """Take a new look, and return the growth since the last one."""
        before, self.look = self.status, look
        if look.is_member:
            self.seen = now
        if isinstance(look.answer, Silence):
            return Counted()
        self.status, self.answered, self.seen = look.answer, now, now
        is_same = before is not None and before.process == look.answer.process
        self.restarts += before is not None and not is_same
        return look.answer.counted.since(before.counted) if before is not None and is_same else Counted()

    def forget_counts(self) -> None:
        self.status = None


class Ledger:
    """The state of the group, from looks that are about a second apart."""

    def __init__(self, served_by: str, *, asks_for_token: bool = False) -> None:
        self._served_by = served_by
        self._asks_for_token = asks_for_token
        self._known: dict[Owner, _KnownWorker] = {}
        self._meter = Meter()
        self._fed = float("-inf")

    @property
    def workers(self) -> tuple[Owner, ...]:
        """Returns the remembered workers that have answered once. The others are not asked after they have left."""
        return tuple(worker for worker, known in self._known.items() if known.answered is not None)

    def feed(
        self,
        now: float,
        looks: Sequence[WorkerLook],
        *,
        partition_count: int,
        offsets: Mapping[int, Offsets] | None,
        foreign: Mapping[int, str] = MappingProxyType({}),
        problems: tuple[str, ...] = (),
        audit: Audit = NOT_AUDITED,
    ) -> GroupState:
        """Take the looks of one moment and return the state.

        `now` is monotonic. A worker without a look keeps its last row. `foreign` has the partitions that a member holds
        which is no worker.
        """
        if now - self._fed > WINDOW_SECONDS:  # nobody looked for a while: that growth belongs to no window
            self._meter = Meter()
            for known in self._known.values():
                known.forget_counts()
        self._fed = now
        came = Counted()
        for look in looks:
            known = self._known.setdefault(look.worker, _KnownWorker(look))
            came += known.feed(now, look)
        self._take_over({look.worker for look in looks})
        here = {look.worker for look in looks if look.is_member}
        self._known = {
            worker: known
            for worker, known in self._known.items()
            if now - known.seen < FORGOTTEN_SECONDS and (known.answered is not None or worker in here)
        }
        self._meter.feed(now, came)
        partitions = self._partition_rows(partition_count, offsets, foreign)
        return GroupState(
            served_by=self._served_by,
            asks_for_token=self._asks_for_token,
            problems=problems,
            workers=tuple(_worker_row(now, known) for _, known in sorted(self._known.items(), key=_by_name)),
            partitions=tuple(partitions),
            totals=self._totals([row.lag for row in partitions]),
            audit=audit,
            events=self._latest_events(),
        )

    def _take_over(self, seen: Collection[Owner]) -> None:
        """Count a worker that answers at a new address as the same worker, started again."""
        for worker in [worker for worker in self._known if worker not in seen]:
            successor = next((other for other in seen if other.instance_id == worker.instance_id), None)
            if successor is not None:
                self._known[successor].restarts += self._known.pop(worker).restarts + 1

    def _partition_rows(
        self, count: int, offsets: Mapping[int, Offsets] | None, foreign: Mapping[int, str]
    ) -> list[PartitionRow]:
        owners = owners_of([known.look for known in self._known.values()], foreign)
        count = max(count, 1 + max(owners, default=-1))
        return [_partition_row(partition, owners.get(partition), offsets) for partition in range(count)]

    def _latest_events(self) -> tuple[EventRow, ...]:
        rows = [
            EventRow(
                worker=answer.worker,
                process=answer.process,
                sequence=event.sequence,
                time=event.time,
                level=event.level,
                text=event.text,
            )
            for known in self._known.values()
            if isinstance(answer := known.look.answer, WorkerStatus)
            for event in answer.latest_events
        ]
        rows.sort(key=lambda row: (row.time, row.worker, row.sequence), reverse=True)
        return tuple(rows[:LATEST_EVENTS])

    def _totals(self, lags: Sequence[int | None]) -> GroupTotals:
        meter = self._meter
        running = [answer for known in self._known.values() if isinstance(answer := known.look.answer, WorkerStatus)]
        return GroupTotals(
            events_per_second=meter.rate(lambda came: came.events),
            transactions_per_second=meter.rate(lambda came: came.commits),
            rejected_per_second=meter.rate(lambda came: came.rejected),
            p50=meter.latency(0.5),
            p95=meter.latency(0.95),
            p99=meter.latency(0.99),
            lag=None if None in lags or not lags else sum(lag for lag in lags if lag is not None),
            drops=sum(answer.drops for answer in running),
            restarts=sum(known.restarts for known in self._known.values()),
        )


@dataclass(frozen=True, slots=True)
class Held:
    """The state of a partition at its owner."""

    #: None if no worker owns the partition
    owner: str | None
    state: str
    detail: str
    halted_at: int | None = None


def owners_of(looks: Sequence[WorkerLook], foreign: Mapping[int, str]) -> Mapping[int, Held]:
    claims: dict[int, list[Held]] = {}
    assigned: dict[int, Held] = {}
    for look in looks:
        name, answer = look.worker.instance_id, look.answer
        if isinstance(answer, Silence):
            silent = Held(name, "silent", f"its owner {name} does not answer: {answer.detail}")
            assigned |= dict.fromkeys(look.assigned, silent)
            continue
        assigned |= dict.fromkeys(look.assigned, Held(name, "recovering", "its owner takes it over"))
        for partition, told in answer.partitions.items():
            at = "" if told.offset is None else f"at offset {told.offset}: "
            detail = at + told.reason if told.reason else ""
            claims.setdefault(partition, []).append(Held(name, told.state, detail, told.offset))
    ranked = {
        partition: min(held, key=lambda one: CLAIMS.index(one.state) if one.state in CLAIMS else len(CLAIMS))
        for partition, held in claims.items()
    }
    return assigned | {partition: Held(None, "foreign", who) for partition, who in foreign.items()} | ranked


def _partition_row(partition: int, held: Held | None, offsets: Mapping[int, Offsets] | None) -> PartitionRow:
    at = None if offsets is None else offsets.get(partition)
    held_by = Held(None, "unowned", "no worker has it") if held is None else held
    return PartitionRow(
        partition=partition,
        owner=held_by.owner,
        state=held_by.state,
        detail=held_by.detail,
        halted_at=held_by.halted_at,
        lag=None if at is None else at.lag,
        committed=None if at is None else at.committed,
        end=None if at is None else at.last_stable_offset,
    )


def _by_name(item: tuple[Owner, _KnownWorker]) -> tuple[str, str, str]:
    return item[0].instance_id, item[0].address, item[0].member_id


def _worker_row(now: float, known: _KnownWorker) -> WorkerRow:
    look = known.look
    here = look.answer if isinstance(look.answer, WorkerStatus) else None
    state, detail = _state(look)
    return WorkerRow(
        worker=look.worker.instance_id,
        address=look.worker.address,
        state=state,
        detail=detail,
        version=None if known.status is None else known.status.version,
        uptime_seconds=None if here is None else here.uptime_seconds,
        seen_seconds_ago=None if known.answered is None else round(now - known.answered, 1),
        partitions={} if here is None else {number: told.state for number, told in here.partitions.items()},
        events_per_second=None if here is None else here.events_per_second,
        transactions_per_second=None if here is None else here.transactions_per_second,
        drops=None if here is None else here.drops,
        restarts=known.restarts,
    )


def _state(look: WorkerLook) -> tuple[str, str]:
    answer = look.answer
    if isinstance(answer, WorkerStatus):
        return ("unready", "; ".join(answer.reasons)) if answer.reasons else ("ready", "")
    return (answer.state, answer.detail) if look.is_member else ("gone", LEFT)
