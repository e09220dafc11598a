"""What a switch will do, for every combination of base, target, trimmed logs and moved offsets."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from portfolio_stream.control.values import Generation, OperationKind
from portfolio_stream.errors import SavepointForeign, SwitchRefused
from portfolio_stream.exactly_once.store import Meta
from portfolio_stream.jobs import plans
from portfolio_stream.jobs.facts import Facts, LogBounds, PartitionFacts, state_problem
from portfolio_stream.jobs.plans import Plan
from portfolio_stream.kafka.offset_lookup import NO_OFFSET, GroupPosition
from portfolio_stream.savepoints.manifest import Manifest, PartitionPart
from tests.unit.savepoint_world import FOLD, head

SOURCE_ID, OUT_ID, CHANGELOG_ID = "11" * 16, "22" * 16, "33" * 16
OUT = "processed-events"
FIRST, SECOND = "20261129T203512Z-00000a", "20261129T213512Z-00000b"


def meta(offset: int, **changes: Any) -> Meta:
    fields = {"topic_id": SOURCE_ID, "offset": offset, "partitions": 1, "changelog": CHANGELOG_ID, "fold": FOLD}
    return Meta(**fields | changes)


def at(
    *,
    state: int | None = 1_000,
    group: GroupPosition | None = None,
    source: tuple[int, int] = (0, 1_200),
    out: tuple[int, int] = (0, 1_100),
    partition: int = 0,
    **changes: Any,
) -> PartitionFacts:
    """A partition whose state holds the source up to 1000, and whose outputs end at 1100."""
    position = GroupPosition(NO_OFFSET if state is None else state, None if state is None else 1)
    return PartitionFacts(
        partition=partition,
        source=LogBounds(source[0], source[1], source[1]),
        outputs={OUT: LogBounds(out[0], out[1], out[1])},
        group=group or position,
        meta=None if state is None else meta(state),
        **changes,
    )


def facts(*partitions: PartitionFacts, **changes: Any) -> Facts:
    fields: dict[str, Any] = {
        "cluster_id": "cluster",
        "group": "portfolio-stream",
        "source_topic": "portfolio-events",
        "source_topic_id": SOURCE_ID,
        "output_topics": {OUT: OUT_ID},
        "fold": FOLD,
        "older_folds": (),
        "generation": generation(1),
        "source_partitions": len(partitions) or 1,
        "partitions": partitions or (at(),),
    }
    return Facts(**fields | changes)


def generation(number: int, **changes: Any) -> Generation:
    fields: dict[str, Any] = {
        "number": number,
        "changelog_topic": f"changelog-{number}",
        "source_topic_id": SOURCE_ID,
        "partitions": 1,
        "first_offsets": {},
        "fold": FOLD,
        "origin": "first start",
    }
    return Generation(**fields | changes)


def savepoint(
    *offsets: int, outputs: int | None = None, name: str = "20261129T203512Z-00000a", **changes: Any
) -> Manifest:
    """A savepoint with one offset for each partition, whose outputs stand at the offset plus 50."""
    parts = [
        PartitionPart(
            savepoint=name,
            partition=number,
            offset=offset,
            changelog_topic_id=CHANGELOG_ID,
            changelog_offset=7,
            outputs={OUT: offset + 50 if outputs is None else outputs},
            fold=FOLD,
            files=(),
            rows={},
            state_hash={},
        )
        for number, offset in enumerate(offsets)
    ]
    of = head(name, len(offsets))
    fields = {field: getattr(of, field) for field in of.__struct_fields__} | changes
    return Manifest(**fields, completed_at="2026-11-29T20:36:12Z", parts=tuple(parts))


def shown(plan: Plan) -> list[tuple[str, int, dict[str, tuple[int, int]]]]:
    return [(one.base, one.offset, one.repeat) for one in plan.partitions]


def refusal(refused: pytest.ExceptionInfo[SwitchRefused]) -> str:
    assert "Nothing" in refused.value.action or "instead" in refused.value.action
    return str(refused.value.cause)


# -- restore


def test_a_restore_begins_with_the_savepoint_and_repeats_the_outputs_behind_it() -> None:
    """Outputs stand from 850 to 1100: the fold gives them again, and they are compared."""
    plan = plans.restore(facts(), savepoint(800))
    assert [("savepoint", 800, {OUT: (850, 1_100)})] == shown(plan)
    assert (200, {0: 800}) == (plan.folded_again, plan.offsets)


def test_a_restore_of_the_newest_state_repeats_nothing() -> None:
    """The savepoint's outputs end where the outputs end."""
    plan = plans.restore(facts(), savepoint(1_000, outputs=1_100))
    assert [("savepoint", 1_000, {})] == shown(plan)


