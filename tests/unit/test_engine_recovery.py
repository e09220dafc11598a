"""The decisions of recovery about a partition: `recover` against scripted brokers and a scripted store."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiokafka import errors as kafka_errors

from portfolio_stream.errors import FoldMismatch
from portfolio_stream.exactly_once import recovery as module
from portfolio_stream.exactly_once.orders import GenerationReplaced
from portfolio_stream.exactly_once.recovery import Halted, Ready, Recovery, Source
from portfolio_stream.exactly_once.replay import Replayed
from portfolio_stream.exactly_once.store import Meta
from portfolio_stream.kafka.offset_lookup import EARLIEST, NO_OFFSET, GroupPosition, MemberEpoch

TOPIC_ID = UUID(int=5)
SOURCE = Source(name="in", topic_id=TOPIC_ID, partitions=8)
META = Meta(topic_id=TOPIC_ID.hex, offset=10, partitions=8, changelog="c", fold="f")
OTHER_ID = msgspec.structs.replace(META, topic_id="ff")
OTHER_COUNT = msgspec.structs.replace(META, partitions=4)
OTHER_CHANGELOG = msgspec.structs.replace(META, changelog="ee")
OLDER_FOLD = msgspec.structs.replace(META, fold="e")
OTHER_FOLD = msgspec.structs.replace(META, fold="g")


class StillUndecided(Exception):
    """Recovery asks again."""


class RecoveredCluster:
    """The brokers, the store, the replay and the clock of a recovery."""

    def __init__(self) -> None:
        self.now = 0.0
        #: the generation that the group's offsets name
        self.named: int | None = None
        #: how often the group's offsets were asked for
        self.looks = 0
        #: the group's offset of each partition that can be told now; may raise
        self.group: Callable[[], Mapping[int, int]] = dict
        self.metas: Mapping[int, Meta | None] = {}
        self.problem: str | None = None
        #: the source's first offset and its end
        self.bounds = (0, 20)

    async def group_offsets(
        self, client: Any, node: Any, group: str, topic: str, partitions: Collection[int], **_: Any
    ) -> dict[int, GroupPosition]:
        self.looks += 1
        return {
            partition: GroupPosition(offset, self.named)
            for partition, offset in self.group().items()
            if partition in partitions
        }

    async def log_offsets(self, client: Any, topic: str, partitions: Collection[int], which: int) -> dict[int, int]:
        return dict.fromkeys(partitions, self.bounds[0 if which == EARLIEST else 1])

    def monotonic(self) -> float:
        return self.now

    def meta(self, partition: int) -> Meta | None:
        return self.metas.get(partition)

    def decided(self, partition: int, offset: int) -> frozenset[int]:
        return frozenset()

    def begin(self, partitions: Collection[int]) -> None: ...

    async def run(self, offsets: Mapping[int, int], waiting: Any, *, others: int) -> dict[int, Replayed]:
        return dict.fromkeys(offsets, Replayed(2, self.problem))

    async def node(self) -> int:
        return 0

    async def refresh(self) -> None: ...

    def forget(self) -> None: ...

    def recovery(self) -> Recovery:
        parts: Any = self
        client: Any = SimpleNamespace(force_metadata_update=self.refresh)
        coordinators: Any = SimpleNamespace(group=self.node, forget=self.forget)
        return Recovery(
            client,
            coordinators,
            parts,
            parts,
            group="g",
            member=lambda: MemberEpoch("m", 1),
            source=SOURCE,
            changelog_id="c",
            generation=1,
            fold="f",
            older_folds=("e",),
        )


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> RecoveredCluster:
    made = RecoveredCluster()
    monkeypatch.setattr(module, "group_offsets", made.group_offsets)
    monkeypatch.setattr(module, "log_offsets", made.log_offsets)
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(module, "UNSTABLE_POLL_SECONDS", 0.0)
    monkeypatch.setattr(module, "OUTAGE_POLL_SECONDS", 0.0)
    return made


async def decided(recovery: Recovery, *partitions: int) -> list[Ready | Halted]:
    return [decision async for decision in recovery.recover(set(partitions))]


async def decide(
    cluster: RecoveredCluster,
    meta: Meta | None,
    group: int,
    first: int,
    end: int,
    *,
    last: bool,
    problem: str | None = None,
    recovery: Recovery | None = None,
    partition: int = 3,
) -> Ready | Halted | None:
    """The decision about one partition; None if recovery asks again. With `last`, the patience is over then."""
    asked = 0

    def offsets() -> Mapping[int, int]:
        nonlocal asked
        asked += 1
        if asked > 1 and not last:
            raise StillUndecided
        if asked > 1:
            cluster.now += module.AGREEMENT_SECONDS + 1
        return {partition: group}

    cluster.group, cluster.metas, cluster.problem, cluster.bounds = offsets, {partition: meta}, problem, (first, end)
    try:
        (decision,) = await decided(recovery or cluster.recovery(), partition)
    except StillUndecided:
        return None
    return decision


READY = Ready(partition=3, offset=10, replayed=2)


@pytest.mark.parametrize("last", [False, True])
async def test_state_and_group_agree(cluster: RecoveredCluster, last: bool) -> None:
    """Go on where both say."""
    assert READY == await decide(cluster, META, 10, 0, 20, last=last)
    assert READY == await decide(cluster, META, 10, 10, 10, last=last)


async def test_no_state_and_no_offset_is_a_beginning(cluster: RecoveredCluster) -> None:
    """At the first offset that the log has."""
    assert Ready(partition=3, offset=0, replayed=2) == await decide(cluster, None, NO_OFFSET, 0, 20, last=False)


@pytest.mark.parametrize(
    ("meta", "group", "first", "end", "words"),
    [
        (META, 11, 0, 20, "the group's offset is 11, but the state's is 10"),
        (META, 9, 0, 20, "the group's offset is 9, but the state's is 10"),
        (None, 10, 0, 20, "the group's offset is 10, but the changelog has no state"),
        (OTHER_ID, 10, 0, 20, "with id ff and 8 partitions"),
        (OTHER_COUNT, 10, 0, 20, "and 4 partitions"),
        (OTHER_ID, NO_OFFSET, 0, 20, "with id ff and 8 partitions"),
        (META, 10, 11, 20, "the next offset 10 is outside the source log 11..20"),
        (META, 10, 0, 9, "the next offset 10 is outside the source log 0..9"),
        (META, NO_OFFSET, 0, 9, "the next offset 10 is outside the source log 0..9"),
        (OTHER_CHANGELOG, 10, 0, 20, "a changelog with id ee, the topic has id c"),
        (OTHER_CHANGELOG, NO_OFFSET, 0, 20, "a changelog with id ee, the topic has id c"),
    ],
)
async def test_a_difference_is_asked_for_again_and_then_halts(
    cluster: RecoveredCluster, meta: Meta | None, group: int, first: int, end: int, words: str
) -> None:
    """Both values are named; nothing is guessed."""
    assert await decide(cluster, meta, group, first, end, last=False) is None
    halted = await decide(cluster, meta, group, first, end, last=True)
    assert isinstance(halted, Halted) and words in halted.reason


@pytest.mark.parametrize(
    ("meta", "group", "end", "group_offset"),
    [
        (META, 9, 20, 9),
        (META, 11, 20, 11),
        (META, 11, 9, None),
        (OTHER_ID, 11, 20, None),
        (OTHER_CHANGELOG, 9, 20, None),
    ],
)
async def test_only_an_offset_that_somebody_moved_can_be_put_back(
    cluster: RecoveredCluster, meta: Meta, group: int, end: int, group_offset: int | None
) -> None:
    """The state is whole and its offset is in the log. The reason names the way back."""
    halted = await decide(cluster, meta, group, 0, end, last=True)
    assert isinstance(halted, Halted) and group_offset == halted.group_offset
    assert (group_offset is not None) <= ("`portfolio-stream partitions retry 3 --from-state`" in halted.reason)


async def test_a_replay_that_is_not_whole_halts(cluster: RecoveredCluster) -> None:
    """Also where META and the group agree: other keys are gone."""
    halted = await decide(cluster, META, 10, 0, 20, last=True, problem="the changelog begins at 7")
    assert Halted(partition=3, offset=10, reason="the changelog begins at 7") == halted
    halted = await decide(cluster, META, NO_OFFSET, 0, 20, last=True, problem="the changelog begins at 7")
    assert Halted(partition=3, offset=10, reason="the changelog begins at 7") == halted


async def test_an_absent_group_offset_is_waited_for_and_then_meta_decides(cluster: RecoveredCluster) -> None:
    """A broker that has just started may not know the offset yet; the state knows it."""
    assert await decide(cluster, META, NO_OFFSET, 0, 20, last=False) is None
    assert replace(READY, lacks_group_offset=True) == await decide(cluster, META, NO_OFFSET, 0, 20, last=True)


async def test_another_fold_is_refused(cluster: RecoveredCluster) -> None:
    """At once: waiting changes nothing."""
    with pytest.raises(FoldMismatch, match="partition 3"):
        await decide(cluster, OTHER_FOLD, 10, 0, 20, last=False)


async def test_an_older_fold_that_is_readable_goes_on(cluster: RecoveredCluster) -> None:
    """Its state is read, and a partition with a fold that is not readable then halts alone."""
    recovery = cluster.recovery()
    assert READY == await decide(cluster, OLDER_FOLD, 10, 0, 20, last=False, recovery=recovery)
    assert recovery.is_fold_known


async def test_a_forged_fold_ends_no_worker_that_has_recovered_another_partition(cluster: RecoveredCluster) -> None:
    """This worker then knows that its fold is the group's: the partition with the other META halts alone."""
    recovery = cluster.recovery()
    assert READY == await decide(cluster, META, 10, 0, 20, last=False, recovery=recovery)
    halted = await decide(cluster, OTHER_FOLD, 10, 0, 20, last=True, recovery=recovery, partition=4)
    assert isinstance(halted, Halted) and "somebody else wrote this one's META" in halted.reason


