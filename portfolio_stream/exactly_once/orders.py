"""What the job wants of an engine: whether to be a member of the group, with which generation, and what to pause.

An operator stops, pauses or moves the whole job. Each engine follows the job's orders, and knows no more of the job.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol

#: which partitions are paused: none; those that the engine gets from now on; those and all that it has
Pauses = Literal["none", "assigned", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The job's order to every engine."""

    #: the engine shall be a member of the group, and fold
    is_joined: bool
    #: the generation of the job, and the topic that holds its state
    generation: int
    changelog_topic: str
    pauses: Pauses = "none"
    #: an engine that leaves drops what is not committed
    is_abandoned: bool = False
    #: for people: why the engine is not joined, or is paused
    reason: str = ""


class Orders(Protocol):
    @property
    def current(self) -> Order:
        """The newest order."""
        ...

    async def after(self, seen: Order) -> Order:
        """Wait until the newest order is another one than `seen`. Returns it."""
        ...


class GivenOrders:
    """Orders that somebody in the same process gives. Until then the first one stands."""

    def __init__(self, order: Order) -> None:
        self._current = order
        self._given = asyncio.Event()

    @property
    def current(self) -> Order:
        return self._current

    def give(self, order: Order) -> None:
        if order != self._current:
            self._current = order
            self._given.set()
            self._given = asyncio.Event()

    async def after(self, seen: Order) -> Order:
        while self._current == seen:
            await self._given.wait()
        return self._current


class GenerationReplaced(Exception):
    """The group's offsets belong to a newer generation than the engine's: its orders are old."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"the group is at generation {generation}")
        self.generation = generation
