"""Which kind of work a sampled stack belongs to, as a literal table.

`py-spy record --format raw` writes a line for each stack: the frames from the outermost to the innermost, with `;`
between them, and the number of samples. A frame is `function (file:line)`. With --native there are frames of C code.

1. A stack that waits does not use a core: it counts nothing.
2. A thread's CPU time, which the kernel tells, is divided by its samples. So it does not matter that a thread that
   waits for a core is sampled, too. Threads without a Python frame are RocksDB's own: flushes and compactions.
3. The innermost frame that a row of OWN names decides. So the fold's call of a table's encoder is encoding.
4. If no row of OWN fits, the innermost frame that a row of SHARED names decides: code that several kinds of work use.

Functions that mypyc compiled are C functions named CPyDef_<module>___<function>.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

Rows = Sequence[tuple[str, tuple[str, ...]]]

#: parts of the innermost frames of a thread that waits for work, for another thread, or for the interpreter's lock
WAITING = ("take_gil", "PyThread_acquire_lock", "pthread_cond_", "(concurrent/futures/thread.py:81)")

#: kind of work, and parts of frames. Within a frame the first row that fits decides
OWN: Rows = (
    ("garbage collector", ("gc_collect_main", "(gcmodule.c")),
    (
        "store get",
        (
            "__missing__ (portfolio_stream/exactly_once/stored_view.py",
            "Store.get (",
            "RecentRows.layers (",
            "prefetch (",
        ),
    ),
    (
        "store write",
        (
            "(portfolio_stream/exactly_once/store.py",
            "(portfolio_stream/exactly_once/recent.py",
            "(portfolio_stream/exactly_once/database.py",
        ),
    ),
    (
        "encode",
        (
            "take_dirty",
            "dirty_items",
            "Commits._encode",
            "(tables/",
            "(portfolio_stream/records/outputs.py",
            "(portfolio_stream/compiled/codecs.py",
            "(portfolio_stream/compiled/outputs.py",
            "CPyDef_codecs___",
            "CPyDef_outputs___",
        ),
    ),
    (
        "changelog and output records",
        ("(portfolio_stream/exactly_once/transaction.py", "(aiokafka/record/", "default_records"),
    ),
    (
        "decode",
        (
            "(portfolio_stream/records/events.py",
            "(portfolio_stream/records/classifier.py",
            "(portfolio_stream/records/known.py",
            "(portfolio_stream/records/wire.py",
            "(portfolio_stream/records/times.py",
            "(portfolio_stream/records/fields.py",
            "(portfolio_stream/compiled/events.py",
            "CPyDef_events___",
        ),
    ),
    (
        "fold",
        ("(agents/", "(portfolio_stream/domain/", "(portfolio_stream/compiled/", "CPyDef_", "CPyPy_"),
    ),
    (
        "fetch",
        (
            "(aiokafka/consumer/",
            "(portfolio_stream/kafka/reader.py",
            "(portfolio_stream/kafka/batch_consumer.py",
            "(portfolio_stream/kafka/record_batches.py",
        ),
    ),
    (
        "commit requests",
        (
            "(portfolio_stream/exactly_once/writer.py",
            "(portfolio_stream/exactly_once/delivery.py",
            "(portfolio_stream/exactly_once/commits.py",
        ),
    ),
    (
        "heartbeats, HTTP, metrics",
        (
            "(portfolio_stream/exactly_once/membership.py",
            "(portfolio_stream/exactly_once/beat_content.py",
            "(portfolio_stream/observe/",
            "(portfolio_stream/web/",
            "(portfolio_stream/http/",
            "(prometheus_client/",
            "(aiohttp/",
            "(portfolio_stream/kafka/follower.py",
        ),
    ),
    (
        "slices and Faust",
        (
            "(portfolio_stream/faust_host/agent.py",
            "(portfolio_stream/faust_host/stream.py",
            "EngineConsumer._deliver (",
            "Folding.hand_out (",
            "(portfolio_stream/exactly_once/slices.py",
            "(faust/agents/",
            "(faust/streams/",
            "(faust/transport/",
            "(faust/types/",
            "(mode/utils/",
        ),
    ),
    ("engine", ("(portfolio_stream/exactly_once/",)),
)

SHARED: Rows = (
    (
        "connections",
        ("(aiokafka/", "(portfolio_stream/kafka/", "(kio/", "(asyncio/streams.py", "(asyncio/selector_events.py"),
    ),
    ("asyncio loop", ("(asyncio/", "(selectors.py", "(_asynciomodule.c")),
)
OTHER = "other"
BACKGROUND = "RocksDB's threads"
THREAD = re.compile(r"thread \((\d+)\)")

#: every kind of work, in the order of an event's way
KINDS = (
    "fetch",
    "slices and Faust",
    "decode",
    "store get",
    "fold",
    "encode",
    "changelog and output records",
    "commit requests",
    "store write",
    BACKGROUND,
    "engine",
    "connections",
    "asyncio loop",
    "heartbeats, HTTP, metrics",
    "garbage collector",
    OTHER,
)


def kind_of(frames: Sequence[str]) -> str | None:
    """Returns the kind of work of a stack, whose innermost frame is the last. None if the stack waits."""
    if any(part in frame for frame in frames[-4:] for part in WAITING):
        return None
    return _first(frames, OWN) or _first(frames, SHARED) or OTHER


def _first(frames: Sequence[str], rows: Rows) -> str | None:
    for frame in reversed(frames):
        for kind, parts in rows:
            if any(part in frame for part in parts):
                return kind
    return None


def by_thread(lines: Iterable[str]) -> dict[int, Counter[str]]:
    """Returns the samples by thread and kind of work, of the raw lines of `py-spy record --threads`."""
    samples: dict[int, Counter[str]] = {}
    for line in lines:
        stack, _, number = line.rstrip().rpartition(" ")
        thread, *frames = stack.split(";")
        found = THREAD.match(thread)
        if found is not None and (kind := kind_of(frames)) is not None:
            samples.setdefault(int(found[1]), Counter())[kind] += int(number)
    return samples


def divide(cpu_seconds: Mapping[int, float], samples: Mapping[int, Counter[str]]) -> dict[str, float]:
    """Returns CPU seconds by kind of work, in the order of KINDS. `cpu_seconds` is by thread."""
    seconds = dict.fromkeys(KINDS, 0.0)
    for thread, spent in cpu_seconds.items():
        found = samples.get(thread)
        if not found:
            seconds[BACKGROUND] += spent
            continue
        total = found.total()
        for kind, number in found.items():
            seconds[kind] += spent * number / total
    return seconds