def test_a_restore_needs_no_state() -> None:
    """The changelog is gone, the group has its offsets: where outputs stand is told by the output logs."""
    lost = replace(at(state=None), group=GroupPosition(1_000, 1))
    plan = plans.restore(facts(lost), savepoint(800))
    assert [("savepoint", 800, {OUT: (850, 1_100)})] == shown(plan)
    assert 200 == plan.folded_again


def test_a_restore_may_go_ahead_of_a_job_that_was_reset() -> None:
    """The savepoint's state holds what is between: nothing is skipped."""
    plan = plans.restore(facts(at(state=500)), savepoint(800))
    assert [("savepoint", 800, {OUT: (850, 1_100)})] == shown(plan)
    assert 0 == plan.folded_again


@pytest.mark.parametrize(
    ("partition", "saved", "reason"),
    [
        (at(source=(801, 1_200)), savepoint(800), "savepoint 20261129T203512Z-00000a ends at offset 800, outside"),
        (at(source=(0, 799)), savepoint(800), "the source has lost records"),
        (at(out=(851, 1_100)), savepoint(800), f"the outputs from {OUT}-0@850 on have to be compared, but the log"),
        (at(out=(0, 849)), savepoint(800), f"had outputs up to {OUT}-0@850, but the log ends at 849"),
        (
            replace(at(), outputs={OUT: LogBounds(0, 1, 1), "dlq": LogBounds(0, 1, 1)}),
            savepoint(800, outputs=1),
            "does not say where dlq stood",
        ),
    ],
)
def test_a_restore_is_refused_where_history_is_missing(partition: PartitionFacts, saved: Manifest, reason: str) -> None:
    """The source from the savepoint's offset on, and the outputs from its outputs on, must be there."""
    with pytest.raises(SwitchRefused) as refused:
        plans.restore(facts(partition), saved)
    assert reason in refusal(refused)


def test_outputs_that_are_trimmed_up_to_their_end_need_no_comparison() -> None:
    """Nothing stands behind the savepoint's outputs."""
    plan = plans.restore(facts(at(out=(1_100, 1_100))), savepoint(1_000, outputs=1_100))
    assert [("savepoint", 1_000, {})] == shown(plan)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cluster_id": "other"}, "its cluster id is other, the job's is cluster"),
        ({"group": "other"}, "it is of the group other"),
        ({"source_topic": "other"}, "it is of the source topic other"),
        ({"source_topic_id": "44" * 16}, "the id of its source topic is 4444"),
        ({"output_topics": {OUT: "44" * 16}}, f"the id of its output topic {OUT} is 4444"),
        ({"fold": "other"}, "it was folded with 'other'"),
    ],
)
def test_a_foreign_savepoint_is_refused_by_name(changes: dict[str, Any], reason: str) -> None:
    """A savepoint of another cluster, topic or fold has a state that does not fit."""
    with pytest.raises(SavepointForeign) as refused:
        plans.restore(facts(), savepoint(800, **changes))
    assert reason in refused.value.cause


def test_a_savepoint_of_another_partition_count_is_foreign() -> None:
    """Its keys are divided otherwise."""
    with pytest.raises(SavepointForeign, match="the number of its partitions is 2, the job's is 1"):
        plans.restore(facts(), savepoint(800, 800))


def test_an_older_fold_that_can_be_read_is_not_foreign() -> None:
    """As at a recovery."""
    plan = plans.restore(facts(fold="new", older_folds=(FOLD,)), savepoint(800))
    assert {0: 800} == plan.offsets


# -- fresh


def test_a_fresh_start_repeats_all_outputs_of_a_whole_source() -> None:
    """Everything is folded again and compared."""
    plan = plans.fresh(facts())
    assert [("empty", 0, {OUT: (0, 1_100)})] == shown(plan)
    assert 1_000 == plan.folded_again


