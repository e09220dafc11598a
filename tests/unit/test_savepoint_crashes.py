"""Wherever a writer dies, and however writers meet, no savepoint looks complete that is not, and to go on ends well."""

import asyncio
from collections.abc import Collection, Iterator
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.errors import SavepointKept, SavepointStoreFailed, SavepointTampered
from portfolio_stream.savepoints.check import verify
from portfolio_stream.savepoints.expire import TORN_SECONDS, choose, delete, expire
from portfolio_stream.savepoints.manifest import MANIFEST, PartitionPart, begun_at, is_id, new_id
from portfolio_stream.savepoints.objects import MemoryObjects, ObjectEntry, Objects
from portfolio_stream.savepoints.read import Summary, by_savepoint, load, savepoints
from portfolio_stream.savepoints.write import complete
from tests.unit.savepoint_world import (
    ID,
    LATER,
    ROWS,
    ChangelogRow,
    head,
    part,
    portfolio,
    position,
    savepoint,
)


class Dying(MemoryObjects):
    """Fails at the change with this number: before it, or right after it, when the caller does not know that it is
    done."""

    def __init__(self, dies_at: int, is_done: bool) -> None:
        super().__init__()
        self.left = dies_at
        self.is_done = is_done

    async def put(self, path: str, data: bytes) -> None:
        self._die(False)
        await super().put(path, data)
        self._die(True)

    async def put_new(self, path: str, data: bytes) -> bool:
        if await self.get(path) is not None:
            return False
        await self.put(path, data)
        return True

    async def delete(self, paths: Collection[str]) -> None:
        for path in paths:
            self._die(False)
            await super().delete([path])
            self._die(True)

    def _die(self, is_done: bool) -> None:
        if is_done is self.is_done:
            self.left -= 1
            if self.left == 0:
                raise SavepointStoreFailed("memory", "dead")


async def is_sound(objects: Objects) -> bool:
    """Whether each savepoint with a manifest is whole."""
    return all([(await verify(objects, one.id)).is_whole for one in await savepoints(objects) if one.state != "torn"])


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_writer_may_die_at_every_step(is_done: bool) -> None:
    """A manifest is never there without its files. Who writes again makes the savepoint complete."""
    for dies_at in count(1):
        objects = Dying(dies_at, is_done)
        try:
            await savepoint(objects)
        except SavepointStoreFailed:
            assert await is_sound(objects)
        if objects.left > 0:
            break
        await savepoint(objects)
        assert (await verify(objects, ID)).is_whole and (await load(objects, "latest")).id == ID
    assert dies_at > 8


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_deletion_may_die_at_every_step(is_done: bool) -> None:
    """What is left is torn, never complete. Who deletes again leaves nothing."""
    for dies_at in count(1):
        objects = Dying(0, is_done)
        await savepoint(objects)
        await savepoint(objects, name=LATER)
        objects.left = dies_at
        try:
            await delete(objects, ID)
        except SavepointStoreFailed:
            assert await is_sound(objects)
        if objects.left > 0:
            break
        if ID in by_savepoint(await objects.list()):
            await delete(objects, ID)
        assert [LATER] == [one.id for one in await savepoints(objects)]
        assert (await verify(objects, LATER)).is_whole
    assert dies_at > 6


class Meeting(MemoryObjects):
    """Lets other tasks run before each call, for as long as chance says, but no longer than `longest` turns."""

    def __init__(self, random: Random, longest: int = 6) -> None:
        super().__init__()
        self.random = random
        self._longest = longest

    def slower(self) -> "Meeting":
        """The same place, as a slow machine uses it."""
        other = Meeting(self.random, 12 * self._longest)
        other._objects = self._objects
        return other

    async def get(self, path: str) -> bytes | None:
        await self._wait()
        return await super().get(path)

    async def list(self, prefix: str = "") -> list[ObjectEntry]:
        await self._wait()
        return await super().list(prefix)

    async def put(self, path: str, data: bytes) -> None:
        await self._wait()
        await super().put(path, data)

    async def put_new(self, path: str, data: bytes) -> bool:
        await self._wait()
        if path in self._objects:
            return False
        self._objects[path] = (data, 0.0)
        return True

    async def delete(self, paths: Collection[str]) -> None:
        for path in paths:
            await self._wait()
            await super().delete([path])

    async def _wait(self) -> None:
        for _ in range(self.random.randrange(self._longest)):
            await asyncio.sleep(0)


