"""The links between clients and brokers, and the links' faults.

1. A connection (`connection`) that breaks tells the client nothing about its requests: they may arrive later, or never.
2. A client waits REQUEST_SECONDS for an answer. Then the client breaks the connection.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

LATENCY = (0.0003, 0.003)
REQUEST_SECONDS = 10.0


@dataclass
class Link:
    """The link of one client to all brokers."""

    client: str
    random: Random
    #: least and most seconds, each way
    latency: tuple[float, float] = LATENCY
    #: the share of requests that take effect and whose answer is lost with the connection
    reply_loss: float = 0.0
    request_loss: float = 0.0
    is_cut: bool = False
    #: a cut connection stays silent, and does not break at once
    is_silent: bool = False
    #: APIs whose next answer is lost
    lost_replies: deque[str] = field(default_factory=deque)
    #: how many of the next heartbeats' answers with an assignment are lost
    lost_assignments: int = 0
    #: APIs whose next request arrives late, with the seconds
    held_requests: dict[str, float] = field(default_factory=dict)
    #: called once, when a broker (this node) has answered such a request and before the client hears the answer
    at_replies: dict[str, Callable[[int], None]] = field(default_factory=dict)

    def delay(self) -> float:
        return self.random.uniform(*self.latency)

    def cut(self) -> None:
        self.is_cut = True
        self.is_silent = self.random.random() < 0.5

    def heal(self) -> None:
        self.latency = LATENCY
        self.reply_loss = self.request_loss = 0.0
        self.is_cut = False
        self.lost_replies.clear()
        self.lost_assignments = 0
        self.held_requests.clear()
        self.at_replies.clear()

    def lose_reply_of(self, api: str) -> None:
        self.lost_replies.append(api)

    def hold(self, api: str, seconds: float) -> None:
        self.held_requests[api] = seconds

    def loses_request(self) -> bool:
        return self.request_loss > 0 and self.random.random() < self.request_loss

    def loses(self, answer: Any) -> bool:
        is_lost = self.lost_assignments > 0 and getattr(answer, "assignment", None) is not None
        self.lost_assignments -= is_lost
        return is_lost

    def loses_reply(self, api: str) -> bool:
        if api in self.lost_replies:
            self.lost_replies.remove(api)
            return True
        return self.reply_loss > 0 and self.random.random() < self.reply_loss

    def held_seconds(self, api: str) -> float | None:
        return self.held_requests.pop(api, None) if self.held_requests else None