def test_a_fresh_start_of_a_trimmed_source_without_outputs_begins_at_its_start() -> None:
    """No output can differ."""
    plan = plans.fresh(facts(at(source=(300, 1_200), out=(0, 0))))
    assert [("empty", 300, {})] == shown(plan)


@pytest.mark.parametrize(
    ("partition", "reason"),
    [
        (at(source=(1, 1_200)), "a state without these records would differ from them"),
        (at(source=(1, 1_200), out=(1_100, 1_100)), "a state without these records would differ from them"),
        (at(out=(1, 1_100)), "somebody deleted records"),
        (at(is_of_another_source=True), "its outputs are of another source topic"),
    ],
)
def test_a_fresh_start_is_refused_where_outputs_stand_that_cannot_be_compared(
    partition: PartitionFacts, reason: str
) -> None:
    """Of a trimmed source, or of trimmed outputs."""
    with pytest.raises(SwitchRefused) as refused:
        plans.fresh(facts(partition))
    assert reason in refusal(refused)


# -- reset

OLD, NEW = savepoint(400), savepoint(800, name=SECOND)


@pytest.mark.parametrize(
    ("target", "source_start", "bases", "expected"),
    [
        (900, 0, (OLD, NEW), ("savepoint", 800, {OUT: (850, 1_100)})),
        (800, 0, (OLD, NEW), ("savepoint", 800, {OUT: (850, 1_100)})),
        (799, 0, (OLD, NEW), ("savepoint", 400, {OUT: (450, 1_100)})),
        (799, 0, (NEW, OLD), ("savepoint", 400, {OUT: (450, 1_100)})),
        (399, 0, (OLD, NEW), ("empty", 0, {OUT: (0, 1_100)})),
        (900, 0, (), ("empty", 0, {OUT: (0, 1_100)})),
        (0, 0, (), ("empty", 0, {OUT: (0, 1_100)})),
        (500, 400, (OLD, NEW), ("savepoint", 400, {OUT: (450, 1_100)})),
        (900, 401, (OLD, NEW), ("savepoint", 800, {OUT: (850, 1_100)})),
    ],
)
def test_a_reset_takes_the_newest_base_at_or_before_its_target(
    target: int, source_start: int, bases: tuple[Manifest, ...], expected: Any
) -> None:
    """A base before the source's start is none: its next records are gone."""
    plan = plans.reset(facts(at(source=(source_start, 1_200))), {0: target}, bases)
    assert [expected] == shown(plan)
    assert {0: target} == plan.asked
    assert {0: expected[1]} == plan.offsets  # the group goes to the base, not to the target


@pytest.mark.parametrize(
    ("target", "source_start", "bases", "reason"),
    [
        (1_001, 0, (OLD,), "offset 1001 is after the job's offset 1000, and no record is ever skipped"),
        (300, 400, (OLD,), "offset 300 is gone, the source begins at 400"),
        (
            500,
            401,
            (OLD, NEW),
            f"between 401 and 500; the first savepoint after it is {SECOND}",
        ),
        (500, 401, (), "no savepoint has a state between 401 and 500"),
    ],
)
def test_a_reset_without_a_base_is_refused_with_what_is_missing(
    target: int, source_start: int, bases: tuple[Manifest, ...], reason: str
) -> None:
    """Beyond the job's offset, before the source's start, or without a savepoint of a trimmed source."""
    with pytest.raises(SwitchRefused) as refused:
        plans.reset(facts(at(source=(source_start, 1_200))), {0: target}, bases)
    assert reason in refusal(refused)


def test_a_reset_leaves_out_foreign_savepoints() -> None:
    """The empty state is the base then."""
    plan = plans.reset(facts(), {0: 900}, [savepoint(800, cluster_id="other")])
    assert [("empty", 0, {OUT: (0, 1_100)})] == shown(plan)


