"""Errors that end a worker because it must not write again, or because the engine failed."""

from portfolio_stream.errors.base import PortfolioStreamError


class Superseded(PortfolioStreamError):
    """Another process has taken over this worker's identity. This worker must not write again (KIP-447)."""

    def __init__(self, transactional_id: str) -> None:
        super().__init__(
            f"A successor took over the transactional id {transactional_id}.",
            "If you started a replacement of this worker, do nothing. Otherwise find and stop the second process that "
            "uses this worker's data folder.",
        )
        self.transactional_id = transactional_id


class MembershipLost(PortfolioStreamError):
    """The group coordinator expelled this worker twice within ten seconds."""

    def __init__(self) -> None:
        super().__init__(
            "The group coordinator expelled this worker twice within ten seconds.",
            "Stop any second worker with the same data folder, and check the machine for long pauses. Then restart the "
            "worker.",
        )


class EngineFailed(PortfolioStreamError):
    """The engine raised an unexpected error. It keeps no uncommitted work, and the work was not acknowledged."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"The engine failed unexpectedly: {type(error).__name__}.",
            "Read the traceback before this line and open an issue with it. Restart the worker: it continues where it "
            "stopped.",
        )
