"""Flame graphs of a vertex, from the sampled stacks of the workers. Pure.

1. A stack belongs to the step that its innermost frame of a module in MODULES names. Stacks of other code (HTTP,
   heartbeats, the loop's own sleep) belong to no step.
2. A compiled function has no Python frame: its samples are those of the code that calls it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from portfolio_stream.flink.ids import COMMIT, FOLD, SOURCE
from portfolio_stream.observe.stacks import StackCount
from portfolio_stream.observe.steps import Step

#: the beginnings of module names, by step
MODULES: Mapping[Step, tuple[str, ...]] = {
    SOURCE: (
        "aiokafka.consumer.",
        "portfolio_stream.kafka.reader",
        "portfolio_stream.kafka.batch_consumer",
        "portfolio_stream.kafka.record_batches",
    ),
    FOLD: (
        "agents.",
        "tables.",
        "portfolio_stream.compiled.",
        "portfolio_stream.domain.",
        "portfolio_stream.records.",
        "portfolio_stream.faust_host.agent",
        "portfolio_stream.faust_host.stream",
        "portfolio_stream.exactly_once.folding",
        "portfolio_stream.exactly_once.slices",
        "portfolio_stream.exactly_once.stored_view",
        "portfolio_stream.exactly_once.views",
    ),
    COMMIT: (
        "portfolio_stream.exactly_once.commits",
        "portfolio_stream.exactly_once.delivery",
        "portfolio_stream.exactly_once.writer",
        "portfolio_stream.exactly_once.store",
        "portfolio_stream.exactly_once.database",
        "portfolio_stream.exactly_once.recent",
        "portfolio_stream.exactly_once.transaction",
    ),
}
#: where a turn of the event loop begins
TURN = "asyncio.events.Handle._run:"
#: whether a stack counts, by Flink's type of a flame graph
KINDS: Mapping[str, frozenset[bool]] = {
    "full": frozenset({True, False}),
    "on_cpu": frozenset({True}),
    "off_cpu": frozenset({False}),
}


def step_of(frames: Sequence[str]) -> Step | None:
    for frame in reversed(frames):
        for step, beginnings in MODULES.items():
            if frame.startswith(beginnings):
                return step
    return None


def inner(frames: Sequence[str]) -> Sequence[str]:
    """The frames inside the event loop's turn: those outside are the same for every stack of the main thread."""
    starts = [place for place, frame in enumerate(frames) if frame.startswith(TURN)]
    return frames[starts[-1] + 1 :] if starts else frames


def flame_graph(stacks: Iterable[StackCount], step: Step, kind: str) -> dict[str, Any]:
    """The tree of the step's stacks. `value` counts samples."""
    root: dict[str, Any] = {"name": "root", "value": 0, "children": []}
    for stack in stacks:
        if stack.is_on_cpu not in KINDS[kind] or step_of(stack.frames) != step:
            continue
        node = root
        node["value"] += stack.samples
        for frame in (stack.thread, *inner(stack.frames)):
            node = _child(node, frame)
            node["value"] += stack.samples
    return root


def _child(node: dict[str, Any], name: str) -> dict[str, Any]:
    for child in node["children"]:
        if child["name"] == name:
            return child  # type: ignore[no-any-return]
    made: dict[str, Any] = {"name": name, "value": 0, "children": []}
    node["children"].append(made)
    return made
