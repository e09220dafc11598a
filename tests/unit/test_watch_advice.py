"""Advice: each sentence is there for its cause, and only for its cause; and no figure breaks one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from portfolio_stream.watch import words
from portfolio_stream.watch.advice import HELD_UP, JOB_STATES, STANDING, advice
from portfolio_stream.watch.capacity import Capacity, Trend, capacity, hold_up, hot_partitions, trend, useful_seconds
from portfolio_stream.watch.figures import KafkaFigures, PartitionAtWork, StepShares, SystemFigures, WorkerAtWork
from portfolio_stream.watch.hot_portfolios import KeySample, hot_portfolios
from tests.unit.watched_system import AT, HEALTHY, KAFKA, PARTITIONS, WORKERS, behind, with_partitions, with_steps

ALONE = tuple(replace(WORKERS[0], worker=f"w{number}", partitions=(number,)) for number in range(PARTITIONS))

KEEPS_UP = "The workers keep up: 10,000 events/s come in, 10,000 events/s are processed, and 80 wait."
FALLS_BEHIND = (
    "The workers fall behind: 16,000 events/s come in, 10,000 events/s are processed. "
    "The lag of 40,000 events grows by 6,000 events/s."
)
FOLD = "The fold holds the workers up. Seconds of each second at the fold: w1 0.85 and w2 0.85."
DS2 = (
    "4 workers can process what comes in: ceil(16,000 events/s / 5,263 events/s) = 4. The second figure is what one "
    "worker could do: 2 workers processed 10,000 events/s, and worked 1.90 s of each second for that."
)
HELPS_LITTLE = "Another worker would help: from 10,526 to 15,789 events/s, which is not enough."

CASES: dict[str, tuple[SystemFigures, tuple[str, ...]]] = {
    "all is well": (
        HEALTHY,
        (
            KEEPS_UP,
            "1 worker can process what comes in: ceil(10,000 events/s / 10,000 events/s) = 1. The second figure is what"
            " one worker could do: 2 workers processed 10,000 events/s, and worked 1.00 s of each second for that.",
        ),
    ),
    "falls behind": (behind(), (FALLS_BEHIND, FOLD, DS2, HELPS_LITTLE)),
    "catches up soon": (
        with_partitions(behind(), produced_per_second=1_000.0),
        (
            "The workers catch up: 8,000 events/s come in, 10,000 events/s are processed. "
            "The lag of 40,000 events shrinks by 2,000 events/s and is gone in 20 s.",
            FOLD,
            "2 workers can process what comes in: ceil(8,000 events/s / 5,263 events/s) = 2. The second figure is what "
            "one worker could do: 2 workers processed 10,000 events/s, and worked 1.90 s of each second for that.",
        ),
    ),
    "catches up late": (
        with_partitions(behind(lag=8_000_000), produced_per_second=1_000.0),
        (
            "The workers catch up: 8,000 events/s come in, 10,000 events/s are processed. "
            "The lag of 8,000,000 events shrinks by 2,000 events/s and is gone in 1 h 6 min.",
            FOLD,
            "2 workers can process what comes in: ceil(8,000 events/s / 5,263 events/s) = 2. The second figure is what "
            "one worker could do: 2 workers processed 10,000 events/s, and worked 1.90 s of each second for that.",
            "Another worker would help: from 10,526 to 15,789 events/s. The lag would be gone in 17 min 7 s.",
        ),
    ),
    "stays behind": (
        with_partitions(behind(lag=8_000_000), produced_per_second=1_250.0),
        (
            "The workers stay behind: 10,000 events/s come in, 10,000 events/s are processed. "
            "The lag of 8,000,000 events neither grows nor shrinks.",
            FOLD,
            "2 workers can process what comes in: ceil(10,000 events/s / 5,263 events/s) = 2. The second figure is what"
            " one worker could do: 2 workers processed 10,000 events/s, and worked 1.90 s of each second for that.",
            "Another worker would help: from 10,526 to 15,789 events/s. The lag would be gone in 23 min 2 s.",
        ),
    ),
    "stands still": (
        with_partitions(behind(), processed_per_second=0.0),
        ("Nothing is processed: the lag is 40,000 events, and 16,000 events/s come in.", FOLD, DS2, HELPS_LITTLE),
    ),
    "decoding": (
        with_steps(behind(), source_busy=0.6, fold_busy=0.35),
        (
            FALLS_BEHIND,
            "Decoding what Kafka sends holds the workers up. Seconds of each second at it: w1 0.60 and w2 0.60.",
            DS2,
            HELPS_LITTLE,
        ),
    ),
    "commits": (
        with_steps(behind(), fold_busy=0.35, fold_waits=0.5, commit_busy=0.9, cpu_share=0.4),
        (
            FALLS_BEHIND,
            "Commits hold the workers up. Seconds of each second in which the next commit waits for the one before it: "
            "w1 0.50 and w2 0.50.",
            "A commit takes 90 ms on average. The histogram portfolio_stream_commit_phase_seconds says which phase "
            "takes them.",
            DS2,
            HELPS_LITTLE,
        ),
    ),
    "commits with a broker away": (
        replace(
            with_steps(behind(), fold_busy=0.35, fold_waits=0.5, commit_busy=0.9, cpu_share=0.4),
            kafka=replace(KAFKA, live=2, under_replicated_partitions=5),
        ),
        (
            FALLS_BEHIND,
            "Commits hold the workers up. Seconds of each second in which the next commit waits for the one before it: "
            "w1 0.50 and w2 0.50.",
            "A commit takes 90 ms on average. The histogram portfolio_stream_commit_phase_seconds says which phase "
            "takes them.",
            "Kafka is short of copies, which slows commits and fetches: 2 of 3 brokers live, 5 partitions "
            "under-replicated.",
            DS2,
            HELPS_LITTLE,
        ),
    ),
    "a broker away, and the fold holds the workers up": (
        replace(behind(), kafka=replace(KAFKA, live=2)),
        (FALLS_BEHIND, FOLD, DS2, HELPS_LITTLE),
    ),
    "Kafka sends too slowly": (
        with_steps(behind(), fold_busy=0.3, cpu_share=0.3),
        (
            FALLS_BEHIND,
            "Kafka sends records too slowly: the workers wait for them. Seconds of each second at work: "
            "w1 0.40 and w2 0.40.",
            "2 workers can process what comes in: ceil(16,000 events/s / 12,500 events/s) = 2. The second figure is "
            "what one worker could do: 2 workers processed 10,000 events/s, and worked 0.80 s of each second for that.",
            "Another worker would do nothing: those that run have time, and wait for Kafka.",
        ),
    ),
    "other work of the worker": (
        with_steps(behind(), fold_busy=0.4),
        (
            FALLS_BEHIND,
            "Other work than reading and folding holds the workers up, such as closing transactions and answering "
            "requests. CPU seconds of each second: w1 0.95 and w2 0.95.",
            DS2,
            HELPS_LITTLE,
        ),
    ),
    "other processes of the machine": (
        with_steps(behind(), fold_busy=0.85, cpu_share=0.5),
        (
            FALLS_BEHIND,
            "Other processes hold the workers up: they use the same cores. CPU seconds of each second that the workers "
            "get: w1 0.50 and w2 0.50.",
            "2 workers can process what comes in: ceil(16,000 events/s / 10,000 events/s) = 2. The second figure "
            "is what one worker could do: 2 workers processed 10,000 events/s, "
            "and worked 1.00 s of each second for that.",
            "Another worker would help only on another machine: other processes use the cores of this one.",
        ),
    ),
    "the machine's cores": (
        replace(behind(), workers=tuple(replace(one, cores=2) for one in behind().workers)),
        (
            FALLS_BEHIND,
            FOLD,
            DS2,
            "Another worker would help only on another machine: the workers use 1.9 of 2 cores of 10.0.0.1.",
        ),
    ),
    "the cores of one machine of two": (
        replace(behind(), workers=(replace(behind().workers[0], host="10.0.0.2", cores=1), behind().workers[1])),
        (FALLS_BEHIND, FOLD, DS2, HELPS_LITTLE),
    ),
    "too few partitions": (
        with_partitions(behind(), produced_per_second=10_000.0),
        (
            "The workers fall behind: 80,000 events/s come in, 10,000 events/s are processed. "
            "The lag of 40,000 events grows by 70,000 events/s.",
            FOLD,
            "16 workers can process what comes in: ceil(80,000 events/s / 5,263 events/s) = 16. The second figure is "
            "what one worker could do: 2 workers processed 10,000 events/s, and worked 1.90 s of each second for that.",
            HELPS_LITTLE,
            "More than 8 workers would do nothing, because there are 8 partitions: together they can process "
            "42,105 events/s.",
        ),
    ),
    "a hot partition": (
        with_partitions(HEALTHY, 3, produced_per_second=5_000.0, processed_per_second=5_000.0),
        (
            "The workers keep up: 13,750 events/s come in, 13,750 events/s are processed, and 80 wait.",
            "2 workers can process what comes in: ceil(13,750 events/s / 10,000 events/s) = 2. The second figure is "
            "what one worker could do: 2 workers processed 10,000 events/s, and worked 1.00 s of each second for that.",
            "Partition 3 is hot: it gets 36.4 % of the events (5,000 events/s), and an even share is 12.5 %.",
        ),
    ),
    "nothing is known": (
        SystemFigures(at=AT),
        (
            "Nobody has looked at Kafka yet: ask again in some seconds.",
            "Nobody knows whether the job is to run: no worker says so. `portfolio-stream job describe` asks Kafka.",
            "No worker answers, so nobody knows what they do. `portfolio-stream cluster start` starts workers, and "
            "`faust -A portfolio_stream worker` starts one.",
        ),
    ),
    "no broker answers": (
        replace(HEALTHY, kafka=replace(KAFKA, live=0), partitions={}),
        ("No Kafka broker answers, so lag and rates are unknown. Start the brokers.",),
    ),
    "neither a broker nor a worker answers": (
        SystemFigures(at=AT, kafka=replace(KAFKA, live=0)),
        (
            "No Kafka broker answers, so lag and rates are unknown. Start the brokers.",
            "Nobody knows whether the job is to run: no worker says so. Ask again when a broker answers.",
            "No worker answers, so nobody knows what they do. Once the brokers run, `portfolio-stream cluster start` "
            "starts workers, and `faust -A portfolio_stream worker` starts one.",
        ),
    ),
    "figures of partitions are missing": (
        with_partitions(with_partitions(HEALTHY, 2, lag=None), 4, 5, processed_per_second=None),
        (
            "The lag of partition 2 is unknown. `portfolio-stream lag` asks Kafka.",
            "The rates of partitions 4 and 5 are unknown: the watcher needs two looks at them.",
        ),
    ),
    "a worker is silent, and one has just started": (
        replace(
            HEALTHY,
            workers=(WORKERS[0], replace(WORKERS[1], steps=None, events_per_second=None)),
            silent_workers=("w9",),
        ),
        (
            KEEPS_UP,
            "1 worker can process what comes in: ceil(10,000 events/s / 10,000 events/s) = 1. The second figure is what"
            " one worker could do: 1 worker processed 5,000 events/s, and worked 0.50 s of each second for that.",
            "The figures of w9 are missing: Kafka's group has them, but they do not answer. Look at their logs.",
            "w2 measured nothing yet. A worker measures its steps five seconds after its start.",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_sentence_is_there_for_its_cause(name: str) -> None:
    """And no other sentence is."""
    figures, expected = CASES[name]
    assert expected == advice(figures)


@pytest.mark.parametrize("state", JOB_STATES)
def test_a_job_that_is_not_to_run_is_not_behind(state: str) -> None:
    """The wish explains the lag: nobody is told to start workers."""
    assert (JOB_STATES[state],) == advice(replace(behind(), job_state=state))


@pytest.mark.parametrize("state", STANDING)
def test_partitions_that_stand_still_are_named(state: str) -> None:
    """With their lag. Workers that process all their other partitions are not blamed for it, and keep up with these."""
    now = with_partitions(HEALTHY, 3, 5, state=state, lag=30_000, processed_per_second=0.0)
    first, standing, *rest = advice(now)
    assert first.startswith("The workers keep up, in 6 running partitions: ")
    how, what = STANDING[state]
    assert f"Partitions 3 and 5 are {how}, with a lag of 60,000 events. {what}." == standing
    assert not [sentence for sentence in rest if "hold" in sentence]


def test_where_no_partition_is_running_nobody_keeps_up() -> None:
    """The rates are those of the last minute: a worker that died a moment ago has some."""
    silent = with_partitions(HEALTHY, *HEALTHY.partitions, state="silent", lag=300)
    assert not [sentence for sentence in advice(silent) if "keep up" in sentence or "catch up" in sentence]


def test_no_worker_is_added_beyond_the_partitions() -> None:
    """Eight workers have eight partitions."""
    told = advice(with_steps(replace(behind(), workers=ALONE), fold_busy=0.85))
    assert (
        "Another worker would do nothing: each of the 8 partitions has a worker of its own, and a worker without a "
        "partition only stands by."
    ) == told[-1]


def test_a_lag_in_single_partitions_needs_no_worker() -> None:
    """Two of three workers have one partition each, and the whole lag: a new worker would take others."""
    workers = (*ALONE[:2], replace(WORKERS[0], worker="w8", partitions=(2, 3, 4, 5, 6, 7)))
    now = with_partitions(HEALTHY, 0, 1, lag=50_000, produced_per_second=2_000.0)
    now = with_steps(replace(now, workers=workers), fold_busy=0.85)
    assert (
        "Another worker would do nothing: the lag is in partitions 0 and 1, and a partition has one worker."
    ) == advice(now)[-1]


def test_a_partition_that_is_too_hot_for_a_worker() -> None:
    """No number of workers helps: the advice says so, and names what one worker can do."""
    told = advice(with_partitions(behind(), 3, produced_per_second=9_000.0))
    assert [
        "Partition 3 is hot: it gets 39.1 % of the events (9,000 events/s), and an even share is 12.5 %.",
        "No number of workers is enough for partition 3: a partition has one worker, and one worker can process 5,263 "
        "events/s. Divide its hottest portfolios, or slow their producers.",
    ] == list(told[-2:])


def test_few_records_make_no_hot_partition() -> None:
    """Of a handful of records in a minute, most may go to one partition by chance."""
    few = with_partitions(HEALTHY, produced_per_second=0.1)
    assert () == hot_partitions(with_partitions(few, 3, produced_per_second=2.0))
    assert (3,) == hot_partitions(
        with_partitions(with_partitions(few, produced_per_second=1.0), 3, produced_per_second=9.0)
    )


def test_the_true_rate_is_that_of_ds2() -> None:
    """Records by useful time, over all workers: one that is idle for half of the time could do twice as much."""
    fast = replace(WORKERS[0], events_per_second=6_000.0, cpu_share=0.3)
    slow = replace(WORKERS[1], events_per_second=2_000.0, cpu_share=0.5)
    assert Capacity(2, 8_000.0, 1.0) == capacity((fast, slow))
    assert capacity((replace(fast, events_per_second=0.0),)) is None
    assert capacity((replace(fast, steps=None),)) is None
    assert capacity(()) is None


figures = st.floats(0, 1e9)
shares = st.one_of(st.sampled_from([0.0, 1e-9, 0.2, 0.7, 1.0]), st.floats(0, 1.5))
maybe = st.one_of(st.none(), figures)
steps = st.builds(
    StepShares, source_busy=shares, fold_busy=shares, commit_busy=shares, source_waits=shares, fold_waits=shares
)
workers = st.builds(
    WorkerAtWork,
    worker=st.sampled_from(["w1", "w2", "w3"]),
    is_ready=st.booleans(),
    partitions=st.lists(st.integers(0, 5), max_size=3, unique=True).map(tuple),
    events_per_second=maybe,
    steps=st.one_of(st.none(), steps),
    transactions_per_second=maybe,
    cpu_share=st.one_of(st.none(), st.floats(0, 4)),
    host=st.sampled_from([None, "a", "b"]),
    cores=st.sampled_from([None, 0, 1, 2]),
)
partitions = st.builds(
    PartitionAtWork,
    state=st.sampled_from(["running", *STANDING]),
    owner=st.none(),
    lag=st.one_of(st.none(), st.integers(0, 10**12)),
    lag_seconds=st.none(),
    produced_per_second=maybe,
    processed_per_second=maybe,
)
kafkas = st.builds(
    KafkaFigures,
    brokers=st.integers(0, 3),
    live=st.integers(0, 3),
    has_controller=st.booleans(),
    offline_partitions=st.integers(0, 3),
    under_replicated_partitions=st.integers(0, 3),
    under_min_isr_partitions=st.integers(0, 3),
)
systems = st.builds(
    SystemFigures,
    at=st.just(AT),
    kafka=st.one_of(st.none(), kafkas),
    job_state=st.sampled_from([None, "running", "running", "running", *JOB_STATES, "new"]),
    job_partitions=st.sampled_from([None, 0, 1, 6]),
    workers=st.lists(workers, max_size=4).map(tuple),
    partitions=st.dictionaries(st.integers(0, 5), partitions, max_size=6),
    silent_workers=st.lists(st.sampled_from(["w8", "w9"]), max_size=2).map(tuple),
)


@given(systems)
def test_no_figures_break_a_sentence(now: SystemFigures) -> None:
    """Every sentence is one, with numbers that are numbers, and nothing that shows how a program writes them."""
    for sentence in advice(now):
        assert re.fullmatch(r"[A-Zw0-9].*\.", sentence), sentence
        assert not re.search(r"\b(nan|inf|None|\d*e[+-]?\d+)\b|\.\.|  ", sentence), sentence


@given(systems)
def test_what_is_said_is_said_once(now: SystemFigures) -> None:
    assert len(set(advice(now))) == len(advice(now))


@given(figures, figures, st.floats(1e-3, 1e9), st.floats(0.02, 8.0))
def test_more_arrivals_need_no_fewer_workers(one: float, other: float, records: float, useful: float) -> None:
    """DS2's number of workers grows with what comes in, and suffices for it."""
    found = Capacity(1, records, useful)
    few, many = sorted((one, other))
    assert 1 <= found.needed(few) <= found.needed(many)
    assert found.needed(many) * found.of_one >= many * (1 - 1e-9)
    assert found.needed(many) == 1 or (found.needed(many) - 1) * found.of_one <= many * (1 + 1e-9)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 10**12), st.integers(0, 10**12))
