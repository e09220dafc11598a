"""The workers that an observer outside the group sees, and what each answers.

They are the members of the group, those that the observer knows otherwise, and those that have answered lately. So a
worker stays in sight while the job is stopped, and while Kafka is away.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from portfolio_stream.http.peers import Peers
from portfolio_stream.kafka.members import GroupMember, Owner
from portfolio_stream.web import figures
from portfolio_stream.web.figures import WorkerFigures
from portfolio_stream.web.group import Silence, WorkerLook
from portfolio_stream.web.status import WorkerStatus
from portfolio_stream.web.told import told_by

LOOK_SECONDS = 1.0  # a worker under load answers in milliseconds
FORGOTTEN_SECONDS = 60.0  # how long a worker stays in sight that nobody knows any more
_decode = msgspec.json.Decoder(WorkerFigures).decode


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerInSight:
    owner: Owner
    is_member: bool
    #: the partitions that the coordinator has given to it
    assigned: tuple[int, ...]
    answer: WorkerFigures | Silence
    #: UNIX seconds of its last answer; None if it never answered
    answered_at: float | None
    #: the same in monotonic seconds
    answered: float | None

    @property
    def look(self) -> WorkerLook:
        answer = self.answer if isinstance(self.answer, Silence) else self.answer.status
        assert isinstance(answer, Silence | WorkerStatus)  # noqa: S101  a worker that answers has a status
        return WorkerLook(worker=self.owner, is_member=self.is_member, assigned=self.assigned, answer=answer)


@dataclass(slots=True)
class _Remembered:
    owner: Owner
    answered: float
    answered_at: float


class WorkersInSight:
    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        #: by address
        self._remembered: dict[str, _Remembered] = {}

    async def look(self, members: Sequence[GroupMember] | None, known: Mapping[str, Owner]) -> dict[str, WorkerInSight]:
        """Ask all workers at once. Returns them by address, within LOOK_SECONDS.

        `members`: None while the coordinator does not answer. `known` has the others that the observer knows, by
        address.
        """
        found = {member.worker.address: member for member in members or () if member.worker is not None}
        self._forget({*found, *known})
        asked = self._asked(found, known)
        answers = await asyncio.gather(*map(self._ask, asked.values()))
        now, wall = time.monotonic(), time.time()
        seen = {}
        for (address, owner), answer in zip(asked.items(), answers, strict=True):
            member = found.get(address)
            if isinstance(answer, WorkerFigures):
                owner = Owner(answer.status.worker, address, owner.member_id)
                self._remembered[address] = _Remembered(owner, now, wall)
            last = self._remembered.get(address)
            seen[address] = WorkerInSight(
                owner=owner,
                is_member=member is not None or (members is None and last is not None),
                assigned=() if member is None else member.partitions,
                answer=answer,
                answered_at=None if last is None else last.answered_at,
                answered=None if last is None else last.answered,
            )
        return seen

    def _asked(self, found: Mapping[str, GroupMember], known: Mapping[str, Owner]) -> dict[str, Owner]:
        """Whom to ask, by address."""
        asked = {address: one.owner for address, one in self._remembered.items()}
        asked |= known
        return asked | {address: member.worker for address, member in found.items() if member.worker is not None}

    def _forget(self, here: set[str]) -> None:
        until = time.monotonic() - FORGOTTEN_SECONDS
        kept = {at: one for at, one in self._remembered.items() if at in here or one.answered > until}
        self._remembered = kept

    async def _ask(self, worker: Owner) -> WorkerFigures | Silence:
        return await told_by(self._peers, worker, figures.PATH, _decode, seconds=LOOK_SECONDS)


def foreign_partitions(members: Sequence[GroupMember]) -> Mapping[int, str]:
    """The partitions that members hold which are no workers."""
    return {partition: str(member) for member in members if member.worker is None for partition in member.partitions}
