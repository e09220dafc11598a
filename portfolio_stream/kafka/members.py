"""The members of the workers' group, and how much of a member's own words we believe. Pure.

1. Anybody who may read the group can join it with any client id. A client id of the form `<instance>@host:port` claims
   that a worker listens there. Only that worker's answer can prove the claim (http/peers.py).
2. An instance id or an address that is accepted here has no control characters, and no part of a URL beside host and
   port. So we can log it, show it, and send a request to it.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from portfolio_stream.foreign import printable
from portfolio_stream.setting_values import ADDRESS

MOST_NAME = 255  # characters of an instance id: a folder has this name
SHOWN_CHARACTERS = 120  # of a text that a stranger chose
STOP_IT = "Stop that consumer: its group id must be another than the workers'."
RENAME_ONE = "Give each worker a PORTFOLIO_INSTANCE_ID of its own; until then both process and serve what they own."


@dataclass(frozen=True, slots=True)
class Owner:
    """A worker, by its client id `<instance>@host:port`. Two workers may share an instance id, never a member id."""

    instance_id: str
    address: str
    member_id: str


@dataclass(frozen=True, slots=True)
class GroupMember:
    member_id: str
    client_id: str
    #: the host that it connects from, as the broker sees it
    host: str
    #: None if the client id does not have the form of a worker's client id
    worker: Owner | None
    #: partitions of the source topic; empty if the member waits for partitions
    partitions: tuple[int, ...]

    def __str__(self) -> str:
        """Describes the member to an operator, on one line: line ends in its names are escaped."""
        held = f"partitions {', '.join(map(str, self.partitions))}" if self.partitions else "no partition"
        names = f"client id {escaped(self.client_id)}, host {escaped(self.host)}, member id {escaped(self.member_id)}"
        return f"{names}, which holds {held}"


def members_in(group: Any, topic: str) -> tuple[GroupMember, ...]:
    """Returns the members of a group in a ConsumerGroupDescribe answer, with the partitions that they have now."""
    members = []
    for member in group.members:
        assigned = [held.partitions for held in member.assignment.topic_partitions if held.topic_name == topic]
        members.append(
            GroupMember(
                member_id=member.member_id,
                client_id=member.client_id,
                host=member.client_host,
                worker=worker_of(member.client_id, member.member_id),
                partitions=tuple(sorted(chain.from_iterable(assigned))),
            )
        )
    return tuple(members)


def worker_of(client_id: str, member_id: str) -> Owner | None:
    """Returns the worker that the client id names, or None if the client id does not have the form of a worker's."""
    instance_id, _, address = client_id.rpartition("@")
    is_name = 0 < len(instance_id) <= MOST_NAME and instance_id.isprintable()
    return Owner(instance_id, address, member_id) if is_name and is_address(address) else None


def is_address(text: str) -> bool:
    """Whether the text is a host:port that PORTFOLIO_WEB_ADVERTISED accepts."""
    try:
        ADDRESS.read(text)
    except ValueError:
        return False
    return True


def holders_among(members: Collection[GroupMember]) -> dict[int, GroupMember]:
    """Returns the member that has each partition. A partition without a member is left out."""
    return {partition: member for member in members for partition in member.partitions}


def owners_among(members: Collection[GroupMember]) -> dict[int, Owner]:
    """Returns the worker that has each partition. A partition without a worker, or with another member, is left out."""
    held = holders_among(members)
    return {partition: member.worker for partition, member in held.items() if member.worker is not None}


def namesakes_among(workers: Collection[Owner]) -> Mapping[str, Sequence[Owner]]:
    """Returns the workers of each instance id that more than one worker has."""
    named: dict[str, list[Owner]] = defaultdict(list)
    for worker in sorted(set(workers), key=lambda worker: (worker.instance_id, worker.address, worker.member_id)):
        named[worker.instance_id].append(worker)
    return {name: alike for name, alike in named.items() if len(alike) > 1}


def alike_named(workers: Sequence[Owner]) -> str:
    """Says that these workers share an instance id, in words without a full stop."""
    at = " and ".join(worker.address for worker in workers)
    return f"{len(workers)} workers are named {workers[0].instance_id}: at {at}"


def escaped(text: str) -> str:
    """Returns a stranger's text on one line, with control characters escaped, cut after SHOWN_CHARACTERS."""
    shown = printable(text[:SHOWN_CHARACTERS])
    return f"{shown}…" if len(text) > SHOWN_CHARACTERS else shown
