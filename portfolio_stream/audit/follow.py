"""Audits without an end: pass after pass over all partitions. Each pass reads only new records.

A violation ends the audit, unless the plan has `keep_going`. A fault that may pass by itself (a broker is away, a
transaction stays open) does not end it. Then the verdict is `unverifiable` until a pass succeeds. That pass goes on
where the failed one stopped.

If the history moves (the job was switched to another generation, records were deleted before they were read), the audit
starts over with the history that is there now. What it proved before stays.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from portfolio_stream.audit.board import Board
from portfolio_stream.audit.result import Coverage
from portfolio_stream.audit.served import Asker, Workers, open_asker
from portfolio_stream.audit.verify import Beginning, OpenAudits, open_audits
from portfolio_stream.errors import CannotVerifyYet, HistoryMoved, PartitionUnreadable, SavepointStoreFailed
from portfolio_stream.settings import Settings

#: errors after which the next pass may succeed
PASSING = (CannotVerifyYet, PartitionUnreadable, SavepointStoreFailed, KafkaError, OSError)


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowPlan:
    #: seconds from the start of a pass to the start of the next
    interval: float
    #: go on after the first violation
    keep_going: bool
    coverage: Coverage
    find_workers: Workers
    #: id of the savepoint to begin with; None: verify chooses
    savepoint: str | None = None


async def follow(settings: Settings, plan: FollowPlan, board: Board, report: Callable[[], None]) -> None:
    """Audit until a violation, or for ever. Calls `report` after each pass.

    Raises CannotVerify, TopicMissing, or the errors of `connected` at the first connection.
    """
    begin = Beginning(savepoint=plan.savepoint)
    async with open_asker(settings, plan.coverage, plan.find_workers) as asker:
        while True:
            try:
                async with open_audits(settings, begin) as opened:
                    board.begun(opened.base)
                    await _follow(opened, asker, plan, board, report)
                    return
            except HistoryMoved as moved:
                begin = begin.after(moved)
                board.moved(moved.reason)
                report()
                await asyncio.sleep(plan.interval)
            except PASSING as error:
                if not board.moves:
                    raise
                board.failed(str(error) or type(error).__name__)
                report()
                await asyncio.sleep(plan.interval)


async def _follow(opened: OpenAudits, asker: Asker, plan: FollowPlan, board: Board, report: Callable[[], None]) -> None:
    """Audit one history until a violation. Raises HistoryMoved."""
    while True:
        start = time.monotonic()
        try:
            await _pass(opened, asker, plan, board)
        except HistoryMoved:
            raise
        except PASSING as error:
            board.failed(str(error) or type(error).__name__)
        else:
            board.passed(time.monotonic() - start)
        report()
        if board.verdict == "violated" and not plan.keep_going:
            return
        await asyncio.sleep(max(0.0, start + plan.interval - time.monotonic()))


async def _pass(opened: OpenAudits, asker: Asker, plan: FollowPlan, board: Board) -> None:
    await opened.check()
    topic_id: str | None = None
    for audit in opened.audits:
        anomalies = await opened.run(audit, topic_id)
        topic_id = topic_id or audit.topic_id
        board.note(audit.result, anomalies)
        if anomalies and not plan.keep_going:
            return
    await asker.ask(opened.audits)
    board.unanswered = asker.unanswered
