"""What a scenario is: something that clients do, and what exactly they then see.

    @shows(["none", "epoch +1"])
    async def a_commit_brings_the_next_epoch(cluster: Kafka) -> Observed: ...

1. An observation is plain data that does not depend on the machine: names of errors, epochs counted from the first,
   offsets, values. The same literal holds for a real Kafka and for the simulated one.
2. A scenario waits for conditions, or for a time-out of the cluster's; what it waits for is no part of what it shows.
3. Where an older Kafka differs by design, `at` gives what that one shows; the scenario names the KIP.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tests.conformance.kafka import Kafka

Observed = Any
Run = Callable[[Kafka], Awaitable[Observed]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    run: Run
    #: by Kafka's version, e.g. "4.0"; "" for every other
    expected: Mapping[str, Observed]
    is_slow: bool = False
    brokers: int = 1
    #: versions whose ways the simulated Kafka does not have
    unsimulated: Collection[str] = ()

    @property
    def name(self) -> str:
        return self.run.__name__

    def shows(self, version: str) -> Observed:
        return self.expected.get(version, self.expected[""])


def shows(
    expected: Observed,
    *,
    at: Mapping[str, Observed] | None = None,
    slow: bool = False,
    brokers: int = 1,
    unsimulated: Collection[str] = (),
) -> Callable[[Run], Scenario]:
    def make(run: Run) -> Scenario:
        return Scenario(
            run=run,
            expected={"": expected, **(at or {})},
            is_slow=slow,
            brokers=brokers,
            unsimulated=unsimulated,
        )

    return make
