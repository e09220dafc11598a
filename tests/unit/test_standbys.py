"""Which partitions a worker follows, when it stops following, and how long it waits with its join."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors as kafka_errors
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.exactly_once import standby as module
from portfolio_stream.exactly_once.partition_life import PartitionEvent
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.replay import Replayed
from portfolio_stream.exactly_once.standby import Standbys
from portfolio_stream.exactly_once.standby_choice import standbys_of
from portfolio_stream.exactly_once.store import ChangelogPosition, Store
from portfolio_stream.observe.events import StandbyOutage, StandbyRefused
from portfolio_stream.observe.ring import EventRing
from tests.unit.engine_stage import Reader

PARTITIONS = 4
NAMES = st.lists(st.sampled_from([f"worker-{number}" for number in range(9)]), min_size=1, unique=True)


# --- the choice


def dealt(names: list[str], partitions: int) -> dict[str, set[int]]:
    """Every partition has an owner, in turn."""
    return {name: set(range(index, partitions, len(names))) for index, name in enumerate(names)}


@given(names=NAMES, copies=st.integers(0, 10), partitions=st.integers(1, 40))
def test_each_partition_has_its_standbys_and_the_owner_is_none_of_them(
    names: list[str], copies: int, partitions: int
) -> None:
    """As many as asked for, or all of the other workers."""
    held = dealt(names, partitions)
    chosen = {name: standbys_of(name, held, copies=copies, partitions=partitions) for name in names}
    for partition in range(partitions):
        standbys = {name for name in names if partition in chosen[name]}
        assert min(copies, len(names) - 1) == len(standbys)
        assert not any(partition in held[name] for name in standbys)


@given(names=NAMES, copies=st.integers(1, 3))
def test_a_worker_that_goes_changes_only_the_places_that_it_had(names: list[str], copies: int) -> None:
    """Nobody stops to follow a partition because another standby went away."""
    owner, *others = names
    held: dict[str, set[int]] = {owner: set(range(40)), **{name: set() for name in others}}
    for gone in others:
        left = {name: owned for name, owned in held.items() if name != gone}
        for name in left.keys() - {owner}:
            before = standbys_of(name, held, copies=copies, partitions=40)
            assert before <= standbys_of(name, left, copies=copies, partitions=40)


def test_a_worker_that_is_about_to_join_is_counted() -> None:
    """It follows what it would follow as a member without partitions."""
    held = {"a": {0, 1}, "b": {2, 3}}
    assert frozenset(range(4)) == standbys_of("new", held, copies=2, partitions=4)
    assert frozenset() == standbys_of("new", held, copies=0, partitions=4)


# --- the following


class Replays:
    """A replay that waits for `may_end`, and writes to the store once more after it was cancelled."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ends: dict[int, int] = {}
        self.running: frozenset[int] = frozenset()
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None
        self.problem: str | None = None
        self.runs: list[frozenset[int]] = []

    async def run(self, group_offsets: Mapping[int, int], waiting: Any) -> dict[int, Replayed]:
        self.running = frozenset(group_offsets)
        self.runs.append(self.running)
        self.began.set()
        try:
            if self.error is not None:
                raise self.error
            await self.may_end.wait()
        finally:
            self.running = frozenset()
        self.ends |= dict.fromkeys(group_offsets, 5)
        return {partition: Replayed(0, self.problem) for partition in group_offsets}


class Stage:
    def __init__(self, store: Store, members: Mapping[str, Collection[int]]) -> None:
        self.members: Mapping[str, Collection[int]] | Exception = members
        self.member = SimpleNamespace(member_id="me.3", target=frozenset())
        self.partitions = Partitions(PARTITIONS, Reader())
        self.store = store
        self.replay = Replays(store)
        self.events = EventRing()
        group: Any = SimpleNamespace(members=self._members, forget=self._forget)
        replay: Any = self.replay
        member: Any = self.member
        self.standbys = Standbys(replay, group, member, self.partitions, store, copies=2, tell=self.events.tell)

    async def _members(self) -> Any:
        if isinstance(self.members, Exception):
            raise self.members
        return [SimpleNamespace(member_id=name, partitions=held) for name, held in self.members.items()]

    async def _forget(self) -> None: ...

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.standbys.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "POLL_SECONDS", "BEHIND_SECONDS", "OUTAGE_SECONDS"):
        monkeypatch.setattr(module, name, 0.0)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  a fake has no event for it
            await asyncio.sleep(0)


async def test_what_is_owned_or_given_is_not_followed(store: Store) -> None:
    """The worker's own partitions, and those that Kafka has just given to the worker."""
    stage = Stage(store, {"other": range(PARTITIONS)})
    stage.partitions.happened(PartitionEvent.ASSIGNED, (0,))
    stage.member.target = frozenset({1})
    async with stage.running():
        await stage.replay.began.wait()
        assert frozenset({2, 3}) == stage.replay.running == stage.standbys.followed


