"""Switches that a worker carries out for somebody who asked over HTTP.

1. One switch at a time in a worker. A switch that is not over, at whatever worker or command, is never overtaken. A
   savepoint that is not complete fails (`asking.begin_switch`): after a disaster nobody is there to complete it.
2. The switch goes on when the client goes away. It ends with the worker's stop: then it is cancelled, and the job is
   what it was before.
3. If the process is killed, its next process ends the switch: it fails, and the job is what it was before. The
   operation names its carrier, and only one process at a time has a carrier's name.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import JobOperation, OperationKind, OperationState
from portfolio_stream.errors import ControlUnavailable, OperationInProgress, PortfolioStreamError
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.gathering import Wanted
from portfolio_stream.jobs.plans import Plan
from portfolio_stream.jobs.switch import Switcher, SwitchProgress, TellSwitch, unreported

log = logging.getLogger(__name__)

KILLED = "the process that carried it out was killed"
STOP_SECONDS = 1.0  # to say that a switch is cancelled: a worker has 5 s to end, and its engine needs 3 s of these

OpenSwitcher = Callable[[TellSwitch], AbstractAsyncContextManager[Switcher]]


class BackgroundSwitches:
    def __init__(self, control: JobControl, open_switcher: OpenSwitcher, carrier: str) -> None:
        """`open_switcher` makes a switcher that tells its progress to the function. `carrier` names this process and
        those before it, and no other."""
        self._control = control
        self._carrier = carrier
        self._open_switcher = open_switcher
        self._begins = asyncio.Lock()
        self._going: asyncio.Task[JobOperation] | None = None
        self._operation: JobOperation | None = None
        self._progress: SwitchProgress | None = None

    async def end_orphans(self) -> None:
        """End the switches of this carrier's process before this one. Call it before the first `begin`.

        If the control topic gives no answer, the switches stay: a line of the log says so.
        """
        for other in self._control.state.running:
            if other.kind.is_switch and other.arguments.get("carrier") == self._carrier:
                try:
                    await asking.end(self._control, other.id, OperationState.FAILED, reason=KILLED)
                except ControlUnavailable as error:
                    log.warning("orphaned switch stays operation=%s cause=%s", other.id, error.cause)
                else:
                    log.warning("orphaned switch ended operation=%s", other.id)

    async def preview(self, wanted: Wanted) -> Plan:
        """See Switcher.preview. Changes nothing."""
        async with self._open_switcher(unreported) as switcher:
            return await switcher.preview(wanted)

    async def begin(self, wanted: Wanted, *, by: str, then: JobState | None = None) -> JobOperation:
        """Begin a switch, and go on with it in the background. Returns the operation, which runs.

        Raises what `preview` and `asking.begin_switch` raise: then nothing was begun.
        """
        async with self._begins:
            for other in (await self._control.newest()).running:
                if other.kind is not OperationKind.SAVEPOINT:
                    raise OperationInProgress(other.id, other.kind.value)
            if self._going is not None:  # its operation is over; perhaps it still deletes what it has built
                await asyncio.wait([self._going])
            self._operation = self._progress = None
            begun: asyncio.Future[JobOperation] = asyncio.get_running_loop().create_future()
            self._going = asyncio.create_task(self._carry_out(wanted, by, then, begun), name="switch")
            self._going.add_done_callback(lambda task: _tell_end(task, begun))
            return await asyncio.shield(begun)  # a client that goes away does not end the switch

    def progress(self, operation: str) -> SwitchProgress | None:
        """How far an operation is; None if this worker does not carry it out."""
        return self._progress if self._operation is not None and self._operation.id == operation else None

    async def stop(self) -> None:
        """Cancel the switch that goes on."""
        if self._going is not None:
            self._going.cancel()
            await asyncio.wait([self._going], timeout=STOP_SECONDS)

    async def _carry_out(
        self, wanted: Wanted, by: str, then: JobState | None, begun: "asyncio.Future[JobOperation]"
    ) -> JobOperation:
        def note(operation: JobOperation) -> None:
            self._operation = operation
            begun.set_result(operation)

        async with self._open_switcher(self._report) as switcher:
            plan = await switcher.preview(wanted)
            return await switcher.carry_out(
                wanted, plan, by=by, carrier=self._carrier, then=then, overtakes=False, begun=note
            )

    def _report(self, progress: SwitchProgress) -> None:
        self._progress = progress


def _tell_end(task: "asyncio.Task[JobOperation]", begun: "asyncio.Future[JobOperation]") -> None:
    """Give the error to the one who waits for the beginning; later errors are in the operation, and in the log."""
    if task.cancelled():
        begun.cancel()
        return
    error = task.exception()
    if not begun.done():
        assert error is not None  # noqa: S101  a switch that is done has begun
        begun.set_exception(error)
        begun.exception()  # asyncio need not warn of it if the client went away
    elif isinstance(error, PortfolioStreamError):
        log.error("switch failed cause=%s action=%s", error.cause, error.action)
    elif error is not None:
        log.error("switch failed", exc_info=error)
