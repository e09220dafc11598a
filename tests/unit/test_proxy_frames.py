"""What the proxy reads of frames, and that no broker's own address passes it, whatever the version."""

from dataclasses import MISSING, fields
from datetime import timedelta
from typing import Any

import pytest
from kio.index import load_payload_module, load_request_schema, load_response_schema
from kio.schema.end_txn.v5.request import EndTxnRequest
from kio.schema.errors import ErrorCode as E
from kio.schema.index import schema_name_map
from kio.static.constants import EntityType

from tests.proxy.addresses import Address, redirected
from tests.proxy.frames import Api, ReplyFrame, Request, correlation_id, encoded
from tests.proxy.rules import Match

BROKER, PROXY = Address("127.0.0.1", 9092), Address("127.0.0.1", 19092)
ADDRESSES = {BROKER: PROXY}
CORRELATION = 7
#: what a field holds where a test does not care
FILLING = {
    "error_code": E.none,
    "error_message": None,
    "throttle_time": timedelta(0),
    "topics": (),
    "responses": (),
    "controller_id": 0,
    "cluster_id": "some-cluster",
    "rack": None,
    "is_fenced": False,
    "key": "some-group",
    "node_id": 0,
    "broker_id": 0,
    "host": BROKER.host,
    "port": BROKER.port,
}
LISTS = {
    Api.METADATA: ("MetadataResponseBroker", "brokers"),
    Api.DESCRIBE_CLUSTER: ("DescribeClusterBroker", "brokers"),
    Api.FIND_COORDINATOR: ("Coordinator", "coordinators"),
    Api.PRODUCE: ("NodeEndpoint", "node_endpoints"),
    Api.FETCH: ("NodeEndpoint", "node_endpoints"),
}
NAMES = {
    Api.METADATA: "metadata",
    Api.DESCRIBE_CLUSTER: "describe_cluster",
    Api.FIND_COORDINATOR: "find_coordinator",
    Api.PRODUCE: "produce",
    Api.FETCH: "fetch",
}
FIRST_WITH_LEADERS = {Api.PRODUCE: 10, Api.FETCH: 16}
VERSIONS = [
    (api, version)
    for api, name in NAMES.items()
    for version in schema_name_map[name]
    if version >= FIRST_WITH_LEADERS.get(api, 0)
]


def request_of(api: Api, version: int, client_id: str | None = "w1@here", body: bytes = b"", node: int = 0) -> Request:
    kind: Any = load_request_schema(api, version)
    header = kind.__header_schema__(
        request_api_key=api, request_api_version=version, correlation_id=CORRELATION, client_id=client_id
    )
    return Request(encoded(header) + body, node)


def reply_to(request: Request, body: Any) -> ReplyFrame:
    kind: Any = load_response_schema(request.api_key, request.version)
    return ReplyFrame(encoded(kind.__header_schema__(correlation_id=CORRELATION)) + encoded(body), request)


def filled(kind: Any, **known: Any) -> Any:
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    return kind(**{name: FILLING[name] for name in needed - known.keys()} | known)


def naming(api: Api, version: int) -> Any:
    """A reply that names the broker."""
    module: Any = load_payload_module(api, version, EntityType.response)
    kind: Any = load_response_schema(api, version)
    nested, name = LISTS[api]
    if not hasattr(module, nested):  # the coordinator itself, before they came in lists
        return filled(kind)
    return filled(kind, **{name: (filled(getattr(module, nested)),)})


def addresses_in(body: Any, api: Api) -> list[Address]:
    found = getattr(body, LISTS[api][1], (body,))
    return [Address(one.host, one.port) for one in found]


@pytest.mark.parametrize(("api", "version"), VERSIONS, ids=lambda value: getattr(value, "name", value))
def test_every_version_of_a_reply_names_the_proxy(api: Api, version: int) -> None:
    request = request_of(api, version)
    original = naming(api, version)
    frame = redirected(reply_to(request, original), request, ADDRESSES)
    assert CORRELATION == correlation_id(frame)
    body = ReplyFrame(frame, request).body
    assert [PROXY] == addresses_in(body, api)
    assert frame == redirected(ReplyFrame(frame, request), request, ADDRESSES)
    back = {PROXY: BROKER}
    assert original == ReplyFrame(redirected(ReplyFrame(frame, request), request, back), request).body


def test_a_reply_without_an_address_keeps_its_bytes() -> None:
    """Also one that cannot be decoded: it is nobody's business."""
    request = request_of(Api.FETCH, 16)
    reply = ReplyFrame(b"\0\0\0\7 no fetch reply", request)
    assert reply.frame is redirected(reply, request, ADDRESSES)


def test_a_stranger_keeps_its_address() -> None:
    request = request_of(Api.METADATA, 12)
    reply = reply_to(request, naming(Api.METADATA, 12))
    assert reply.frame is redirected(reply, request, {Address("127.0.0.1", 1): PROXY})


@pytest.mark.parametrize("client_id", ["w1@127.0.0.1:6066", "", None])
def test_a_request_says_who_asks_what(client_id: str | None) -> None:
    body = EndTxnRequest(transactional_id="some-id", producer_id=1, producer_epoch=2, committed=True)
    request = request_of(Api.END_TXN, 5, client_id, encoded(body), node=2)
    read = (request.api_key, request.version, request.correlation_id, request.client_id, request.node, request.body)
    assert (Api.END_TXN, 5, CORRELATION, client_id, 2, body) == read


def test_a_match_fits_what_it_names_alone() -> None:
    request = request_of(Api.END_TXN, 5, node=1)
    fitting = (Match(), Match(Api.END_TXN), Match(client="w1@"), Match(node=1), Match(when=lambda _: True))
    others = (Match(Api.PRODUCE), Match(client="w2@"), Match(node=0), Match(when=lambda _: False))
    assert ([True] * 5, [False] * 4) == ([m.fits(request) for m in fitting], [m.fits(request) for m in others])
    assert not Match(client="w").fits(request_of(Api.END_TXN, 5, None))
