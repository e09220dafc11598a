"""Asks a broker for the id of its cluster."""

from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.wire import Lane, Node, call, schema

_metadata = schema("metadata", 12)


async def cluster_id(client: Client) -> str:
    """Returns the cluster's id, or "" if the broker does not know it yet. Raises one of LOST or a KafkaError."""
    request = _metadata.MetadataRequest(
        topics=(), allow_auto_topic_creation=False, include_topic_authorized_operations=False
    )
    reply = await call(client, Node(client.get_random_node()), Lane.RECOVERY, request)
    return reply.cluster_id or ""
