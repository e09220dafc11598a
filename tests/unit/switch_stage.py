"""A switch of a job that a test begins and ends, in place of a `Switcher`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import JobOperation, OperationState
from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.gathering import Wanted
from portfolio_stream.jobs.plans import PartitionPlan, Plan
from portfolio_stream.jobs.switch import SwitchProgress, TellSwitch


class FakeSwitcher:
    """Begins a switch, and ends it when the test says so."""

    def __init__(self, control: Any) -> None:
        self.control = control
        self.refusal: PortfolioStreamError | None = None
        self.goes_on = asyncio.Event()
        self.wanted: list[Wanted] = []
        self.then: list[JobState | None] = []

    @asynccontextmanager
    async def open(self, report: TellSwitch) -> AsyncIterator["FakeSwitcher"]:
        report(SwitchProgress("loading", 5, 10, "loading 5 of 10 rows"))
        yield self

    async def preview(self, wanted: Wanted) -> Plan:
        if self.refusal is not None:
            raise self.refusal
        self.wanted.append(wanted)
        return Plan(
            kind=wanted.kind, parent=1, partitions=(PartitionPlan(partition=0, base="empty", offset=0, before=7),)
        )

    async def carry_out(
        self, wanted: Wanted, plan: Plan, *, by: str, carrier: str, then: JobState | None, overtakes: bool, begun: Any
    ) -> JobOperation:
        assert not overtakes
        self.then.append(then)
        operation = await asking.begin_switch(
            self.control, asking.asked(wanted.kind, by, carrier=carrier), overtakes=overtakes
        )
        begun(operation)
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            await asking.end(self.control, operation.id, OperationState.CANCELLED, reason="interrupted")
            raise
        return await asking.end(self.control, operation.id, OperationState.FAILED, reason="test")
