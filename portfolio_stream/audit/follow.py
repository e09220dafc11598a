"""Audits without an end: pass after pass over all partitions. Each pass reads only new records.

A violation ends the audit, unless the plan has `keep_going`. A fault that may pass by itself (a broker is away, a
transaction stays open) does not end it. Then the verdict is `unverifiable` until a pass succeeds. That pass goes on
where the failed one stopped.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from portfolio_stream.audit.board import Board
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.result import Coverage
from portfolio_stream.audit.served import Asker, Workers, open_asker
from portfolio_stream.audit.verify import open_audits
from portfolio_stream.errors import CannotVerifyYet, PartitionUnreadable
from portfolio_stream.settings import Settings

#: errors after which the next pass may succeed
PASSING = (CannotVerifyYet, PartitionUnreadable, KafkaError, OSError)


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowPlan:
    #: seconds from the start of a pass to the start of the next
    interval: float
    #: go on after the first violation
    keep_going: bool
    coverage: Coverage
    find_workers: Workers


async def follow(settings: Settings, plan: FollowPlan, board: Board, report: Callable[[], None]) -> None:
    """Audit until a violation, or for ever. Calls `report` after each pass.

    Raises CannotVerify, TopicMissing, or the errors of `connected` at the first connection.
    """
    async with open_audits(settings) as audits, open_asker(settings, plan.coverage, plan.find_workers) as asker:
        while True:
            start = time.monotonic()
            try:
                await _pass(audits, asker, plan, board)
            except PASSING as error:
                board.failed(str(error) or type(error).__name__)
            else:
                board.passed(time.monotonic() - start)
            report()
            if board.verdict == "violated" and not plan.keep_going:
                return
            await asyncio.sleep(max(0.0, start + plan.interval - time.monotonic()))


async def _pass(audits: Sequence[PartitionAudit], asker: Asker, plan: FollowPlan, board: Board) -> None:
    topic_id: str | None = None
    for audit in audits:
        anomalies = await audit.run(topic_id)
        topic_id = topic_id or audit.topic_id
        board.note(audit.result, anomalies)
        if anomalies and not plan.keep_going:
            return
    await asker.ask(audits)
    board.unanswered = asker.unanswered