def test_a_partition_that_is_not_named_keeps_its_state_and_what_it_still_repeats() -> None:
    """Its META says what is left to repeat."""
    repeating = replace(at(partition=1, state=700), meta=meta(700, repeat={OUT: (720, 1_050)}, partitions=2))
    plan = plans.reset(facts(at(), repeating), {0: 900}, [])
    assert [("empty", 0, {OUT: (0, 1_100)}), ("current", 700, {OUT: (720, 1_050)})] == shown(plan)
    assert 1_000 == plan.folded_again


@pytest.mark.parametrize("committed", [GroupPosition(1_100, 1), GroupPosition(1_100, 2)])
def test_a_state_behind_what_workers_have_committed_is_no_base(committed: GroupPosition) -> None:
    """Outputs stand of the records in between, and nobody would repeat them. The control topic may be a new one."""
    behind = at(partition=1, group=committed)
    with pytest.raises(SwitchRefused) as refused:
        plans.reset(facts(at(), behind), {0: 900}, [])
    assert "partition 1: the changelog's state ends at 1000, before the group's offset 1100" in refusal(refused)


def test_a_partition_without_state_and_offset_begins_at_the_source() -> None:
    """Nothing was ever folded of it."""
    idle = at(state=None, source=(0, 0), out=(0, 0), partition=1)
    plan = plans.reset(facts(at(), idle), {0: 900}, [])
    assert ("empty", 0, {}) == shown(plan)[1]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (at(partition=1, problem="the reason"), "partition 1: its state cannot be used: the reason"),
        (
            replace(at(partition=1, state=None), group=GroupPosition(7, 1)),
            "partition 1: the changelog has no state, although the group is at 7",
        ),
        (at(partition=1, source=(1_001, 1_200)), "partition 1: its state ends at offset 1000, outside"),
        (at(partition=1, group=GroupPosition(1_001, 1)), "partition 1: the changelog's state ends at 1000, before"),
    ],
)
def test_a_partition_that_is_not_named_needs_its_state(other: PartitionFacts, reason: str) -> None:
    """A lost state is no base."""
    with pytest.raises(SwitchRefused) as refused:
        plans.reset(facts(at(), other), {0: 900}, [])
    assert reason in refusal(refused)


def test_a_reset_to_where_the_job_stands_is_refused() -> None:
    """It would stop the job for nothing."""
    with pytest.raises(SwitchRefused, match="stands at its target already"):
        plans.reset(facts(), {0: 1_000}, [])


def test_a_reset_of_a_partition_that_does_not_exist_is_refused() -> None:
    """By its number."""
    with pytest.raises(SwitchRefused, match="no partition 9"):
        plans.reset(facts(), {9: 1_000}, [])


def test_a_reset_of_a_lost_state_goes_by_the_groups_offset() -> None:
    """The changelog is gone: the base is a savepoint all the same."""
    lost = replace(at(state=None), group=GroupPosition(1_000, 1))
    plan = plans.reset(facts(lost), {0: 1_000}, [NEW])
    assert [("savepoint", 800, {OUT: (850, 1_100)})] == shown(plan)


def test_the_preview_says_what_was_asked_and_which_base_is_taken() -> None:
    """An operator reads it before the change."""
    plan = plans.reset(facts(), {0: 900}, [NEW])
    assert [
        f"partition 0: asked 900, base savepoint {NEW.id} at 800: 800..1000 are folded again",
        "200 records are folded again; outputs that stand are compared and not written again; about 5 s",
    ] == plan.lines
    assert plan == msgspec.json.decode(msgspec.json.encode(plan), type=Plan)


# -- adopt


@pytest.mark.parametrize(
    ("group", "moved"),
    [
        (GroupPosition(1_000, 1), {}),
        (GroupPosition(1_000), {}),
        (GroupPosition(900), {0: 900}),
        (GroupPosition(1_100), {0: 1_100}),
        (GroupPosition(0), {0: 0}),
        (GroupPosition(900, 1), {}),
        (GroupPosition(NO_OFFSET), {}),
    ],
)
def test_a_moved_offset_differs_from_the_state_and_names_no_generation(
    group: GroupPosition, moved: dict[int, int]
) -> None:
    """Workers name their generation, Kafka's tools do not."""
    assert moved == plans.moved_offsets(facts(at(group=group)))


