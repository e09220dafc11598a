"""Runs workers on a simulated Kafka, in virtual time, while everything fails.

    python -m tests.simulation [--profile storm|steps|days] [--seeds N] [--first SEED] [--minutes M] [--jobs J]
    python -m tests.simulation --replay SEED [--profile P]      what happened, line by line; shrunk if it failed
    python -m tests.simulation --every-step [--first SEED]      a worker killed before each step of a short life
    python -m tests.simulation --mutations [--seeds MOST]       each bug of `mutations` put in, until a seed catches it

Each seed is a run of its own, and a seed is always the same run. Exit code 1 if a run violates exactly-once: the output
names the seed, cuts its plan down to the faults that are needed, and prints its timeline. With --mutations, exit code 1
if a bug is not caught.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from tests.simulation import campaign
from tests.simulation.mutations import MUTATIONS, Mutation, named
from tests.simulation.plan import PROFILES


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=PROFILES, default="storm")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, help="the first seed; a fresh one if none is given")
    parser.add_argument("--minutes", type=float, help="instead of --seeds: as many as fit")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--every-step", action="store_true")
    parser.add_argument("--stride", type=int, default=1, help="with --every-step: not every, but every so manyth")
    parser.add_argument("--mutations", action="store_true")
    parser.add_argument("--mutation", metavar="NAME", help="only this one")
    given = parser.parse_args(arguments)
    if given.mutations:
        return all_caught(MUTATIONS, given.seeds, given.jobs)
    if given.mutation is not None and given.replay is not None:
        with named(given.mutation).installed():
            return campaign.replayed(given.profile, given.replay)
    if given.mutation is not None:
        return all_caught([named(given.mutation)], given.seeds, given.jobs)
    if given.replay is not None:
        return campaign.replayed(given.profile, given.replay)
    if given.every_step:
        return campaign.every_step(given.first or 0, given.stride, given.jobs)
    return campaign.seeded(given.profile, given.first, given.seeds, given.minutes, given.jobs)


def all_caught(mutations: Sequence[Mutation], most: int, jobs: int) -> int:
    """Exit code 1 if `most` seeds do not catch one of them."""
    missed = 0
    for mutation in mutations:
        with mutation.installed():  # the pool's processes are forks of this one: each has the bug
            caught = campaign.first_caught(mutation.profile, most, jobs)
        runs, anomaly = caught or (most, "NOT CAUGHT")
        print(f"| {mutation.name} | {runs} | {anomaly[:110]} |", flush=True)
        missed += caught is None
    print(f"{len(mutations) - missed} of {len(mutations)} caught")
    return 1 if missed else 0


if __name__ == "__main__":
    if (
        os.environ.get("PYTHONHASHSEED") != "0"
    ):  # sets of names must have one order, or a seed would not be the same run again
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": "0"})
    sys.exit(main(sys.argv[1:]))
