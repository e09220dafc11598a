"""Another domain on the engine: counts words, and fails as the test's records ask it to.

`poison` makes the fold raise; `unencodable` is counted with a value that the table cannot encode.
"""

import os
from pathlib import Path
from typing import Any

from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.faust.app import ExactlyOnceApp
from portfolio_stream.exactly_once.faust.stream import SliceSchema
from portfolio_stream.exactly_once.identity import claim
from portfolio_stream.exactly_once.ports import Slice, TableDefinition
from portfolio_stream.exactly_once.store import Store

BOOTSTRAP_SERVERS = os.environ.get("PORTFOLIO_BOOTSTRAP_SERVERS", "")  # the tests import the names below without one
GROUP, WORDS, COUNTS, CHANGELOG = "word-count", "words", "counts", "word-count-changelog"
TOTALS: TableDefinition[int] = TableDefinition(
    name="totals", encode=lambda total: total.to_bytes(8, "big"), decode=lambda data: int.from_bytes(data, "big")
)


async def make_engine(tables: list[TableDefinition[Any]]) -> Engine:
    identity = claim(Path(os.environ["PORTFOLIO_DATA_DIR"]), os.environ["PORTFOLIO_INSTANCE_ID"])
    configuration = Configuration(
        group=GROUP,
        source_topic=WORDS,
        changelog_topic=CHANGELOG,
        output_topics=(COUNTS,),
        fold="1",
        client_options={"bootstrap_servers": BOOTSTRAP_SERVERS},
    )
    return Engine(configuration, identity, Store(identity.folder / "store"), tables)


app = ExactlyOnceApp(GROUP, make_engine=make_engine, bootstrap_servers=BOOTSTRAP_SERVERS, web_enabled=False)
app.Table(TOTALS.name, options={"definition": TOTALS})


@app.agent(app.topic(WORDS, schema=SliceSchema()), name="count")
async def count(slices: Any) -> None:
    async for piece in slices:
        fold(piece)


def fold(piece: Slice) -> None:
    totals, append = piece.view(TOTALS), piece.appender(COUNTS)
    for record in piece.records:
        word = record.value or b""
        if word == b"poison":
            raise ValueError("poison")
        total = (totals[word] or 0) + 1
        totals.put(word, -1 if word == b"unencodable" else total)
        append(record.timestamp, word, str(total).encode(), ())
