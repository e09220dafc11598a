"""Replaces one named thing of the engine, or one of its ports, while a simulation runs.

1. A hook names a function, a method, a row of a table or a number by its owner and its name. A name that the owner does
   not have is an error.
2. Every hook counts its uses. A hook that was never used proves nothing, and `test_campaign` fails for it.
3. `installed` puts the original things back at its end.
"""

import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple
from unittest.mock import patch

from portfolio_stream.kafka.connections import Client, ClusterView
from tests.simulation.kafka.client import SimulatedConnections

Use = Callable[[], None]


class Hook(ABC):
    """What stands in the place of one named thing."""

    #: a module, or a class of a module: "portfolio_stream.exactly_once.writer:Writer"
    owner: str
    name: str

    @abstractmethod
    def replacement(self, original: Any, use: Use) -> Any:
        """What stands there instead. It calls `use` each time at which the engine uses it."""

    def __str__(self) -> str:
        return f"{self.owner.removeprefix(ENGINE)}.{self.name}"


ENGINE = "portfolio_stream.exactly_once."


@dataclass(frozen=True)
class Replaced(Hook):
    """A function or method: `instead` gets the original one, and the arguments of the call."""

    owner: str
    name: str
    instead: Callable[..., Any]

    def replacement(self, original: Any, use: Use) -> Any:
        @functools.wraps(original, updated=())
        def replaced(*args: Any, **kwargs: Any) -> Any:
            use()
            return self.instead(original, *args, **kwargs)

        return replaced


@dataclass(frozen=True)
class Row(Hook):
    """A row of a literal table; `keys` lead through nested tables to the row."""

    owner: str
    name: str
    keys: Sequence[Any]
    value: Any

    def replacement(self, original: Any, use: Use) -> Any:
        return _with_row(original, self.keys, self.value, use)

    def __str__(self) -> str:
        return f"{Hook.__str__(self)} {self.keys}"


@dataclass(frozen=True)
class Number(Hook):
    """A named number with a unit."""

    owner: str
    name: str
    value: float

    def replacement(self, original: Any, use: Use) -> Any:
        assert isinstance(original, (int, float))
        return _CountedNumber(self.value, use)


class Line(ABC):
    """The line between one worker's client and the brokers, where a bug changes requests or answers."""

    def __init__(self, use: Use) -> None:
        #: called whenever the bug changes something
        self.use = use

    @abstractmethod
    async def ask(self, request: Any, send: Callable[[Any], Awaitable[Any]]) -> Any:
        """The answer to `request`; `send` asks the broker."""


@dataclass(frozen=True)
class OnTheLine(Hook):
    """The client's port: every request goes through a `Line` of its client's own."""

    line: Callable[[Use], Line]
    owner: str = f"{SimulatedConnections.__module__}:{SimulatedConnections.__name__}"
    name: str = "client"

    def replacement(self, original: Any, use: Use) -> Any:
        def client(connections: SimulatedConnections) -> Client:
            return ClientOnALine(original(connections), self.line(use))

        return client


@contextmanager
def installed(hooks: Sequence[Hook]) -> Iterator[Counter[str]]:
    """Replace what the hooks name. Yields how often each hook was used, by the hook's text."""
    used: Counter[str] = Counter({str(hook): 0 for hook in hooks})
    with ExitStack() as undo:
        for hook in hooks:
            owner = _resolved(hook.owner)
            assert hook.name in vars(owner), f"{hook.owner} has no {hook.name} of its own"
            replacement = hook.replacement(vars(owner)[hook.name], functools.partial(_count, used, str(hook)))
            undo.enter_context(patch.object(owner, hook.name, replacement))
        yield used


def _resolved(owner: str) -> Any:
    module, _, name = owner.partition(":")
    return getattr(import_module(module), name) if name else import_module(module)


def _count(used: Counter[str], hook: str) -> None:
    used[hook] += 1


def _with_row(table: Mapping[Any, Any], keys: Sequence[Any], value: Any, use: Use) -> "_TableWithRow":
    key, *rest = keys
    if rest:
        return _TableWithRow(table, key, _with_row(table[key], rest, value, use), _nothing)
    assert table.get(key) != value, f"the row {key} is {value} already"
    return _TableWithRow(table, key, value, use)


def _nothing() -> None:
    """A row that leads to a nested table is no replaced row."""


class _TableWithRow(dict[Any, Any]):
    """A table with one row replaced. It tells when that row is read."""

    def __init__(self, table: Mapping[Any, Any], key: Any, value: Any, use: Use) -> None:
        super().__init__({**table, key: value})
        self._table = table  # which may have a replaced row too
        self._key = key
        self._use = use

    def __getitem__(self, key: Any) -> Any:
        if key != self._key:
            return self._table[key]
        self._use()
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        if key != self._key:
            return self._table.get(key, default)
        self._use()
        return super().get(key, default)


class _CountedNumber(float):
    """A number that tells when the engine adds it to another number, multiplies the two or compares them."""

    def __new__(cls, value: float, use: Use) -> "_CountedNumber":
        made = super().__new__(cls, value)
        made.use = use
        return made

    use: Use

    def __add__(self, other: float) -> float:
        self.use()
        return float(self) + other

    def __mul__(self, other: float) -> float:
        self.use()
        return float(self) * other

    def __lt__(self, other: float) -> bool:
        self.use()
        return float(self) < other

    def __gt__(self, other: float) -> bool:
        self.use()
        return float(self) > other

    __radd__, __rmul__ = __add__, __mul__


class _Request(NamedTuple):
    """A request as a simulated client takes it."""

    entity: Any


class ClientOnALine:
    """The engine's port `Client`."""

    def __init__(self, client: Client, line: Line) -> None:
        self._client = client
        self._line = line
        self.cluster: ClusterView = client.cluster
        self.bootstrap = client.bootstrap
        self.set_topics = client.set_topics
        self.coordinator_lookup = client.coordinator_lookup
        self.get_random_node = client.get_random_node
        self.force_metadata_update = client.force_metadata_update
        self.close = client.close

    async def send(self, node_id: int, request: Any, *, group: Any) -> Any:
        def send(entity: Any) -> Awaitable[Any]:
            return self._client.send(node_id, _Request(entity), group=group)

        return await self._line.ask(request.entity, send)
