"""Cuts a failing plan down to the faults that are needed to fail (delta debugging: Zeller, Hildebrandt 2002)."""

from collections.abc import Callable

from tests.simulation.plan import Fault, Plan

MOST_RUNS = 150


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Returns the smallest failing plan that was found. `fails` must hold for the given plan."""
    runs = 0
    pieces = 2
    while plan.faults and runs < MOST_RUNS:
        for part in _parts(plan.faults, pieces):
            runs += 1
            smaller = plan.without(part)
            if fails(smaller):
                plan, pieces = smaller, max(2, pieces - 1)
                break
        else:
            if pieces >= len(plan.faults):
                return plan
            pieces = min(len(plan.faults), pieces * 2)
    return plan


def _parts(faults: tuple[Fault, ...], pieces: int) -> list[tuple[Fault, ...]]:
    size = max(1, -(-len(faults) // pieces))
    return [faults[start : start + size] for start in range(0, len(faults), size)]
