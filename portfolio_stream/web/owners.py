"""Finds out who answers for a partition: this worker, or the partition's owner, to whom the request is forwarded.

1. A worker answers by itself only while it certainly owns the partition: its membership is fresh, it has told the
   coordinator that it owns the partition, and the partition runs. No await stands between this check and the snapshot.
2. The store holds only committed values. All values of an answer for a partition come from one snapshot.
3. A request is forwarded at most once. A worker that gets a forwarded request for a partition of another worker answers
   with 503.
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
from portfolio_stream.web.health import away_reason, membership_of, state_of
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

    async def answer(
        self, request: web.Request, key: str, local: Callable[[Moment], Awaitable[web.Response]]
    ) -> web.Response:
        """Answers for the partition of `key`: by `local` if this worker owns the partition, else by its owner."""
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
        """Returns why this worker cannot answer yet, or None if it can."""
        if membership_of(self._engine) is not None:
            return None
        return self._unavailable(f"The worker is not ready: {away_reason(self._engine)}.")

    async def forward(self, request: web.Request, partition: int) -> web.Response:
        """Forward the request to the owner of the partition. Refuses a request that was forwarded already."""
        if FORWARDED in request.headers:
            return self._unavailable("This worker does not own the partition.", partition).response()
        return await self._remote(request, partition)

    def moment(self, partition: int) -> Moment | str:
        """Returns the tables of a partition at this moment, or why this worker may not read them."""
        member = membership_of(self._engine)
        if member is None or not member.is_fresh:
            return "The worker's membership of the group is not fresh."
        # after an expulsion, the engine may still hold a partition of another worker
        if partition not in member.owned:
            return "The worker does not own the partition any more."
        if partition not in self._engine.served:
            return f"The partition is {state_of(self._engine, partition)}."
        return Moment(self._engine.store.rows(partition), self._settings)

    def origin(self, partition: int | None, offset: int | None = None) -> Mapping[str, object]:
        """Returns the members that every answer has: partition, offset and worker."""
        return {"partition": partition, "offset": offset, "worker": self.worker}

    def peer(self, holder: GroupMember | None) -> Owner | str:
        """Returns the worker to ask for a partition of another member, or why no worker can be asked."""
        if holder is None:
            return NO_OWNER
        # the instance id would not do: a worker on another machine may have the same
        if holder.member_id == self._engine.identity.current_member_id:
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