def test_more_lag_takes_no_less_time(produced: float, processed: float, one: int, other: int) -> None:
    """At the same rates. A lag that does not shrink has no end."""
    few, many = (Trend(produced, processed, lag).seconds_left for lag in sorted((one, other)))
    assert (few is None) == (many is None) == (processed <= produced)
    assert few is None or many is None or 0 <= few <= many


@given(workers)
def test_every_cause_has_a_sentence(worker: WorkerAtWork) -> None:
    """A worker that has measured has a cause, and works between 0 and 1 s of each second."""
    assert (worker.steps is None) == (hold_up(worker) is None) == (useful_seconds(worker) is None)
    assert hold_up(worker) in (None, *HELD_UP)
    assert 0 <= (useful_seconds(worker) or 0) <= 1


def test_no_partitions_have_no_trend() -> None:
    """And no division by zero."""
    assert trend(()) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3_600, "1 h"), (86_399, "23 h 59 min"),
        (187_200, "2 d 4 h"), (1e9, "11,574 d 1 h"),
    ],
)  # fmt: skip
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert text == words.duration(seconds)


@pytest.mark.parametrize(
    ("figure", "text"),
    [(0, "0"), (0.04, "0.04"), (8.134, "8.13"), (9.999, "10"), (1e-9, "0"), (12.5, "12"), (12_345.6, "12,346")],
)
def test_numbers_have_no_more_digits_than_they_are_exact(figure: float, text: str) -> None:
    assert text == words.number(figure)


