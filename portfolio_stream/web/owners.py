"""Who answers for a partition: this worker from one moment of its store, or the partition's owner, one hop away.

1. A moment is taken only while this worker surely owns the partition: its membership is fresh, the coordinator was told
   that we own it, and it runs. No await stands between that check and the snapshot.
2. The store holds nothing uncommitted; all that an answer says of a partition comes from one snapshot.
3. A request is forwarded once at most: a worker that was forwarded a request and is not the owner answers 503.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.problem import Problem, unavailable
from portfolio_stream.http.signed_access import FORWARDED
from portfolio_stream.kafka.members import GroupMember, Owner
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.settings import Settings
from portfolio_stream.web.forwarding import Forwarding
from portfolio_stream.web.health import STARTING, membership_of, state_of
from portfolio_stream.web.moment import Moment
from portfolio_stream.web.routing import Routing

NO_OWNER = "The partition has no owner at the moment."
HANDED_OVER = "The partition is being handed over."
HELD_BY_STRANGER = "The partition is held by a member of the group that is no worker: GET /partitions names it."


class Owners:
    def __init__(self, engine: Engine, settings: Settings, routing: Routing, forwarding: Forwarding) -> None:
        self._engine = engine
        self._settings = settings
        self._routing = routing
        self._forwarding = forwarding
        self.worker = engine.identity.instance_id
        self._member_id = engine.identity.member_id

    async def answer(
        self, request: web.Request, key: str, local: Callable[[Moment], Awaitable[web.Response]]
    ) -> web.Response:
        """The answer of the owner of `key`: `local` of its moment here, or the request forwarded."""
        if (starting := self.starting()) is not None:
            return starting.response()
        partition = partition_of(key.encode(), self._engine.partition_count)
        if partition in self._engine.owned:
            moment = self.moment(partition)
            if isinstance(moment, str):
                return self._unavailable(moment, partition).response()
            return await local(moment)
        return await self.forward(request, partition)

    def starting(self) -> Problem | None:
        """Why nothing can be answered yet."""
        if membership_of(self._engine) is not None:
            return None
        return self._unavailable(f"The worker is not ready: {STARTING}.")

    async def forward(self, request: web.Request, partition: int) -> web.Response:
        """The request to the owner of a partition that is not ours, one hop at most."""
        if FORWARDED in request.headers:
            return self._unavailable("This worker does not own the partition.", partition).response()
        return await self._remote(request, partition)

    def moment(self, partition: int) -> Moment | str:
        """What this worker has of a partition now, or why it is not read."""
        member = membership_of(self._engine)
        if member is None or not member.is_fresh:
            return "The worker's membership of the group is not fresh."
        if partition not in member.owned:  # expelled and back: what the engine still holds may be another's
            return "The worker does not own the partition any more."
        if partition not in self._engine.running:
            return f"The partition is {state_of(self._engine, partition)}."
        return Moment(self._engine.store.snapshot(partition), self._settings)

    def origin(self, partition: int | None, offset: int | None = None) -> Mapping[str, object]:
        """What every answer says of itself."""
        return {"partition": partition, "offset": offset, "worker": self.worker}

    def peer(self, holder: GroupMember | None) -> Owner | str:
        """Whom to ask for a partition that is not ours, or why nobody can be asked."""
        if holder is None:
            return NO_OWNER
        if holder.member_id == self._member_id:  # not the instance id: another machine's worker may have the same
            return HANDED_OVER
        return HELD_BY_STRANGER if holder.worker is None else holder.worker

    async def _remote(self, request: web.Request, partition: int) -> web.Response:
        holder = await self._routing.holder(partition)
        owner = self.peer(holder)
        if isinstance(owner, str):
            return self._unavailable(owner, partition).response()
        answer = await self._forwarding.ask(owner, request.rel_url.raw_path_qs, request.method)
        if isinstance(answer, Problem):
            self._routing.forget()
            return Problem(answer.status, answer.detail, self.origin(partition)).response()
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            self._routing.forget()
        return answer

    def _unavailable(self, detail: str, partition: int | None = None) -> Problem:
        return unavailable(detail, **self.origin(partition))