@given(st.integers(0, 1 << 32))
async def test_an_old_owner_and_a_new_one_may_write_the_same_partition(seed: int) -> None:
    """Exactly one part counts, and no file of the other one is left, also if the savepoint is complete by then."""
    objects = Meeting(Random(seed))

    async def job() -> list[PartitionPart]:
        parts = [await part(objects, 0, [*ROWS[0], position("a", "Z")], offset=101), await part(objects, 1, ROWS[1])]
        await complete(objects, head())
        return parts

    old, new = await asyncio.gather(part(objects.slower(), 0, ROWS[0]), job())
    assert old == new[0] and tuple(new) == (await load(objects, ID)).parts
    assert (await verify(objects, ID)).is_whole


@given(st.integers(0, 1 << 32))
async def test_one_of_two_that_see_all_parts_makes_the_savepoint_complete(seed: int) -> None:
    """Both get the same manifest, and it never changes."""
    objects = Meeting(Random(seed))
    for number, rows in enumerate(ROWS):
        await part(objects, number, rows)
    one, other = await asyncio.gather(complete(objects, head(), "1 o'clock"), complete(objects, head(), "2 o'clock"))
    assert one == other == await load(objects, ID) == await complete(objects, head(), "3 o'clock")


@given(st.integers(0, 1 << 32))
async def test_the_pointer_ends_at_the_newest_of_savepoints_that_become_complete_together(seed: int) -> None:
    """Whoever points last. A stranger's folder with a manifest is no savepoint."""
    objects = Meeting(Random(seed))
    await objects.put("zzz/manifest.json", b"")
    for name in (ID, LATER):
        for number, rows in enumerate(ROWS):
            await part(objects, number, rows, name)

    async def later() -> None:
        for _ in range(objects.random.randrange(400)):
            await asyncio.sleep(0)
        await complete(objects, head(LATER))

    await asyncio.gather(complete(objects.slower(), head()), later())
    assert f'{{"id":"{LATER}"}}\n'.encode() == await objects.get("latest.json")


async def test_no_manifest_names_a_file_that_has_gone() -> None:
    objects = MemoryObjects()
    first = await part(objects, 0, ROWS[0])
    await part(objects, 1, ROWS[1])
    await objects.delete([f"{ID}/{first.files[0].path}"])
    with pytest.raises(SavepointTampered, match="missing"):
        await complete(objects, head())
    assert await objects.get(f"{ID}/{MANIFEST}") is None


async def test_a_part_that_is_there_is_not_written_again() -> None:
    """Who goes on after a crash reads no row of the partitions that are done."""
    objects = MemoryObjects()
    first = await part(objects, 0, ROWS[0])

    def unread() -> Iterator[ChangelogRow]:
        raise AssertionError
        yield

    assert first == await part(objects, 0, unread(), offset=101, in_order=False)


def summary(savepoint: str, state: str = "complete", modified: float | None = None) -> Summary:
    return Summary(
        id=savepoint,
        state=state,  # type: ignore[arg-type]
        begun_at="",
        bytes=1,
        modified=begun_at(savepoint) if modified is None else modified,
    )


DAY = 86_400.0
DAYS = [new_id(1.8e9 + day * DAY, lambda _: "abcdef") for day in range(6)]
NOW = 1.8e9 + 6 * DAY


def test_the_newest_and_the_young_ones_stay() -> None:
    found = [summary(one) for one in DAYS]
    assert tuple(DAYS[:3]) == choose(found, keep=2, older_than=3.5 * DAY, now=NOW).delete
    assert tuple(DAYS[:2]) == choose(found, keep=4, older_than=DAY, now=NOW).delete
    assert tuple(DAYS[:5]) == choose(found, keep=0, older_than=0, now=NOW).delete


