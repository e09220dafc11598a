"""Writes the state of the next generation into its changelog, before anybody reads it.

1. The transactional id GROUP-build fences an older builder: what it has open can never be committed any more.
2. Rows go into transactions of some MB, of several partitions each. While one is being committed, the next one is
   filled.
3. META goes last, so a partition that is not whole has none.
4. A doubt about a transaction ends the build: whoever builds begins again with an empty topic.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping

from portfolio_stream.exactly_once.protocol import AFTER_RECORDS_ALONE
from portfolio_stream.exactly_once.transaction import Share
from portfolio_stream.exactly_once.writer import Writer
from portfolio_stream.jobs.contents import CountRead, ignored
from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.wire import Coordinators
from portfolio_stream.savepoints.parquet import ChangelogRow

#: of rows; the transaction time-out of the engine's writer is 3 s, and a busy broker takes 20 MB a second
TRANSACTION_BYTES = 8 << 20
RECORD_BYTES = 20  # of a record besides its key and value, at most

RowSource = AsyncIterator[list[ChangelogRow]]


class Builder:
    """Writes into one changelog. After an error, stop using it."""

    def __init__(self, client: Client, *, group: str, topic: str, count: CountRead = ignored) -> None:
        """`client` knows the topic (`set_topics`)."""
        transactional_id = f"{group}-build"
        self._writer = Writer(
            client,
            Coordinators(client, group, transactional_id),
            group=group,
            transactional_id=transactional_id,
            extra_transitions=AFTER_RECORDS_ALONE,
        )
        self._topic = topic
        self._count = count
        self._shares: dict[int, Share] = {}
        self._waiting = self._sent = self._filled = 0
        self._sending: asyncio.Task[None] | None = None
        self._now = int(time.time() * 1000)

    async def start(self) -> None:
        """Fence an older builder. Raises Doubt."""
        await self._writer.start()

    async def load(self, sources: Mapping[int, RowSource]) -> None:
        """Write the rows of these partitions, in turns. Raises Doubt, Superseded, Refused and what a source raises."""
        try:
            left = dict(sources)
            while left:
                for partition, rows in list(left.items()):
                    some = await anext(rows, None)
                    if some is None:
                        del left[partition]
                    else:
                        await self._add(partition, some)
            await self.flush()
        finally:
            await self._abandon()

    async def describe(self, metas: Mapping[int, Iterable[ChangelogRow]]) -> None:
        """Write the last rows of each partition, in one transaction: META, and decisions. Raises as `load`."""
        for partition, rows in metas.items():
            await self._add(partition, list(rows))
        try:
            await self.flush()
        finally:
            await self._abandon()

    async def flush(self) -> None:
        """Commit what is filled."""
        await self._commit_filled()
        if self._sending is not None:
            sending, self._sending = self._sending, None
            await sending

    async def _add(self, partition: int, rows: list[ChangelogRow]) -> None:
        share = self._shares.get(partition)
        if share is None:
            share = self._shares[partition] = Share(partition, 0)
        append, now = share.appender(self._topic), self._now
        for key, value in rows:
            append(now, key, value, ())
        self._filled += len(rows)
        self._waiting += sum([len(key) + len(value) + RECORD_BYTES for key, value in rows])
        if self._waiting > TRANSACTION_BYTES:
            await self._commit_filled()
        else:
            await asyncio.sleep(0)  # let the commit in flight go on

    async def _commit_filled(self) -> None:
        """Wait for the transaction in flight, and begin to commit the filled one."""
        if self._sending is not None:
            sending, self._sending = self._sending, None
            await sending
        shares, rows = list(self._shares.values()), self._filled
        self._shares, self._waiting, self._filled = {}, 0, 0
        if shares:
            self._sending = asyncio.create_task(self._commit(shares, rows), name="build")

    async def _commit(self, shares: list[Share], rows: int) -> None:
        await self._writer.send_records(shares)
        await self._writer.commit()
        self._sent += rows
        self._count(self._sent)

    async def _abandon(self) -> None:
        """After an error: nobody waits for the transaction in flight any more."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
            self._sending = None