async def test_the_patience_begins_with_the_first_difference(cluster: RecoveredCluster) -> None:
    """Brokers that were away for longer than the patience, or a long replay, do not use the patience up."""

    def offsets() -> Mapping[int, int]:
        cluster.now += 100 if cluster.looks == 1 else 1
        if cluster.looks == 1:
            raise kafka_errors.NodeNotReadyError
        return {3: 10 if cluster.looks == 4 else 9}

    cluster.group, cluster.metas = offsets, {3: META}
    assert [READY] == await decided(cluster.recovery(), 3)
    assert 4 == cluster.looks


async def test_each_partition_has_its_own_patience(cluster: RecoveredCluster) -> None:
    """A partition that differed for a moment must not use up the time of another, whose leader is away for longer."""

    def offsets() -> Mapping[int, int]:
        cluster.now += 1
        known = {3: 9 if cluster.now < 3 else 10, 4: 9 if cluster.now < 42 else 10}
        return {partition: offset for partition, offset in known.items() if partition == 3 or cluster.now > 40}

    cluster.group, cluster.metas = offsets, {3: META, 4: META}
    assert [READY, replace(READY, partition=4)] == await decided(cluster.recovery(), 3, 4)


def differ_for_good(cluster: RecoveredCluster) -> None:
    """META and the group differ; a look takes a second."""

    def offsets() -> Mapping[int, int]:
        cluster.now += 1
        return {3: 9}

    cluster.group, cluster.metas = offsets, {3: META}