def test_an_offset_that_was_moved_back_is_a_reset() -> None:
    """To the newest base at or before it."""
    plan = plans.adopt(facts(at(group=GroupPosition(900))), [NEW])
    assert [("savepoint", 800, {OUT: (850, 1_100)})] == shown(plan)
    assert (None, {0: 900}) == (plan.kept_changelog, plan.asked)


def test_an_offset_that_was_moved_forward_goes_on_from_the_state() -> None:
    """Nothing is skipped, and the state stays where it is."""
    plan = plans.adopt(facts(at(group=GroupPosition(1_100))), [NEW])
    assert [("current", 1_000, {})] == shown(plan)
    assert "changelog-1" == plan.kept_changelog
    assert "nothing is skipped" in plan.lines[0]


def test_there_is_nothing_to_adopt_where_offsets_agree() -> None:
    """`offsets reset` is for that."""
    with pytest.raises(SwitchRefused, match="nobody has moved an offset"):
        plans.adopt(facts(), [])


# -- rollback


def test_a_rollback_goes_on_from_what_the_earlier_generation_left() -> None:
    """Outputs of later generations stand behind it, and are compared."""
    target = generation(1, left_outputs={OUT: [750]})
    plan = plans.rollback(facts(generation=generation(2)), target, {0: meta(700)})
    assert [("generation", 700, {OUT: (750, 1_100)})] == shown(plan)
    assert ("changelog-1", 1, 300) == (plan.kept_changelog, plan.target, plan.folded_again)


def test_a_rollback_begins_a_partition_that_had_no_record_at_the_source() -> None:
    """It may have records and outputs by now: they are folded again, and compared."""
    target = generation(1, left_outputs={OUT: [850]})
    plan = plans.rollback(facts(generation=generation(2)), target, {0: None})
    assert [("empty", 0, {OUT: (0, 1_100)})] == shown(plan)


def test_a_rollback_to_a_generation_that_was_repeating_repeats_from_there() -> None:
    """Its outputs stood before the end of their log."""
    target = generation(1, left_outputs={OUT: [1_000]})
    plan = plans.rollback(facts(generation=generation(2)), target, {0: meta(700, repeat={OUT: (750, 1_000)})})
    assert [("generation", 700, {OUT: (750, 1_100)})] == shown(plan)


@pytest.mark.parametrize(
    ("target", "found", "reason"),
    [
        (generation(2), meta(700), "has the same state"),
        (generation(1, is_expired=True), meta(700), "was deleted by `generations expire`"),
        (generation(1), "no state of it", "no state of it"),
        (generation(1), meta(700), "does not say where processed-events stood"),
        (generation(1, left_outputs={OUT: [750]}), meta(1_201), "ended at offset 1201, outside"),
    ],
)
def test_a_rollback_to_what_is_gone_is_refused(target: Generation, found: Meta | str, reason: str) -> None:
    """Expired, without a state, or beyond the source."""
    with pytest.raises(SwitchRefused) as refused:
        plans.rollback(facts(generation=generation(2)), target, {0: found})
    assert reason in refused.value.cause


# -- the state in a changelog


@pytest.mark.parametrize(
    ("found", "start", "problem"),
    [
        (meta(1), 0, None),
        (meta(1), 5, "log-0 begins at 5"),
        (meta(1, fold="other"), 0, "it was folded with 'other'"),
        (meta(1, changelog="44" * 16), 0, "it was written to another topic"),
        (meta(1, topic_id="44" * 16), 0, "it belongs to a source topic with id 4444"),
        (meta(1, partitions=2), 0, "and 2 partitions"),
    ],
)
def test_a_state_that_is_not_whole_or_not_ours_cannot_be_used(found: Meta, start: int, problem: str | None) -> None:
    """As at a recovery."""
    said = state_problem(facts(), found, changelog=CHANGELOG_ID, place="log-0", start=start)
    assert (problem is None) == (said is None)
    assert problem is None or problem in (said or "")


def test_all_reasons_are_told_at_once() -> None:
    """An operator mends all of them, not one after the other."""
    with pytest.raises(SwitchRefused) as refused:
        plans.fresh(facts(at(source=(1, 1_200)), at(source=(2, 1_200), partition=1)))
    assert 2 == len(refused.value.reasons)
    assert OperationKind.FRESH in plans.VERBS