def test_lists_are_short() -> None:
    assert "3" == words.listed([3])
    assert "0, 1, 2, 3, 4, 5, 6, 7 and 92 others" == words.listed(range(100))


@pytest.mark.parametrize(
    ("records", "text"),
    [
        (
            {"P1": 6_120, "P2": 3_000, "P3": 880},
            "Of the last 10,000 events of partition 3, 61.2 % are of P1, 30 % are of P2 and 8.8 % are of P3.",
        ),
        (
            {"P1": 700, None: 200, "P3": 40, **{f"Q{number}": 1 for number in range(60)}},
            "Of the last 1,000 events of partition 3, 70 % are of P1 and 20 % are of no portfolio.",
        ),
        (
            {f"P{number}": 10 + (number == 7) for number in range(40)},
            "No portfolio stands out among 40 portfolios in the last 401 events of partition 3: P7 has most, 2.74 %.",
        ),
        ({"P1": 1}, "Of the last 1 event of partition 3, 100 % are of P1."),
        ({}, "Partition 3 has no events to sample."),
    ],
)
def test_the_portfolios_of_a_hot_partition(records: dict[str | None, int], text: str) -> None:
    """At most three, and only those that stand out; if none does, the partition is hot by many."""
    assert text == hot_portfolios(KeySample(3, records))
