"""Asks the group's coordinator for the members of the workers' group."""

from aiokafka import errors as kafka_errors
from kio.schema.errors import ErrorCode

from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.members import GroupMember, members_in
from portfolio_stream.kafka.wire import Coordinators, Lane, call, schema

_describe = schema("consumer_group_describe", 0)


class MemberLookup:
    """Asks about the workers' group. If Kafka gives no answer, a method raises a KafkaError or an OSError."""

    def __init__(self, client: Client, coordinators: Coordinators, *, group: str, topic: str) -> None:
        self._client = client
        self._group = group
        self._coordinators = coordinators
        self._topic = topic

    async def members(self) -> tuple[GroupMember, ...]:
        """Returns all members. Raises GroupIdNotFound before the first member has joined."""
        request = _describe.ConsumerGroupDescribeRequest(group_ids=(self._group,), include_authorized_operations=False)
        reply = await call(self._client, await self._coordinators.group(), Lane.RECOVERY, request)
        group = reply.groups[0]
        if group.error_code is not ErrorCode.none:
            raise kafka_errors.for_code(group.error_code.value)(self._group)
        return members_in(group, self._topic)

    async def forget(self) -> None:
        """Forget the coordinator and the leaders. After an error they may have moved."""
        self._coordinators.forget()
        await self._client.force_metadata_update()
