"""Bugs that somebody could write into the engine: each must be caught, or the simulation proves nothing.

A seeded bug replaces named functions, rows of literal tables or numbers of the engine, or it stands at one of the
engine's ports (see `hooks`). A bug may need several hooks: the engine has a second check behind some of its steps, and
that check would undo the harm.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from aiokafka import errors as kafka_errors
from kio.schema.errors import ErrorCode as E

from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import ControlChange
from portfolio_stream.exactly_once.beat_content import Owes
from portfolio_stream.exactly_once.membership_life import MembershipEvent, MembershipState, Next
from portfolio_stream.exactly_once.partition_life import PartitionEvent, PartitionState, Transition
from portfolio_stream.exactly_once.protocol import Action, StaleEpoch, TransactionState, TransactionStep, after
from portfolio_stream.exactly_once.slices import cut
from portfolio_stream.exactly_once.stored_view import StoredView
from portfolio_stream.exactly_once.views import Dirty
from portfolio_stream.jobs import asking
from portfolio_stream.kafka.offset_lookup import LATEST, READ_COMMITTED
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.record_batches import next_offset
from portfolio_stream.savepoints import write
from tests.judge.ledger import CHANGELOG
from tests.simulation.hooks import ENGINE, Hook, Line, Number, OnTheLine, Replaced, Row, installed
from tests.simulation.kafka import answers
from tests.simulation.kafka.transactions import Pair

JOBS = "portfolio_stream.jobs."
COMMITS = f"{ENGINE}commits:Commits"
CONTROL_WRITER = "portfolio_stream.control.change:ControlWriter"
SWITCHER = f"{JOBS}switch:Switcher"
FOLDING = f"{ENGINE}folding:Folding"
OWNERSHIP = f"{ENGINE}ownership:Ownership"
LIFE = f"{ENGINE}partition_life"
MEMBERSHIP = f"{ENGINE}membership:Membership"
RECOVERY = f"{ENGINE}recovery"
STANDBYS = f"{ENGINE}standby:Standbys"
VIEW = f"{ENGINE}stored_view:StoredView"
VIEWS = f"{ENGINE}views:Views"
WRITER = f"{ENGINE}writer:Writer"

Send = Callable[[Any], Awaitable[Any]]
Call = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mutation:
    name: str
    hooks: Sequence[Hook]
    #: the profile of the runs that are to find it
    profile: str = "storm"

    def installed(self) -> AbstractContextManager[Mapping[str, int]]:
        """The engine has the bug inside of it. Gives how often each hook was used."""
        return installed(self.hooks)


# -- bugs on the line between an engine and its brokers


class NamesNobody(Line):
    """Stock aiokafka sends this generation: the coordinator takes the offsets from anybody."""

    async def ask(self, request: Any, send: Send) -> Any:
        if _api(request) == "TxnOffsetCommit":
            self.use()
            request = replace(request, generation_id=-1, member_id="")
        return await send(request)


class StampsTheNewestEpoch(Line):
    """Offsets carry the epoch of the last heartbeat's answer, and not the epoch under which their records were read."""

    newest: tuple[str, int] | None = None

    async def ask(self, request: Any, send: Send) -> Any:
        if _api(request) == "TxnOffsetCommit" and self.newest is not None:
            member_id, epoch = self.newest
            if epoch != request.generation_id:
                self.use()
            request = replace(request, generation_id=epoch, member_id=member_id)
        answer = await send(request)
        if _api(request) == "ConsumerGroupHeartbeat" and answer.error_code is E.none and answer.member_epoch > 0:
            self.newest = request.member_id, answer.member_epoch
        return answer


