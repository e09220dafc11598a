"""The drills' own arithmetic: kinds of work of sampled stacks, arrivals of outputs, turns of an event loop, scaling."""

import asyncio
import gc
import json
import selectors
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import scaling, turns
from benchmarks.accounting import with_parts
from benchmarks.arrivals import Arrival, Arrivals, source_offset
from benchmarks.drill import SYMBOLS, key_events
from benchmarks.results import Run
from benchmarks.stacks import BACKGROUND, KINDS, OTHER, OWN, SHARED, by_thread, divide, kind_of

LOOP = (
    "BaseEventLoop._run_once (asyncio/base_events.py:1922)",
    "Handle._run (asyncio/events.py:80)",
    "EngineConsumer._run (portfolio_stream/faust_host/transport.py:70)",
    "MainLoop.turn (portfolio_stream/exactly_once/main_loop.py:89)",
)
AGENT = ("Handle._run (asyncio/events.py:80)", "SliceAgent._guarded (portfolio_stream/faust_host/agent.py:37)")
FOLD = (*AGENT, "fold_slice (agents/portfolio_events.py:118)")


@pytest.mark.parametrize(
    ("kind", "frames"),
    [
        ("fold", FOLD),
        ("fold", (*FOLD, "Struct_dealloc_nogc (msgspec/_core.so)")),
        ("fold", (*AGENT, "CPyDef_fold___fold_records (portfolio_stream/compiled.so)")),
        ("decode", (*FOLD, "decode_event (portfolio_stream/records/events.py:114)")),
        ("decode", (*AGENT, "CPyDef_fold___fold_records (x.so)", "CPyDef_events___decode (x.so)")),
        ("store get", (*FOLD, "StoredView.__missing__ (portfolio_stream/exactly_once/stored_view.py:43)")),
        ("encode", (*LOOP, "Commits.close (x.py:1)", "StoredView.take_dirty (x.py:85)", "encode (tables/table.py:9)")),
        ("fetch", ("Handle._run (asyncio/events.py:80)", "Fetcher._proc (aiokafka/consumer/fetcher.py:7)", "send (c)")),
        ("commit requests", (*LOOP[:2], "Writer._produce (portfolio_stream/exactly_once/writer.py:3)", "send (libc)")),
        ("slices and Faust", AGENT),
        ("engine", LOOP),
        ("connections", (*LOOP[:2], "AIOKafkaConnection._read (aiokafka/conn.py:9)", "read (asyncio/streams.py:1)")),
        ("asyncio loop", (*LOOP[:2], "EpollSelector.select (selectors.py:468)")),
        ("garbage collector", (*FOLD, "gc_collect_main (gcmodule.c:1)")),
        (OTHER, ("main (somewhere.py:1)",)),
        (None, ("_worker (concurrent/futures/thread.py:81)", "_queue_SimpleQueue_get (_queuemodule.c.h:177)")),
        ("store get", (*FOLD, "Store.get (portfolio_stream/exactly_once/store.py:1)", "rocksdb::MemTable::Get (x.so)")),
        ("store write", ("RocksDatabase.write (portfolio_stream/exactly_once/database.py:7)", "rocksdb::Insert (x)")),
        (None, (*FOLD, "take_gil (ceval_gil.h:1)", "pthread_cond_timedwait (libc.so.6)")),
    ],
)
def test_the_innermost_frame_of_our_own_decides_what_a_stack_works_at(kind: str | None, frames: tuple[str]) -> None:
    assert kind == kind_of(frames)


def test_every_kind_of_work_has_a_place_in_the_accounting() -> None:
    """A kind that KINDS lacks would be lost from the sum."""
    assert {*(kind for kind, _ in (*OWN, *SHARED)), OTHER, BACKGROUND} == set(KINDS)


def test_a_threads_cpu_time_is_divided_by_its_own_samples() -> None:
    """The samples of a thread that often waits for a core must not take CPU time from other threads."""
    lines = [
        f"thread (7): MainThread;{';'.join(FOLD)} 30",
        f"thread (7): MainThread;{';'.join(LOOP)} 10",
        "thread (8): store_0;RocksDatabase.write (portfolio_stream/exactly_once/database.py:75) 400",
    ]
    samples = by_thread(lines)
    assert {7: Counter({"fold": 30, "engine": 10}), 8: Counter({"store write": 400})} == samples
    seconds = divide({7: 4.0, 8: 1.0, 9: 0.5}, samples)
    assert (3.0, 1.0, 1.0, 0.5) == tuple(seconds[kind] for kind in ("fold", "engine", "store write", BACKGROUND))
    assert 5.5 == sum(seconds.values())
    assert list(KINDS) == list(seconds)


