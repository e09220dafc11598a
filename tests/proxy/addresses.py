"""Puts the proxy's addresses into replies that name brokers, so that a client of the proxy stays on the proxy.

Metadata, FindCoordinator and DescribeCluster always name brokers. Produce and Fetch name new leaders beside an error
(KIP-951): their replies may be megabytes, so they are decoded only where a broker's host stands in them.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

from tests.proxy.frames import Api, ReplyFrame, Request


class Address(NamedTuple):
    host: str
    port: int


NAME_BROKERS = frozenset((Api.METADATA, Api.FIND_COORDINATOR, Api.DESCRIBE_CLUSTER))
#: the first version whose replies name brokers
NAME_LEADERS = {Api.PRODUCE: 10, Api.FETCH: 16}


def redirected(reply: ReplyFrame, request: Request, addresses: Mapping[Address, Address]) -> bytes:
    """Returns the reply's frame with the proxy's address in place of each broker's."""
    if request.api_key not in NAME_BROKERS and not _may_name_leaders(reply, request, addresses):
        return reply.frame
    found = _redirect(reply.body, addresses)
    return reply.frame if found is reply.body else reply.with_body(found)


def _may_name_leaders(reply: ReplyFrame, request: Request, addresses: Mapping[Address, Address]) -> bool:
    since = NAME_LEADERS.get(request.api_key)
    if since is None or request.version < since:
        return False
    return any(address.host.encode() in reply.frame for address in addresses)


def _redirect(entity: Any, addresses: Mapping[Address, Address]) -> Any:
    """Returns the same object if it contains no address."""
    if isinstance(entity, tuple):
        items = tuple(_redirect(item, addresses) for item in entity)
        return items if any(a is not b for a, b in zip(items, entity, strict=True)) else entity
    if not is_dataclass(entity):
        return entity
    if hasattr(entity, "host") and hasattr(entity, "port"):
        address = addresses.get(Address(entity.host, entity.port))
        return entity if address is None else replace(entity, host=address.host, port=address.port)  # type: ignore[type-var]
    values = {field.name: getattr(entity, field.name) for field in fields(entity)}
    changed = {name: new for name, value in values.items() if (new := _redirect(value, addresses)) is not value}
    return replace(entity, **changed) if changed else entity  # type: ignore[type-var]
