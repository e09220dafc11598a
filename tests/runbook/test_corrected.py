"""docs/runbook.md: every block prints what the page says, in the page's order, on one cluster."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.runbook.blocks import Block, read
from tests.runbook.judge import shown, unlike
from tests.runbook.placeholders import filled
from tests.runbook.shell import Shell
from tests.runbook.stage import ROOT, Stage, State

PAGE = ROOT / "docs" / "runbook.md"
BLOCKS = read(PAGE)
PROGRAMS = ("jq", "watch", "curl")
#: commands that end only with Ctrl-C: the first words, and the seconds until then
ENDLESS: Mapping[str, float] = {
    "python src/process_events.py": 25,
    "portfolio-stream lag --watch": 12,
    "watch -n 5": 12,
}


#: headings with a block that the original does not have
ADDED = ("P1: Kafka Broker Down: Immediate Actions (0-15 minutes)",)


class Situation(NamedTuple):
    """What has happened before an operator turns to a block."""

    before: Sequence[str] = ()
    after: Sequence[str] = ()


SITUATIONS: Mapping[str, Situation] = {
    "Start Kafka Cluster": Situation(before=("systemctl stop kafka",)),
    "Start Flink Cluster": Situation(before=("portfolio-stream cluster stop",)),
    "P0: Kafka Cluster Down: Immediate Actions (0-5 minutes)": Situation(before=("systemctl stop kafka",)),
    "P1: Kafka Broker Down: Immediate Actions (0-15 minutes)": Situation(
        before=("portfolio-stream broker stop --broker 1",)
    ),
    "P0: Flink Job Failed: Immediate Actions (0-5 minutes)": Situation(before=("portfolio-stream job cancel --yes",)),
    "Recover from Kafka Cluster Failure": Situation(before=("portfolio-stream job stop --yes", "systemctl stop kafka")),
    "Emergency Response": Situation(before=("portfolio-stream job cancel --yes",)),
}


def test_the_page_keeps_the_original_order() -> None:
    """Every heading of the original that has a block is on the page, in the same order; ADDED ones stand between."""
    original = list(dict.fromkeys(block.title for block in read(Path(__file__).with_name("original.md"))))
    titles = list(dict.fromkeys(block.title for block in BLOCKS))
    assert original == [title for title in titles if title not in ADDED]
    assert set(ADDED) <= set(titles)


def test_every_situation_is_a_block_of_the_page() -> None:
    """A heading that changes takes its situation with it."""
    assert [] == sorted(set(SITUATIONS) - {block.title for block in BLOCKS})


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, s3_server: str) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("runbook"), s3_server)
    try:
        made.reach(State.JOB)
        yield made
    finally:
        made.end()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.number}-{block.title}")
def test_the_block_prints_what_the_page_says(block: Block, stage: Stage) -> None:
    """Standard output and errors together are like the page's text, and no command hangs."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"this host has no {', '.join(missing)}")
    situation = SITUATIONS.get(block.title, Situation())
    for command in situation.before:
        stage.run(filled(command, stage))
    printed = ""
    with Shell(stage.folder / f"corrected-{block.number:02}", stage.environment, stage.working) as shell:
        for command in block.commands:
            seconds = next((end for begins, end in ENDLESS.items() if command.startswith(begins)), None)
            done = shell.run(filled(command, stage), ends=seconds, merged=True)
            print(shown(done))
            printed += done.out
            assert done.code is not None, f"{command} did not end"
    for command in situation.after:
        stage.run(filled(command, stage))
    different = unlike(block.printed or "", printed)
    assert different is None, f"line {block.line}: {different}"