class AnySession:
    """Equal to every session."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class TakesSilenceForSuccess(Line):
    """A commit without an answer counts as committed."""

    async def ask(self, request: Any, send: Send) -> Any:
        try:
            return await send(request)
        except (*LOST, kafka_errors.KafkaError):
            if _api(request) != "EndTxn" or not request.committed:
                raise
            self.use()
            return answers.end_txn(E.none, Pair(request.producer_id, request.producer_epoch + 1))


class AsksForTheOtherVerdict(Line):
    """A commit that had no answer is sent again as an abort."""

    unanswered: Pair | None = None

    async def ask(self, request: Any, send: Send) -> Any:
        if _api(request) != "EndTxn":
            return await send(request)
        pair = Pair(request.producer_id, request.producer_epoch)
        if not request.committed:
            self.unanswered = None
        elif self.unanswered == pair:
            self.use()
            request = replace(request, committed=False)
        try:
            answer = await send(request)
        except BaseException:
            self.unanswered = pair if request.committed else None
            raise
        return answer


class ReadsToTheLastStableOffset(Line):
    """The changelog's end is the last stable offset: what a pending transaction holds is left out."""

    async def ask(self, request: Any, send: Send) -> Any:
        asks_for_end = _api(request) == "ListOffsets" and request.topics[0].partitions[0].timestamp == LATEST
        if asks_for_end and request.topics[0].name == CHANGELOG:
            self.use()
            request = replace(request, isolation_level=READ_COMMITTED)
        return await send(request)


class AsksForUnstableOffsets(Line):
    """The group's offsets are read although a pending transaction may change them."""

    async def ask(self, request: Any, send: Send) -> Any:
        if _api(request) == "OffsetFetch":
            self.use()
            request = replace(request, require_stable=False)
        return await send(request)


#: the member epoch as it was when a heartbeat began to wait for the heartbeat before
EPOCH_BEFORE: ContextVar[int] = ContextVar("epoch_before", default=0)


class SendsTheEpochOfBefore(Line):
    async def ask(self, request: Any, send: Send) -> Any:
        if _api(request) == "ConsumerGroupHeartbeat" and request.member_epoch > 0:
            self.use()
            request = replace(request, member_epoch=EPOCH_BEFORE.get())
        return await send(request)


def _api(request: Any) -> str:
    return type(request).__name__.removesuffix("Request")


# -- bugs in a transaction's steps


async def sends_no_offsets(send_offsets: Call, writer: Any, *args: Any, **kwargs: Any) -> None:
    writer.state = after(writer.state, TransactionStep.OFFSETS)


async def commits_offsets_alone(send_offsets: Call, writer: Any, *args: Any, **kwargs: Any) -> None:
    await send_offsets(writer, *args, **kwargs)
    writer.state = after(writer.state, TransactionStep.PRODUCE)
    await writer.commit()
    writer.state = TransactionState.RESERVED


async def postpones_offsets(send_offsets: Call, writer: Any, *args: Any, **kwargs: Any) -> None:
    writer.postponed = lambda: send_offsets(writer, *args, **kwargs)
    writer.state = TransactionState.RESERVED


async def sends_offsets_after_records(send_records: Call, writer: Any, parts: Any) -> Any:
    endings = await send_records(writer, parts)
    if hasattr(writer, "postponed"):  # a decision about the job, or a new changelog, has no offsets
        writer.state = TransactionState.READY
        with suppress(StaleEpoch):
            await writer.postponed()
        writer.state = TransactionState.WRITTEN
    return endings


async def ends_too_far(send_records: Call, writer: Any, parts: Any) -> Any:
    return {target: ending + 3 for target, ending in (await send_records(writer, parts)).items()}


def stamps_any_session(stamp: Call, transaction: Any, session: int, member_epoch: int) -> None:
    stamp(transaction, AnySession(), member_epoch)


def names_the_offset_before(encode_meta: Call, meta: Any) -> bytes:
    encoded: bytes = encode_meta(msgspec.structs.replace(meta, offset=meta.offset - 1))
    return encoded


def forgets_the_decision(set_aside: Call, commits: Any, partition: int, record: Any) -> None:
    commits.move_position(partition, next_offset(record))


# -- bugs in what is stored


class EagerView(StoredView[Any]):
    """Its values are written to the store when they are encoded, before the commit."""

    def __init__(self, definition: Any, store: Any, partition: int) -> None:
        super().__init__(definition, store, partition)
        self.store = store
        self.writes: set[Any] = set()

    def take_dirty(self) -> dict[bytes, Any]:
        dirty, encode = super().take_dirty(), self.table.encode
        items = [(self.prefix + key, None if value is None else encode(value)) for key, value in dirty.items()]
        self.writes.add(asyncio.get_running_loop().create_task(self.store.write(items, {})))
        return dirty


