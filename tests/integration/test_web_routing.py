"""The owners of partitions, from a real group coordinator."""

import asyncio
import time
from types import SimpleNamespace

from aiokafka.admin import NewTopic
from aiokafka.client import AIOKafkaClient
from kio.schema.errors import ErrorCode

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.exactly_once.member_name import MemberName, Naming
from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.kafka.members import Owner, owners_among
from portfolio_stream.kafka.wire import Coordinators, Lane, Node, call, schema
from portfolio_stream.web.routing import Routing
from tests.integration.topics import create_readable

GROUP = TOPIC = "web-routing"
PARTITIONS = 4


async def test_owners_are_the_members_of_the_group(kafka: Cluster) -> None:
    """A member's client id has the address at which it listens. A member that left owns no partition."""
    await create_readable(kafka.bootstrap_servers, NewTopic(TOPIC, PARTITIONS, 1))
    client = AIOKafkaClient(bootstrap_servers=kafka.bootstrap_servers, client_id="w1@127.0.0.1:6066")
    await client.bootstrap()
    try:
        await _check(client)
    finally:
        await client.close()


async def _check(client: AIOKafkaClient) -> None:
    coordinators = Coordinators(client, GROUP, "web-routing")
    engine = SimpleNamespace(
        started=SimpleNamespace(client=client, coordinators=coordinators),
        configuration=SimpleNamespace(group=GROUP, source_topic=TOPIC),
    )
    metadata = schema("metadata", 12)
    request = metadata.MetadataRequest(
        topics=(metadata.MetadataRequestTopic(topic_id=None, name=TOPIC),),
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
    )
    topic = (await call(client, Node(client.get_random_node()), Lane.RECOVERY, request)).topics[0]
    assert ErrorCode.none is topic.error_code
    assigned = asyncio.Event()
    member = Membership(
        client, coordinators, group=GROUP, topic=TOPIC, topic_id=topic.topic_id,
        name=MemberName("web-routing-member", Naming(), lambda naming: None),
        progress=time.monotonic, wake_engine=assigned.set,
    )  # fmt: skip
    routing = Routing(engine)  # type: ignore[arg-type]
    assert await routing.holder(0) is None
    beating = asyncio.create_task(member.run())
    await asyncio.wait_for(assigned.wait(), 30)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    member.acknowledge(member.target)
    await member.beat()
    routing.forget()
    worker = Owner("w1", "127.0.0.1:6066", "web-routing-member")
    assert dict.fromkeys(range(PARTITIONS), worker) == owners_among(await routing.members() or ())
    await member.leave()
    assert await routing.holder(0) is not None  # kept for a moment
    routing.forget()
    assert await routing.holder(0) is None
