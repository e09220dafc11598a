"""The variants of our own product: git revisions, and environments of the working tree.

The working tree is the subject, and comes first. Each ratio is the working tree's figure by the other variant's.
"""

import argparse
from collections.abc import Callable, Sequence

from benchmarks.builds import build_of, commit_of, working_tree
from benchmarks.measure import Measured
from benchmarks.results import Variant
from benchmarks.rounds import Case
from benchmarks.system import Build, System


def add_options(parser: argparse.ArgumentParser, rounds: int = 3) -> None:
    parser.add_argument("--before", action="append", default=[], metavar="REVISION", help="also run this git revision")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        nargs="+",
        metavar="NAME=VALUE",
        help="also run the working tree with these environment variables, e.g. PORTFOLIO_COMPILED=off",
    )
    parser.add_argument("--with", dest="own", default=[], nargs="+", metavar="NAME=VALUE", help="variables for all")
    add_common(parser, rounds)


def add_common(parser: argparse.ArgumentParser, rounds: int) -> None:
    parser.add_argument("--rounds", type=int, default=rounds, help=f"how often each variant runs (default {rounds})")
    parser.add_argument("--strict", action="store_true", help="end if other work is on the machine")


def cases(given: argparse.Namespace, measure: Callable[[System], Measured]) -> list[Case]:
    shared = environment_of(given.own)
    now = Variant(name="now", revision=working_tree(), environment=shared)
    made = [Case(now, measure, Build(environment=shared))]
    for pairs in given.against:
        environment = shared | environment_of(pairs)
        variant = Variant(
            name=" ".join(pairs).replace("PORTFOLIO_", ""), revision=now.revision, environment=environment
        )
        made.append(Case(variant, measure, Build(environment=environment)))
    for revision in given.before:
        variant = Variant(name=f"before ({revision})", revision=commit_of(revision), environment=shared)
        made.append(Case(variant, measure, build_of(revision, shared)))
    return made


def environment_of(pairs: Sequence[str]) -> dict[str, str]:
    """Exits if a pair has no equals sign."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SystemExit(f"{pair!r} is not NAME=VALUE")
        found[name] = value
    return found
