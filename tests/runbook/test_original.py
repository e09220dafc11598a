"""The original runbook as it stands: every command of it runs here, or says why not and what to type instead."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runbook.blocks import read
from tests.runbook.expected import MORE_PARTITIONS, ORDER, PLANS, Outcome
from tests.runbook.judge import differences, shown
from tests.runbook.placeholders import filled
from tests.runbook.shell import Done, Shell
from tests.runbook.stage import ROOT, Stage

ORIGINAL = Path(__file__).with_name("original.md")
PAGE = ROOT / "docs" / "runbook.md"
BLOCKS = {block.number: block for block in read(ORIGINAL)}


def test_every_command_has_a_row() -> None:
    """No block and no command is left out, and no row is without a command."""
    assert sorted(BLOCKS) == sorted(PLANS)
    for number, block in BLOCKS.items():
        rows = PLANS[number].rows
        assert [command[: len(row.begins)] for command, row in zip(block.commands, rows, strict=True)] == [
            row.begins for row in rows
        ], f"block {number}: {block.title}"


def test_every_block_runs_once() -> None:
    """A block that breaks its cluster is the last on it, so the next block begins on a fresh one."""
    assert sorted(BLOCKS) == sorted(ORDER)


def test_only_what_is_allowed_is_not_there_yet() -> None:
    """More partitions with the state kept, and MirrorMaker. Everything else runs, is translated or refused."""
    for number, plan in PLANS.items():
        late = {row.begins for row in plan.rows if row.outcome is Outcome.NOT_YET}
        if MORE_PARTITIONS not in plan.proofs:
            assert late <= {"kafka-mirror-maker", "connect-mirror-maker.sh"}, f"block {number}"


def test_who_does_it_in_another_way_says_so() -> None:
    """A row that is translated, refused or not there yet has the words of the reason."""
    for number, plan in PLANS.items():
        for row in plan.rows:
            assert row.outcome is Outcome.SAME or row.reason or plan.proofs, f"block {number}: {row.begins}"


def test_the_page_counts_the_outcomes() -> None:
    """docs/runbook.md says how many commands of the original have which outcome."""
    found = Counter(row.outcome for plan in PLANS.values() for row in plan.rows)
    same, translated, refused, not_yet = (found[outcome] for outcome in Outcome)
    assert (
        f"{found.total()} commands in {len(BLOCKS)} blocks: {same} do the same, {translated} are translated, "
        f"{refused} are refused, and {not_yet} do not work yet"
    ) in " ".join(PAGE.read_text().split())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, s3_server: str) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("runbook"), s3_server)
    yield made
    made.end()


@pytest.fixture(scope="module")
def outcomes() -> Iterator[Counter[Outcome]]:
    found: Counter[Outcome] = Counter()
    yield found
    print("\nrunbook, commands by outcome:", ", ".join(f"{outcome} {found[outcome]}" for outcome in Outcome))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", ORDER)
def test_the_block_does_what_is_expected(number: int, stage: Stage, outcomes: Counter[Outcome]) -> None:
    """Every command of the block, in the same bash, has the outcome, exit code and output of its row."""
    block, plan = BLOCKS[number], PLANS[number]
    stage.reach(plan.needs)
    for command in plan.before:
        stage.run(filled(command, stage), check=False)
    wrong = []
    with Shell(stage.folder / f"block-{number:02}", stage.environment, stage.working) as shell:
        for command, row in zip(block.commands, plan.rows, strict=True):
            if row.program and shutil.which(row.program) is None:
                print(f"SKIPPED, this host has no {row.program}: {command}")
                continue
            done = shell.run(filled(command, stage), ends=row.ends, sees=row.sees, types=row.types)
            print(shown(done))
            wrong += [_told(row.begins, done, one) for one in differences(row, done)]
            outcomes[row.outcome] += 1
            if row.then:
                print(shown(shell.run(row.then)))
    for command, pattern in plan.proofs:
        if not stage.shows(command, pattern):
            wrong.append(f"{command} does not show {pattern!r}: {stage.run(command, check=False).stdout[-1500:]}")
    for command in plan.after:
        stage.run(filled(command, stage), check=False)
    stage.leave(plan.leaves, is_broken=bool(plan.breaks))
    assert [] == wrong, f"block {number}: {block.title}"


def _told(begins: str, done: Done, difference: str) -> str:
    return f"{begins}: {difference}; it printed {done.text[-400:]!r}"
