"""The name under which a worker is a member of its group, and when it takes another one.

A join and a goodbye carry a name and no incarnation (KIP-848): one that a broken connection delivers late works on
whoever has the name by then. A late goodbye ends the membership of the same worker's next process; a late join gives
its partitions away without a revocation. Both were answered to nobody, so the member would serve until its next beat.

1. The name is told as `unsettled` before a join or a goodbye is sent, and as settled when its answer came. A process
   that is killed in between leaves the word to the next one.
2. A name is spoilt once such a request had no answer. It is left, by goodbyes until one is answered, before the worker
   joins under the next name: a late request finds nobody.
3. The first name is the identity's own, and each next one adds a number. The transactional id stays the identity's.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec


class Naming(msgspec.Struct, frozen=True):
    """What outlives the process."""

    #: how many names were left behind
    renames: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)] = 0
    #: a join or a goodbye under this name may be under way
    is_unsettled: bool = False


def name_of(member_id: str, renames: int) -> str:
    return f"{member_id}.{renames}" if renames else member_id


class MemberName:
    def __init__(self, member_id: str, naming: Naming, keep: Callable[[Naming], None]) -> None:
        """`keep` makes a naming outlive the process before it returns; it may raise StoreFailed."""
        self._member_id = member_id
        self._naming = naming
        self._keep = keep
        #: a request that was answered to nobody may still work on whoever has this name
        self.is_spoilt = naming.is_unsettled

    @property
    def value(self) -> str:
        return name_of(self._member_id, self._naming.renames)

    def unsettle(self) -> None:
        """Before a join or a goodbye is sent."""
        if not self._naming.is_unsettled:
            self._change(Naming(self._naming.renames, is_unsettled=True))

    def spoil(self) -> None:
        """The request that was sent has no answer."""
        self.is_spoilt = True

    def settle(self) -> None:
        """The request has its answer. That of a spoilt name was a goodbye: the next join takes another name."""
        self._change(Naming(self._naming.renames + self.is_spoilt))
        self.is_spoilt = False

    def _change(self, naming: Naming) -> None:
        self._keep(naming)
        self._naming = naming
