"""A restart of the brokers: answered writes stay, and open transactions stay open."""

from tests.conformance.clients import Producer, committed_offset, ends, fetched_offsets, stable_ends, visible
from tests.conformance.groups import group_of
from tests.conformance.kafka import Kafka
from tests.conformance.scenario import Observed, shows


@shows(
    [
        "none",
        "none at 0",
        "none +1",
        "none",
        "none at 2",
        ("logs", (0, 2, 3)),
        ("offsets", {0: "unstable_offset_commit"}, {0: 5}),
        ("the member", "+0: -", "+0: 012345"),
        ("the end once more", "none +1"),
        ("the same bytes", "none at 2", "none at 3"),
        ("offsets once more", "none"),
        ("the commit", "none +1"),
        10,
        (0, 5, 5),
        ["done", "open", "more"],
        ("the next", "none at 5", "none +2"),
    ],
    slow=True,
)
async def a_transaction_and_a_group_outlive_a_restart(kafka: Kafka) -> Observed:
    async with group_of(kafka) as group:
        a = await group.alone()
        one, done = (Producer(kafka, group.client, group.topic) for _ in range(2))
        await one.start()
        await done.start()

        async def commit(producer: Producer, offset: int) -> str:
            return await producer.offsets({0: offset}, group=group.name, member=a.name, epoch=a.epoch)

        async def stored(*, stable: bool) -> Observed:
            return await fetched_offsets(group.client, group.name, group.topic, (0,), stable=stable)

        seen = [await commit(done, 5), await done.produce("done"), await done.commit()]
        await committed_offset(group.client, group.name, group.topic)
        await stable_ends(group.client, group.topic)
        seen += [await commit(one, 9), await one.produce("open")]
        ended = done.pair._replace(epoch=done.pair.epoch - 1)
        await kafka.restart()
        seen += [("logs", tuple(await ends(group.client, group.topic)))]
        seen += [("offsets", await stored(stable=True), await stored(stable=False))]
        seen += [("the member", group.told(await group.beat(a)), group.told(await group.join_at_once(a)))]
        seen += [("the end once more", done.told(await done.end(committed=True, pair=ended)))]
        seen += [("the same bytes", await one.resend(), await one.produce("more", sequence=1))]
        seen += [("offsets once more", await commit(one, 10)), ("the commit", await one.commit())]
        seen += [await committed_offset(group.client, group.name, group.topic)]
        seen += [tuple(await stable_ends(group.client, group.topic))]
        seen += [await visible(kafka, group.client, group.topic)]
        seen += [("the next", await one.produce("next"), await one.commit())]
        return seen
