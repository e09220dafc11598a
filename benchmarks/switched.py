"""The engine with parts switched off: `faust -A benchmarks.switched worker`. BENCHMARK_PARTS names what is on.

- `only-offsets`: records are fetched, handed out and passed. A transaction has offsets and META alone.
- `and-outputs`: as `only-offsets`, and each record is copied to an output.
- `and-decode`: as `and-outputs`, and each record is decoded before that.
- `no-store`: everything is on, but nothing is written to RocksDB. Values that the views forget are lost.

The first three are an app of their own, with a group and a changelog of its own, on the same source.
"""

import os
from collections.abc import AsyncIterable
from typing import Any

from portfolio_stream.compiled.events import decode
from portfolio_stream.exactly_once.database import RocksDatabase
from portfolio_stream.exactly_once.ports import FoldSlice
from portfolio_stream.faust_host.app import exactly_once_app
from portfolio_stream.settings import Settings


def make_app(part: str, settings: Settings) -> Any:
    if part == "no-store":
        RocksDatabase.write = _write_nothing  # type: ignore[assignment, method-assign]
        from portfolio_stream.worker import app

        return app
    made = exactly_once_app(
        "switched",
        source=settings.input_topic,
        outputs=["switched"],
        tables=[],
        fold="1",
        bootstrap_servers=settings.bootstrap_servers,
        topic_partitions=settings.partitions,
        datadir=str(settings.data_dir / part),
    )

    @made.agent(made.topic(settings.input_topic), name="switched")
    async def agent(slices: AsyncIterable[FoldSlice]) -> None:
        async for piece in slices:
            append = piece.appender("switched")
            for record in piece.records:
                if part == "and-decode":
                    decode(record.value)
                if part != "only-offsets":
                    append(record.timestamp, record.key, record.value, ())

    return made


def _write_nothing(*_: object) -> None:
    """Instead of `RocksDatabase.write`."""


app = make_app(os.environ["BENCHMARK_PARTS"], Settings.from_environment(os.environ))