async def test_following_ends_before_a_partition_is_assigned(store: Store) -> None:
    """Inside of given_up() nothing of it runs; the other partitions are followed on. Later it is the owner's."""
    stage = Stage(store, {"other": range(PARTITIONS)})
    async with stage.running():
        await stage.replay.began.wait()
        assert 0 in stage.replay.running
        async with stage.standbys.given_up((0,)):
            assert frozenset() == stage.replay.running
            await until(lambda: stage.replay.running)
            assert frozenset({1, 2, 3}) == stage.replay.running
            stage.partitions.happened(PartitionEvent.ASSIGNED, (0,))
        stage.replay.may_end.set()
        await until(lambda: len(stage.replay.runs) > 4)
        assert {frozenset({1, 2, 3})} == set(stage.replay.runs[1:])
    assert frozenset() == stage.replay.running


async def test_a_partition_that_was_given_back_is_followed_again(store: Store) -> None:
    """From where its store is."""
    stage = Stage(store, {"other": range(PARTITIONS)})
    stage.partitions.happened(PartitionEvent.ASSIGNED, (0,))
    stage.replay.may_end.set()
    async with stage.running():
        await until(lambda: stage.replay.runs)
        stage.partitions.happened(PartitionEvent.REVOKED, (0,))
        stage.partitions.happened(PartitionEvent.RELEASED, (0,))
        await until(lambda: frozenset(range(PARTITIONS)) in stage.replay.runs)


async def test_how_far_behind_a_standby_is(store: Store) -> None:
    """Records between the store and the changelog's end; a partition that is not followed is left out."""
    stage = Stage(store, {"other": range(PARTITIONS)})
    stage.partitions.happened(PartitionEvent.ASSIGNED, (3,))
    await store.write([], {1: ChangelogPosition(topic_id="t", offset=2, written_at=0.0)})
    stage.replay.may_end.set()
    async with stage.running():
        await until(lambda: stage.replay.ends)
        assert {0: 5, 1: 3, 2: 5} == stage.standbys.behind()


@pytest.mark.parametrize("error", [OSError("away"), kafka_errors.KafkaConnectionError("away")])
async def test_a_failure_of_kafka_costs_a_pause(store: Store, error: Exception) -> None:
    """It is told, and the following goes on when the failure is over."""
    stage = Stage(store, {"other": range(PARTITIONS)})
    stage.replay.error = error
    async with stage.running():
        await until(lambda: stage.events.of(StandbyOutage))
        stage.replay.error = None
        stage.replay.may_end.set()
        await until(lambda: stage.replay.ends)


async def test_a_changelog_without_a_whole_state_is_left_alone_for_a_while(store: Store) -> None:
    """It is told once, and not read all the time."""
    stage = Stage(store, {"other": (0,)})
    stage.replay.problem = "the changelog begins at 7"
    stage.replay.may_end.set()
    async with stage.running():
        await until(lambda: stage.standbys.followed == frozenset() and stage.replay.runs)
        assert PARTITIONS == len(stage.events.of(StandbyRefused))
        assert 1 == len(stage.replay.runs)


# --- the join


async def test_a_worker_that_is_new_joins_when_its_standbys_are_warm(store: Store) -> None:
    """Until then the running partitions do not wait for it."""
    stage = Stage(store, {"other": range(PARTITIONS)})
    async with stage.running():
        joins = asyncio.create_task(stage.standbys.warmed())
        await stage.replay.began.wait()
        assert stage.standbys.is_warming and not joins.done()
        stage.replay.may_end.set()
        await joins
    assert not stage.standbys.is_warming


async def test_a_worker_does_not_wait_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It joins with cold standbys after WARMING_SECONDS."""
    monkeypatch.setattr(module, "WARMING_SECONDS", 0.01)
    stage = Stage(store, {"other": range(PARTITIONS)})
    async with stage.running():
        await stage.standbys.warmed()
        assert stage.replay.running and not stage.standbys.is_warming


@pytest.mark.parametrize(
    "members",
    [{"me": (0, 1), "other": (2, 3)}, {"other": ()}, {}, kafka_errors.GroupIdNotFound(), OSError("away")],
    ids=["a member already", "nobody has a partition", "nobody is there", "no group", "no answer"],
)
async def test_a_worker_for_which_partitions_wait_joins_at_once(store: Store, members: Any) -> None:
    """Nobody else folds them meanwhile; and no failure keeps a worker from joining."""
    stage = Stage(store, members)
    async with stage.running():
        async with asyncio.timeout(5):
            await stage.standbys.warmed()
        assert not stage.replay.may_end.is_set()


async def test_without_standbys_a_worker_joins_at_once(store: Store) -> None:
    """And nothing is followed, and nobody is asked."""
    nobody: Any = None
    standbys = Standbys(None, nobody, nobody, Partitions(PARTITIONS, Reader()), store, copies=0)
    await standbys.warmed()
    await standbys.run()
    assert (False, {}) == (standbys.is_warming, standbys.behind())
