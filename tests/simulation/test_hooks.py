"""Hooks replace what they name while they are installed, count each use, and refuse a name that does not exist."""

import asyncio
import math
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.simulation import hooks
from tests.simulation.hooks import ENGINE, Line, Number, Replaced, Row, installed

SHOP = SimpleNamespace(
    price=lambda count: 2 * count, TABLE={"a": {"x": 1, "y": 2}, "b": {"x": 3}}, LIMIT_SECONDS=5.0
)  # fmt: skip


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with a function, a table and a number."""
    module = ModuleType("shop")
    vars(module).update(vars(SHOP))
    monkeypatch.setattr(hooks, "import_module", lambda name: module)
    return module


def test_a_function_is_replaced_and_counted(shop: Any) -> None:
    """The replacement gets the original function. The original one is back at the end."""
    hook = Replaced("shop", "price", lambda price, count: price(count) + 1)
    with installed([hook]) as used:
        assert ([7, 9], {str(hook): 2}) == ([shop.price(3), shop.price(4)], dict(used))
    assert 6 == shop.price(3)


def test_rows_of_one_table_are_replaced_and_counted(shop: Any) -> None:
    """Each row counts for itself; the other rows stay and do not count."""
    first, second = Row("shop", "TABLE", ("a", "x"), 10), Row("shop", "TABLE", ("b", "x"), 30)
    with installed([first, second]) as used:
        assert [10, 2, 30, None] == [
            shop.TABLE["a"]["x"], shop.TABLE["a"]["y"], shop.TABLE["b"].get("x"), shop.TABLE["b"].get("z")
        ]  # fmt: skip
        assert {str(first): 1, str(second): 1} == dict(used)
    assert 1 == shop.TABLE["a"]["x"]


@pytest.mark.parametrize(
    "use",
    [
        lambda limit: 1.0 + limit,
        lambda limit: limit + 1.0,
        lambda limit: 0.5 * limit,
        lambda limit: limit * 0.5,
        lambda limit: 3.0 > limit,
        lambda limit: limit > 3.0,
        lambda limit: 3.0 < limit,
    ],
)
def test_a_number_is_replaced_and_counted(shop: Any, use: Any) -> None:
    """The engine adds a number to another, multiplies the two or compares them."""
    hook = Number("shop", "LIMIT_SECONDS", math.inf)
    with installed([hook]) as used:
        assert use(math.inf) == use(shop.LIMIT_SECONDS)
        assert 1 == used[str(hook)]


@pytest.mark.parametrize(
    "hook",
    [
        Replaced("shop", "cost", lambda cost: 1),
        Row("shop", "TABLE", ("c", "x"), 1),
        Row("shop", "TABLE", ("a", "x"), 1),
        Number("shop", "LIMIT", 1.0),
    ],
    ids=["no such function", "no such table", "no other value", "no such number"],
)
def test_a_hook_that_replaces_nothing_is_refused(hook: Any) -> None:
    """A renamed function, a removed row, and a row that already has the value."""
    with pytest.raises((AssertionError, KeyError)), installed([hook]):
        pass


def test_the_engines_modules_are_named_from_their_package() -> None:
    """The text of a hook names the module within the engine."""
    assert "writer:Writer.commit" == str(Replaced(f"{ENGINE}writer:Writer", "commit", print))


def test_a_line_changes_requests() -> None:
    """The line gets the request, and asks the broker with another one."""

    class Doubled(Line):
        async def ask(self, request: Any, send: Any) -> Any:
            self.use()
            return await send(2 * request)

    asked: list[int] = []

    async def send(node_id: int, request: Any, *, group: Any) -> str:
        asked.append(request.entity)
        return "answer"

    used: list[None] = []
    real: Any = SimpleNamespace(send=send, **dict.fromkeys(CLIENT))
    client = hooks.ClientOnALine(real, Doubled(lambda: used.append(None)))
    answer = asyncio.run(client.send(0, SimpleNamespace(entity=4), group="lane"))
    assert ("answer", [8], 1) == (answer, asked, len(used))


CLIENT = (
    "cluster", "bootstrap", "set_topics", "coordinator_lookup", "get_random_node", "force_metadata_update", "close",
)  # fmt: skip