async def test_the_patience_ends(cluster: RecoveredCluster) -> None:
    """A difference that stays stops the partition after 15 s."""
    differ_for_good(cluster)
    (halted,) = await decided(cluster.recovery(), 3)
    assert isinstance(halted, Halted)
    assert 15 < cluster.now < 20


async def test_patience_goes_on_where_another_recovery_takes_over(cluster: RecoveredCluster) -> None:
    """Or a group that changes every ten seconds would never hear what an operator must look at."""
    differ_for_good(cluster)
    recovery = cluster.recovery()

    async def decide_until(end: float, taken_over: set[int]) -> bool:
        async def decide() -> None:
            (halted,) = [decision async for decision in recovery.recover({3}, taken_over)]
            assert isinstance(halted, Halted)

        task = asyncio.create_task(decide())
        for _ in range(1_000):
            await asyncio.sleep(0)
            if cluster.now > end:
                break
        task.cancel()
        return not (await asyncio.gather(task, return_exceptions=True))[0]

    assert not await decide_until(10, set())
    assert not await decide_until(20, set())  # a partition that was given back meanwhile begins anew
    assert await decide_until(30, {3})


@pytest.mark.parametrize(("named", "is_replaced"), [(None, False), (1, False), (2, True)])
async def test_an_offset_of_a_newer_generation_ends_the_recovery(
    cluster: RecoveredCluster, named: int | None, is_replaced: bool
) -> None:
    """An engine whose orders are old must not go on with its own state, even where the offsets are equal."""
    cluster.group, cluster.metas, cluster.named = lambda: {3: 10}, {3: META}, named
    if is_replaced:
        with pytest.raises(GenerationReplaced):
            await decided(cluster.recovery(), 3)
    else:
        assert [READY] == await decided(cluster.recovery(), 3)