def makes_an_eager_view(view: Call, *args: Any) -> StoredView[Any]:
    return EagerView(*args)


def leaves_tombstones_out(take_dirty: Call, view: Any) -> dict[bytes, Any]:
    return {key: value for key, value in take_dirty(view).items() if value is not None}


def forgets_that_a_write_failed(in_order: Call, store: Any, change: Callable[[], None]) -> None:
    change()


def forgets_what_is_not_stored(take_dirty: Call, view: Any) -> dict[bytes, Any]:
    dirty: dict[bytes, Any] = take_dirty(view)
    view.age()
    view.age()  # and once more: the older generation has nothing left
    return dirty


# -- bugs in what is forgotten, and when


def keeps_views_after_a_drop(forget: Call, views: Any, these: Collection[int]) -> None:
    """A doubt names all partitions of the topic, as a range; a revocation or a recovery names some."""
    if isinstance(these, range):
        views.keeps_all = True
    if not hasattr(views, "keeps_all"):
        forget(views, these)


class GivenBack(frozenset[int]):
    """Partitions that a revocation gave back."""


def names_what_is_given_back(release: Call, following: Any, gone: Collection[int]) -> None:
    release(following, GivenBack(gone))


def keeps_views_of_what_was_given_back(forget: Call, views: Any, these: Collection[int]) -> None:
    given_back = views.__dict__.setdefault("given_back", set())
    if isinstance(these, range):
        given_back.clear()
    elif isinstance(these, GivenBack):
        given_back |= these
    forget(views, set(these) - given_back)


async def hands_out_what_was_dropped(
    hand_out_all: Call, folding: Any, deliver: Any, partition: int, batches: list[list[Any]], incarnation: int
) -> None:
    for records, size in cut(batches, lambda: folding.slice_records(partition)):
        await folding.hand_out(deliver, partition, records, size)


def acknowledges(failed: Call, folding: Any, piece: Any, error: BaseException) -> None:
    folding.acknowledged(piece)


def encodes_what_can_be(take_dirty: Call, views: Any, partition: int) -> list[Dirty]:
    kept: list[Dirty] = []
    for dirty in take_dirty(views, partition):
        kept.append(dirty._replace(values={}))
        for key, value in dirty.values.items():
            try:
                value is None or dirty.view.table.encode(value)
            except Exception:  # noqa: BLE001  that is the bug
                return kept
            kept[-1].values[key] = value
    return kept


#: while a failure drops the share of its partition
SHARES_STAY: ContextVar[bool] = ContextVar("shares_stay", default=False)


class Shares(dict[int, Any]):
    """The shares of the open transaction, which a failure cannot remove."""

    def pop(self, partition: int, *default: Any) -> Any:
        return default[0] if SHARES_STAY.get() else super().pop(partition, *default)


def holds_shares_that_stay(init: Call, transaction: Any, number: int) -> None:
    init(transaction, number)
    transaction.shares = Shares()


def keeps_the_share(discard: Call, commits: Any, these: Collection[int]) -> None:
    """A failure names the one partition in a tuple."""
    token = SHARES_STAY.set(isinstance(these, tuple))
    try:
        discard(commits, these)
    finally:
        SHARES_STAY.reset(token)


def believes_what_it_read(disagreement: Call, partition: int, meta: Any, group: int, *bounds: int) -> Any:
    return disagreement(partition, meta, meta.offset, *bounds)


def has_asked_long_enough(is_over: Call, deadline: float) -> bool:
    return True


async def remembers_the_epoch_of_before(beat: Call, membership: Any) -> None:
    EPOCH_BEFORE.set(membership.epoch)
    await beat(membership)


# -- bugs of copies


async def asks_for_stable_ends(
    log_offsets: Call, client: Any, topic: str, partitions: Collection[int], which: int
) -> dict[int, int]:
    found: dict[int, int] = await log_offsets(client, topic, partitions, which, READ_COMMITTED)
    return found


async def believes_in_its_membership(group_offsets: Call, *asked: Any, **more: Any) -> dict[int, int]:
    return {0: 0}


# -- bugs of standbys


@asynccontextmanager
async def gives_nothing_up(given_up: Call, standbys: Any, partitions: Collection[int]) -> AsyncIterator[None]:
    yield


