"""The member id of a worker, and when the worker takes another one.

A join request and a goodbye request name a member id, but not the process that sent them (KIP-848). If a broken
connection delivers such a request late, the request acts on whichever process has the member id by then. A late goodbye
ends the membership of the same worker's next process. A late join gives that process's partitions away without a
revocation. Nobody receives the answer to a late request, so the process would serve until its next heartbeat.

1. The identity file notes the member id as unsettled before a join or a goodbye is sent, and as settled when the answer
   has come. If the process is killed in between, the next process reads in the file that the member id is unsettled.
2. A join or a goodbye without an answer spoils the member id. `membership_life` says what a spoilt member id demands.
3. The identity's first member id has no number. Each next member id has the next number. The transactional id stays.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec


class Naming(msgspec.Struct, frozen=True):
    """The part of a member id's life that outlives the process."""

    #: how many member ids this identity has given up
    renames: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)] = 0
    #: a join or a goodbye under this member id may be under way
    is_unsettled: bool = False


def name_of(member_id: str, renames: int) -> str:
    return f"{member_id}.{renames}" if renames else member_id


def first_name(member_id: str) -> str:
    """The first member id of the identity that has `member_id` now."""
    return member_id.partition(".")[0]


class MemberName:
    def __init__(self, member_id: str, naming: Naming, keep: Callable[[Naming], None]) -> None:
        """`keep` writes a naming to the disk before it returns. `keep` may raise StoreFailed."""
        self._member_id = member_id
        self._naming = naming
        self._keep = keep

    @property
    def value(self) -> str:
        return name_of(self._member_id, self._naming.renames)

    @property
    def is_unsettled(self) -> bool:
        """A join or a goodbye under this member id may be under way."""
        return self._naming.is_unsettled

    def unsettle(self) -> None:
        """Call this before a join or a goodbye is sent. Raises StoreFailed."""
        if not self._naming.is_unsettled:
            self._change(Naming(self._naming.renames, is_unsettled=True))

    def settle(self, *, takes_next: bool) -> None:
        """The join or the goodbye has its answer. With `takes_next`, the next join uses the next member id.

        Raises StoreFailed; nothing has changed then.
        """
        self._change(Naming(self._naming.renames + takes_next))

    def _change(self, naming: Naming) -> None:
        self._keep(naming)
        self._naming = naming