def test_bases_and_what_is_being_written_stay() -> None:
    found = [summary(one) for one in DAYS[1:]] + [summary(DAYS[0], "torn")]
    expiry = choose(found, keep=1, older_than=0, now=NOW, bases=DAYS[2:3], in_progress=DAYS[:1])
    assert (DAYS[1], *DAYS[3:5]) == expiry.delete
    assert {DAYS[0], DAYS[2], DAYS[5]} == expiry.kept.keys()


def test_a_torn_one_stays_while_somebody_may_write_it() -> None:
    """Also if nobody says that it is being written. A torn one is never among the newest that are kept."""
    for modified, deleted in ((NOW - TORN_SECONDS + 1, ()), (NOW - TORN_SECONDS, (DAYS[5],))):
        found = [summary(DAYS[4]), summary(DAYS[5], "torn", modified)]
        assert deleted == choose(found, keep=1, older_than=0, now=NOW).delete


def test_one_with_a_manifest_that_cannot_be_read_stays() -> None:
    """A newer version may have written it."""
    found = [summary(DAYS[0], "damaged"), summary(DAYS[1])]
    assert () == choose(found, keep=1, older_than=0, now=NOW).delete


STATES = st.sampled_from(["complete", "torn", "damaged"])


@given(
    st.dictionaries(st.sampled_from(DAYS), STATES),
    st.integers(0, 7),
    st.floats(0, 7 * DAY),
    st.sets(st.sampled_from(DAYS)),
)
def test_no_choice_takes_what_is_needed(states: dict[str, str], keep: int, older_than: float, needed: set[str]) -> None:
    found = [summary(one, state) for one, state in states.items()]
    complete_ones = sorted((one for one, state in states.items() if state == "complete"), reverse=True)
    for bases, in_progress in ((needed, ()), ((), needed)):
        expiry = choose(found, keep=keep, older_than=older_than, now=NOW, bases=bases, in_progress=in_progress)
        assert not {*needed, *complete_ones[: max(keep, 1)]} & {*expiry.delete}
        assert all(NOW - begun_at(one) >= older_than for one in expiry.delete)
        assert states.keys() == {*expiry.delete, *expiry.kept}


async def test_expire_deletes_whole_savepoints_and_nothing_else(objects: Objects) -> None:
    for name in DAYS[:3]:
        await savepoint(objects, name=name)
    await objects.put("notes.txt", b"a stranger's")
    dry = await expire(objects, keep=2, older_than=0, now=NOW, dry_run=True)
    assert 3 == len(await savepoints(objects))
    told: list[str] = []
    assert dry == await expire(objects, keep=2, older_than=0, now=NOW, progress=told.append)
    assert [DAYS[0]] == told and DAYS[2:0:-1] == [one.id for one in await savepoints(objects)]
    assert b"a stranger's" == await objects.get("notes.txt")
    assert all([(await verify(objects, one)).is_whole for one in DAYS[1:3]])


async def test_delete_refuses_what_is_needed_and_moves_the_pointer(objects: Objects) -> None:
    await savepoint(objects)
    await savepoint(objects, name=LATER)
    with pytest.raises(SavepointKept, match="generation"):
        await delete(objects, LATER, bases=[LATER])
    with pytest.raises(SavepointKept, match="being written"):
        await delete(objects, LATER, in_progress=[LATER])
    await delete(objects, LATER)
    assert ID == (await load(objects, "latest")).id
    assert ID.encode() in (await objects.get("latest.json") or b"")
    await delete(objects, ID)
    assert [] == await objects.list()


async def test_the_list_is_newest_first_and_says_what_is_not_complete(objects: Objects) -> None:
    await savepoint(objects)
    await part(objects, 0, [portfolio("a")], LATER)
    await objects.put("20261201T000000Z-000000/manifest.json", b"{}")
    found = await savepoints(objects)
    assert ["damaged", "torn", "complete"] == [one.state for one in found]
    assert (5, 2, "asked") == (found[2].rows, found[2].partitions, found[2].reason)
    assert all(is_id(one.id) for one in found) and MANIFEST not in {one.id for one in found}