def wants_what_is_owned(wanted: Call, standbys: Any) -> Any:
    return standbys.chosen


#: inside of the standbys' task, and of the tasks that it makes
STANDS_BY: ContextVar[bool] = ContextVar("stands_by", default=False)


async def says_that_it_stands_by(run: Call, standbys: Any) -> None:
    STANDS_BY.set(True)
    await run(standbys)


async def writes_a_standbys_position_first(write: Call, store: Any, items: Any, positions: Any) -> None:
    if not STANDS_BY.get():
        await write(store, items, positions)
        return
    await write(store, [], positions)
    await asyncio.sleep(0.05)
    await write(store, items, {})


# -- bugs of jobs, savepoints and switches


async def switches_offsets_alone(
    make: Call, switcher: Any, operation: Any, plan: Any, positions: Any, then: Any
) -> Any:
    """The new generation goes on in the changelog of the old one, whose state is at other offsets."""
    current = (await switcher._control.newest()).current
    kept = msgspec.structs.replace(plan, kept_changelog=current.changelog_topic)
    return await make(switcher, operation, kept, positions, then)


async def marks_nothing(mark: Call, switcher: Any, *args: Any) -> None:
    """META stays as the old generation left it."""


class FilesLast:
    """The place of the savepoints, of a writer that puts the data files behind the part that names them."""

    def __init__(self, objects: Any) -> None:
        self._objects = objects
        self._later: list[tuple[str, bytes]] = []

    async def get(self, path: str) -> bytes | None:
        found: bytes | None = await self._objects.get(path)
        return found

    async def put(self, path: str, data: bytes) -> None:
        self._later.append((path, data))

    async def put_new(self, path: str, data: bytes) -> bool:
        is_new: bool = await self._objects.put_new(path, data)
        for path, data in self._later:
            await asyncio.sleep(0.5)
            await self._objects.put(path, data)
        return is_new

    async def delete(self, paths: Collection[str]) -> None:
        """There is nothing to delete yet."""


async def puts_files_last(write_part: Call, objects: Any, **part: Any) -> Any:
    return await write_part(FilesLast(objects), **part)


async def looks_for_no_file(whole_parts: Call, objects: Any, head: Any) -> Any:
    found = [await write._part(objects, head.id, number) for number in range(head.partitions)]
    return tuple(part for part in found if part is not None)


async def ends_what_has_ended(
    end: Call, control: Any, operation: str, state: Any, *, reason: Any = None, result: Any = None
) -> Any:
    """Whoever sees all parts of an operation ends it, also after somebody else."""

    def decide(newest: ControlState) -> ControlChange | None:
        known = newest.operation(operation)
        if known is None or not known.state.is_final:
            return None
        return ControlChange(records=asking._end_records(newest, known, state, reason, result))

    await control.change(decide)
    return await end(control, operation, state, reason=reason, result=result)


def looks_at_no_generation(generation_in: Call, metadata: str | None) -> None:
    return None


def keeps_its_first_generation(give: Call, orders: Any, order: Any) -> None:
    first = orders.current
    give(orders, replace(order, generation=first.generation, changelog_topic=first.changelog_topic))


def goes_on(give: Call, orders: Any, order: Any) -> None:
    give(orders, replace(order, is_joined=True))


async def repeats_nothing(begin: Call, repeats: Any, partition: int, repeat: Any, decided: Any) -> None:
    await begin(repeats, partition, None, decided)


def takes_the_next_partition(rows: Call, objects: Any, manifest: Any, partition: int) -> Any:
    return rows(objects, manifest, (partition + 1) % manifest.partitions)


def checks_nothing(check: Call, *args: Any) -> None:
    """Whatever was loaded is right."""


async def forgets_decisions(decisions: Call, switcher: Any, *args: Any) -> dict[int, Any]:
    return {}


async def waits_for_nobody(settled: Call, switcher: Any, state: Any) -> Any:
    return await switcher._seen.positions(is_stable=False)


async def looks_for_no_member(require: Call, *args: Any) -> None:
    """Nobody can be there."""


async def confirms_nothing(require: Call, *args: Any) -> None:
    """Nothing can have moved."""


def copies_without_a_pause(copy: Call, partitions: Any, folder: Any, pauses: bool) -> Any:
    return copy(partitions, folder, False)


