"""One lane to one broker: a connection, as AIOKafkaClient keeps one for each group.

1. Requests arrive in the order in which they were sent, and answers come in that order. After a lost answer none comes.
2. A time-out or a lost answer breaks the connection. All callers that wait on the connection hear that it broke, and do
   not know the fate of their requests. Requests on their way arrive all the same.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka import errors as kafka_errors

from tests.simulation.kafka.network import REQUEST_SECONDS, Link

if TYPE_CHECKING:
    from tests.simulation.kafka.cluster import SimulatedKafka

BETWEEN_SECONDS = 1e-6  # callbacks of one moment have no order
UNSAID = 0.5  # the share of a dying broker's answers that are not sent any more


class Connection:
    def __init__(self, kafka: "SimulatedKafka", link: Link, node: int) -> None:
        self.kafka = kafka
        self.link = link
        self.node = node
        #: the client has not noticed a fault
        self.is_open = True
        #: requests still arrive, and answers still come
        self._sends, self._receives = True, True
        #: the callers that wait for an answer, in order
        self._waiting: dict[asyncio.Future[Any], None] = {}
        #: when the newest request arrives, and the newest answer
        self._arrival = 0.0
        self._answer = 0.0

    async def ask(self, entity: Any) -> Any:
        kafka, link, loop = self.kafka, self.link, asyncio.get_running_loop()
        api = type(entity).__name__.removesuffix("Request")
        answered: asyncio.Future[Any] = loop.create_future()
        self._waiting[answered] = None
        self._arrival = max(loop.time() + link.delay(), self._arrival + BETWEEN_SECONDS)
        held = link.held_seconds(api)
        if held is not None:
            self._arrival += held
            kafka.at(link.delay() * 5, self.break_off)
        if link.loses_request():
            self._sends = False
            kafka.at(link.delay(), self.break_off)
        elif self._sends:
            kafka.at_time(self._arrival, kafka.arrive, self.node, entity, Reply(self, api, answered, loop.time()))
        return await answered

    def answer(self, answered: "asyncio.Future[Any]", answer: Any) -> None:
        if not self._receives:
            return
        self._answer = max(self.kafka.time() + self.link.delay(), self._answer + BETWEEN_SECONDS)
        self.kafka.at_time(self._answer, self._deliver, answered, answer, self.kafka.deaths[self.node])

    def _deliver(self, answered: "asyncio.Future[Any]", answer: Any, deaths: int) -> None:
        """A broker that has died meanwhile may have carried the request out without an answer."""
        if deaths != self.kafka.deaths[self.node] and self.link.random.random() < UNSAID:
            self.break_off()
        else:
            self._waiting.pop(answered, None)
            if not answered.done():
                answered.set_result(answer)

    def time_out(self, answered: "asyncio.Future[Any]", api: str) -> None:
        if not answered.done():
            self._waiting.pop(answered)
            answered.set_exception(kafka_errors.RequestTimedOutError(api))
            self.break_off()

    def lose_answer(self) -> None:
        self._receives = False
        self.kafka.at(self.link.delay(), self.break_off)

    def break_off(self) -> None:
        self.is_open = False
        for answered in self._waiting:
            if not answered.done():
                answered.set_exception(kafka_errors.KafkaConnectionError(f"connection to node {self.node} broke"))
        self._waiting.clear()


class Reply:
    """The way of a broker's answer to its client."""

    def __init__(self, connection: Connection, api: str, answered: "asyncio.Future[Any]", sent: float) -> None:
        self._connection = connection
        self._api = api
        self._answered = answered
        self._sent = sent

    def send(self, answer: Any) -> None:
        connection = self._connection
        link = connection.link
        if link.at_replies and (act := link.at_replies.pop(self._api, None)) is not None:
            act(connection.node)
        is_lost = link.loses(answer) or link.loses_reply(self._api)
        if is_lost or link.is_cut or not connection.kafka.is_up(connection.node):
            self.break_off()
        else:
            connection.answer(self._answered, answer)

    def break_off(self) -> None:
        """The client sees that its connection broke. If no frame travels any more, the client waits."""
        connection = self._connection
        if connection.link.is_cut and connection.link.is_silent:
            self.keep_waiting()
        else:
            connection.lose_answer()

    def keep_waiting(self) -> None:
        """The client gives up before an answer comes."""
        connection = self._connection
        until = max(self._sent + REQUEST_SECONDS, connection.kafka.time())
        connection.kafka.at_time(until, connection.time_out, self._answered, self._api)

    @property
    def client(self) -> str:
        return self._connection.link.client

    @property
    def is_reachable(self) -> bool:
        return not self._connection.link.is_cut