def seen(*arrivals: tuple[float, int]) -> Arrivals:
    made = Arrivals("127.0.0.1:1", "outputs", 2)
    made._seen[0] = [Arrival(at, offset) for at, offset in arrivals]
    return made


def test_the_first_output_of_a_later_event_counts() -> None:
    """A poll's last output stands for the poll: an output at or behind the offset is enough."""
    outputs = seen((1.0, 5), (2.0, 9), (3.0, 12))
    assert (1.0, 2.0, 2.0, None) == tuple(outputs.first(0, offset) for offset in (5, 6, 9, 13))
    assert outputs.have_passed({0: 12})
    assert not outputs.have_passed({0: 12, 1: 0})


def test_a_gap_may_begin_before_the_first_output_and_last_until_the_end() -> None:
    outputs = seen((1.0, 5), (2.5, 9), (3.0, 12))
    assert 1.5 == outputs.longest_gap(0, 1.0, 4.0)
    assert 3.0 == outputs.longest_gap(0, 1.0, 6.0)
    assert 5.0 == outputs.longest_gap(1, 1.0, 6.0)


def test_the_source_offset_is_the_last_field_of_an_output() -> None:
    assert 1041 == source_offset(b'{"event_id":"e","source":{"partition":3,"offset":1041}}')


def test_each_position_key_gets_one_trade_and_sizes_do_not_overlap() -> None:
    first, second = list(key_events(0, 2 * SYMBOLS)), list(key_events(2 * SYMBOLS, 3 * SYMBOLS))
    events = [json.loads(value) for _, value in (*first, *second)]
    assert 3 * SYMBOLS == len({(event["portfolio_id"], event["symbol"]) for event in events})
    assert 3 * SYMBOLS == len({event["event_id"] for event in events})
    assert {key.decode() for key, _ in first} == {"P00000000", "P00000001"}


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts the event loop's methods back after the test."""
    monkeypatch.setattr(selectors.DefaultSelector, "select", selectors.DefaultSelector.select)
    monkeypatch.setattr(asyncio.Handle, "_run", asyncio.Handle._run)
    callbacks = list(gc.callbacks)
    yield
    gc.callbacks[:] = callbacks


@pytest.mark.usefixtures("unwatched")
def test_a_long_callback_is_found_by_name(tmp_path: Path) -> None:
    """So a benchmark can say who keeps heartbeats and HTTP waiting."""
    path = tmp_path / "turns"
    watched = turns.watch(path)

    async def long_work() -> None:
        until = asyncio.get_running_loop().time() + 0.03
        while asyncio.get_running_loop().time() < until:
            pass

    async def main() -> None:
        await asyncio.create_task(long_work(), name="worker")
        await asyncio.sleep(0)

    asyncio.run(main())
    watched.close()
    longest = max(turns.read(path, 0.0), key=lambda one: one.wall_ms)
    assert longest.wall_ms >= 30
    assert longest.callback.startswith("worker: ")
    assert "long_work" in longest.callback
    assert longest.turns > 1


def test_the_page_has_the_tables_of_the_newest_figures() -> None:
    """Whoever changes a figure in benchmarks/scaling.py must make the page anew."""
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    assert scaling.renewed(page) == page


def test_ten_times_the_load_needs_ten_times_the_workers_and_as_many_markers_as_partitions_and_commits() -> None:
    small, large = (scaling.compute(scaling.Size("", partitions, rate)) for partitions, rate in ((8, 1e4), (80, 1e5)))
    assert 10 * small["workers"] == large["workers"]
    interval = scaling.GIVEN["interval"].value
    assert large["workers"] / interval + 2 * 80 / interval == pytest.approx(large["markers"])


def test_a_partition_has_one_worker_at_most() -> None:
    assert 4 == scaling.compute(scaling.Size("", 4, 1e6))["workers"]


def test_the_parts_of_a_round_stand_beside_the_whole_worker_of_that_round() -> None:
    """A mark of a part's run marks the whole: its figures must not be quoted either."""
    runs = [
        Run(variant=variant, round=number, figures={"CPU us/event": cpu}, marks=marks)
        for number, variant, cpu, marks in (
            (1, "now", 40.0, ()),
            (1, "only-offsets", 9.0, ()),
            (1, "before (x)", 80.0, ()),
            (2, "only-offsets", 8.0, ("other work",)),
            (2, "now", 41.0, ()),
        )
    ]
    first, before, second = with_parts(runs)
    assert {"CPU us/event": 40.0, "only-offsets us": 9.0} == first.figures
    assert {"CPU us/event": 80.0} == before.figures
    assert {"CPU us/event": 41.0, "only-offsets us": 8.0} == second.figures
    assert ((), ("only-offsets: other work",)) == (first.marks, second.marks)