#: an expelled worker joins again while its transaction may be in flight; by itself, this does no harm
REJOINS_AT_ONCE = Row(
    f"{ENGINE}membership_life",
    "NEXT",
    ((MembershipState.MEMBER, MembershipEvent.EXPELLED),),
    Next(MembershipState.OUTSIDE, ends_session=True),
)

MUTATIONS = (
    Mutation("offsets that name no member", [OnTheLine(NamesNobody)]),
    Mutation("offsets outside of the transaction", [Replaced(WRITER, "send_offsets", commits_offsets_alone)]),
    Mutation("no offsets at all", [Replaced(WRITER, "send_offsets", sends_no_offsets)]),
    Mutation("store written before the commit", [Replaced(f"{ENGINE}views", "StoredView", makes_an_eager_view)]),
    Mutation(
        "newest member epoch stamped, whatever was lost",
        [
            OnTheLine(StampsTheNewestEpoch),
            Replaced(f"{ENGINE}transaction:Transaction", "stamp", stamps_any_session),
            REJOINS_AT_ONCE,
        ],
    ),
    Mutation("overlay kept after an abort", [Replaced(VIEWS, "forget", keeps_views_after_a_drop)]),
    Mutation(
        "recovery to the last stable offset instead of the end",
        [
            OnTheLine(ReadsToTheLastStableOffset),
            Replaced(RECOVERY, "disagreement", believes_what_it_read),
        ],
    ),
    Mutation(
        "records before the offsets were accepted",
        [
            Replaced(WRITER, "send_offsets", postpones_offsets),
            Replaced(WRITER, "send_records", sends_offsets_after_records),
        ],
    ),
    Mutation(
        "commit although a record batch was refused",
        [Row(f"{ENGINE}protocol", "ACTIONS", (TransactionStep.PRODUCE, E.not_leader_or_follower), Action.DONE)],
    ),
    Mutation(
        "records handed out that were read before a drop",
        [Replaced(FOLDING, "hand_out_all", hands_out_what_was_dropped)],
    ),
    Mutation("a failed fold acknowledges", [Replaced(FOLDING, "failed", acknowledges)]),
    Mutation("a failed encoding acknowledges", [Replaced(VIEWS, "take_dirty", encodes_what_can_be)]),
    Mutation(
        "a failed encoding leaves what its slices had been read",
        [
            Row(
                LIFE,
                "TRANSITIONS",
                ((PartitionState.RUNNING, PartitionEvent.FAILED),),
                Transition(PartitionState.SUSPECT),
            ),
            Row(
                LIFE,
                "TRANSITIONS",
                ((PartitionState.SUSPECT, PartitionEvent.FAILED),),
                Transition(PartitionState.SUSPECT),
            ),
        ],
    ),
    Mutation("an unanswered commit taken for committed", [OnTheLine(TakesSilenceForSuccess)]),
    Mutation("recovery from offsets that a transaction still holds", [OnTheLine(AsksForUnstableOffsets)]),
    Mutation("changelog position a record too far", [Replaced(WRITER, "send_records", ends_too_far)]),
    Mutation("tombstones left out of the changelog", [Replaced(VIEW, "take_dirty", leaves_tombstones_out)]),
    Mutation(
        "a failed fold's share kept in the open transaction",
        [
            Replaced(COMMITS, "discard", keeps_the_share),
            Replaced(f"{ENGINE}transaction:Transaction", "__init__", holds_shares_that_stay),
        ],
    ),
    Mutation(  # it was there once: chaos found it
        "a heartbeat that sends the epoch of before it waited",
        [
            OnTheLine(SendsTheEpochOfBefore),
            Replaced(MEMBERSHIP, "beat", remembers_the_epoch_of_before),
            REJOINS_AT_ONCE,
        ],
    ),
    Mutation(
        "views kept of a partition that was given back",
        [
            Replaced(OWNERSHIP, "release", names_what_is_given_back),
            Replaced(VIEWS, "forget", keeps_views_of_what_was_given_back),
        ],
    ),
    Mutation("values forgotten before the store has them", [Replaced(VIEW, "take_dirty", forgets_what_is_not_stored)]),
    Mutation(
        "rows written behind rows that the disk refused",
        [Replaced(f"{ENGINE}store:Store", "in_order", forgets_that_a_write_failed)],
    ),
    Mutation("an operator's decision without a record of it", [Replaced(COMMITS, "set_aside", forgets_the_decision)]),
    Mutation(
        "META that names the offset before", [Replaced(f"{ENGINE}commits", "encode_meta", names_the_offset_before)]
    ),
    Mutation(  # it was there once: the simulation found it
        "a target whose answer was lost is not asked for again",
        [
            Row(f"{ENGINE}beat_content", "OWES", (MembershipEvent.FAILED,), Owes.SAME),
            Row(f"{ENGINE}beat_content", "OWES", (MembershipEvent.UNANSWERED,), Owes.SAME),
            Number(f"{ENGINE}beat_content", "ANNOUNCE_SECONDS", math.inf),
        ],
    ),
    Mutation("a difference believed at once", [Replaced(RECOVERY, "is_over", has_asked_long_enough)]),
    Mutation(
        "a store that was away for too long is read on",
        [Number(f"{ENGINE}replay", "ABSENCE_SHARE", math.inf)],
        profile="days",
    ),
    Mutation("the other verdict while the first may be in flight", [OnTheLine(AsksForTheOtherVerdict)]),
    Mutation(
        "a copy whose outputs end before the last commit's markers",
        [Replaced(f"{ENGINE}state_copying", "log_offsets", asks_for_stable_ends)],
    ),
    Mutation(
        "a copy by a worker that does not ask whether it is still a member",
        [Replaced(f"{ENGINE}state_copying", "group_offsets", believes_in_its_membership)],
    ),
    Mutation(
        "a standby goes on writing after its partition was assigned",
        [Replaced(STANDBYS, "given_up", gives_nothing_up), Replaced(STANDBYS, "wanted", wants_what_is_owned)],
    ),
    Mutation(
        "a standby's position is stored before its values",
        [
            Replaced(STANDBYS, "run", says_that_it_stands_by),
            Replaced(f"{ENGINE}store:Store", "write", writes_a_standbys_position_first),
        ],
    ),
    Mutation(
        "offsets switched without the state",
        [Replaced(SWITCHER, "_make", switches_offsets_alone), Replaced(SWITCHER, "_mark_meta", marks_nothing)],
    ),
    Mutation(
        "a manifest written before its files",
        [
            Replaced(f"{JOBS}exporting", "write_part", puts_files_last),
            Replaced("portfolio_stream.savepoints.write", "_whole_parts", looks_for_no_file),
        ],
    ),
    Mutation("an operation carried out twice", [Replaced(f"{JOBS}asking", "end", ends_what_has_ended)]),
    Mutation(
        "an old generation's zombie",
        [
            Replaced("portfolio_stream.kafka.offset_lookup", "generation_in", looks_at_no_generation),
            Replaced(f"{ENGINE}orders:GivenOrders", "give", keeps_its_first_generation),
        ],
    ),
    Mutation("outputs written again", [Replaced(f"{ENGINE}repeats:Repeats", "begin", repeats_nothing)]),
    Mutation(
        "the state of another partition",
        [
            Replaced(f"{JOBS}switch", "savepoint_rows", takes_the_next_partition),
            Replaced(f"{JOBS}switch", "check", checks_nothing),
        ],
    ),
    Mutation("an operator's decision forgotten by a switch", [Replaced(SWITCHER, "_decisions", forgets_decisions)]),
    Mutation(
        "a switch that waits for no worker",
        [
            Replaced(SWITCHER, "_when_settled", waits_for_nobody),
            Replaced(CONTROL_WRITER, "_require_empty_group", looks_for_no_member),
            Replaced(CONTROL_WRITER, "_require_confirmed", confirms_nothing),
        ],
    ),
    Mutation("an order to stop that nobody follows", [Replaced(f"{ENGINE}orders:GivenOrders", "give", goes_on)]),
    Mutation(
        "a stop with a savepoint that pauses nothing", [Replaced(f"{JOBS}agent", "CopyState", copies_without_a_pause)]
    ),
)


def named(name: str) -> Mutation:
    return next(mutation for mutation in MUTATIONS if mutation.name == name)
