"""A scenario: requests of clients, and the exact observations that follow.

    @shows(["none", "epoch +1"])
    async def a_commit_brings_the_next_epoch(cluster: Kafka) -> Observed: ...

1. An observation is plain data that does not depend on the machine: names of errors, epochs counted from the first,
   offsets, values. The same literal holds for a real Kafka and for the simulated one.
2. A scenario waits for conditions, or for a time-out of the cluster. The waits are no part of the observation.
3. If an older Kafka differs by design, `at` gives its observation, and the scenario names the KIP.
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
    #: the observation by Kafka's version, e.g. "4.0"; "" stands for every other version
    expected: Mapping[str, Observed]
    is_slow: bool = False
    brokers: int = 1
    #: versions that the simulated Kafka does not imitate here
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
