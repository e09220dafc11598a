"""Errors of what Flink's operators ask: over Flink's REST interface, and with the command `flink`."""

from collections.abc import Sequence

from portfolio_stream.errors.base import PortfolioStreamError, shortened

_LIST = "`flink list -a` shows the jobs and their ids."


class FlinkJobUnknown(PortfolioStreamError):
    """No generation of the job has this id."""

    exit_code = 2

    def __init__(self, job: str) -> None:
        super().__init__(f"There is no job {shortened(job)}.", _LIST)


class FlinkJobAmbiguous(PortfolioStreamError):
    """Several jobs have ids that begin so."""

    exit_code = 2

    def __init__(self, start: str, jobs: Sequence[str]) -> None:
        super().__init__(f"{start} is the start of several job ids: {', '.join(jobs)}.", "Give more digits of the id.")


class FlinkJobReplaced(PortfolioStreamError):
    """The id is that of an earlier generation, or of one that is still being made."""

    def __init__(self, job: str, number: int, current: str) -> None:
        """`number` is the generation of `job`, `current` the id of the job as it is now."""
        super().__init__(
            f"{job} is generation {number} of the job's state, and the job has another generation now: its id is "
            f"{current}.",
            f"Give the id {current}. {_LIST}",
        )


class FlinkRequestInvalid(PortfolioStreamError):
    """A request to Flink's REST interface is not as Flink's clients send it."""

    exit_code = 2

    def __init__(self, cause: str, action: str) -> None:
        super().__init__(cause, action)


class FlinkTopicsDiffer(PortfolioStreamError):
    """An argument of the program names another Kafka or another topic than the job has."""

    exit_code = 2

    def __init__(self, argument: str, given: str, variable: str, found: str) -> None:
        super().__init__(
            f"{argument} is {shortened(given)}, but the job has {found}: two jobs on one cluster would be two states.",
            f"Leave {argument} out. For a job on {shortened(given)}, set {variable} and a PORTFOLIO_GROUP of its own, "
            "and start a cluster with them: `portfolio-stream cluster start`.",
        )


class FlinkUnreachable(PortfolioStreamError):
    """Nothing answers at the address of the cluster, or something that does not speak Flink's REST."""

    def __init__(self, address: str, reason: str, more: str = "") -> None:
        """`more` is added to the action: a sentence with a blank before it."""
        super().__init__(
            f"The cluster at {address} does not answer: {reason}.",
            "Start it with `portfolio-stream cluster start` (`start-cluster.sh`), or name its address with -m "
            f"HOST:PORT.{more}",
        )


class FlinkRefused(PortfolioStreamError):
    """The cluster answered a request with an error."""

    def __init__(self, status: int, cause: str, action: str | None) -> None:
        super().__init__(
            cause,
            action
            or f"The cluster answered {status}: on its host, `portfolio-stream cluster status` shows what is wrong "
            "there, and names its log.",
        )
        self.status = status


class FlinkOperationFailed(PortfolioStreamError):
    """What the cluster had begun was not done."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"The {what} was not done: {reason.rstrip('.')}.",
            "The job is as it was before. Mend that, then run the command again; `portfolio-stream job describe` shows "
            "the operation.",
        )


class FlinkNotRunning(PortfolioStreamError):
    """The job was asked to run, and does not run after the time that was given."""

    def __init__(self, job: str, state: str, seconds: float) -> None:
        super().__init__(
            f"The job {job} is {state} after {seconds:.0f} s.",
            f"The order stays. Look with `flink info -j {job}` and `flink log -j {job}`. If a partition is halted, "
            "`portfolio-stream partitions list` names the record and the way out.",
        )


class FlinkModifiedAgain(PortfolioStreamError):
    """Another command has given the job another number of workers meanwhile."""

    def __init__(self, job: str, workers: int, wanted: int) -> None:
        super().__init__(
            f"The job {job} was given {workers} workers, and {wanted} by another command since.",
            f"Agree on the number; then `flink modify {job} -p N` sets it. The last one counts.",
        )


class FlinkActionGone(PortfolioStreamError):
    """An action that Flink has given up, or that has no meaning here."""

    def __init__(self, what: str, because: str, action: str) -> None:
        super().__init__(f"`{what}` does not work here: {because}.", action)
