"""Errors of savepoints and of the place where they are kept."""

from collections.abc import Sequence

from portfolio_stream.errors.base import PortfolioStreamError, shortened

_REMEDY = "Use another savepoint: `portfolio-stream savepoint list` shows them."


class SavepointStoreFailed(PortfolioStreamError):
    """The folder or the bucket of the savepoints cannot be read or written."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(
            f"The savepoints at {location} cannot be read or written: {reason}.",
            "Check PORTFOLIO_SAVEPOINT_DIR. For a folder: free space on its disk and let this user write there. For "
            "s3://: the bucket must exist, and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and "
            "AWS_ENDPOINT_URL must be right. Then repeat the command: what is there already is not written again.",
        )
        self.location = location
        self.reason = reason


class SavepointIdInvalid(PortfolioStreamError):
    """The text is no savepoint's id."""

    exit_code = 2

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{shortened(text)} is no savepoint's id: an id is like 20261129T203512Z-4f2a9c.",
            "Take an id from `portfolio-stream savepoint list`, or say `latest`.",
        )


class SavepointElsewhere(PortfolioStreamError):
    """The address is not in the place of this job's savepoints."""

    exit_code = 2

    def __init__(self, text: str, location: str) -> None:
        super().__init__(
            f"{shortened(text)} is not in {location}, where this job's savepoints are.",
            "Say an id from `portfolio-stream savepoint list`, hdfs:///flink/savepoints/ID, or `latest`. To use a "
            f"savepoint of another place, copy its folder to {location} first (`cp -a` or `aws s3 sync`), or set "
            "PORTFOLIO_SAVEPOINT_DIR to that place for this command and all workers.",
        )
        self.location = location


class SavepointStoreOther(PortfolioStreamError):
    """A savepoint was asked for in a target directory that is not the place of the savepoints."""

    exit_code = 2

    def __init__(self, text: str, location: str) -> None:
        super().__init__(
            f"No savepoint can be written to {shortened(text)}: the workers write savepoints to {location}.",
            "Leave the target directory out, or say hdfs:///flink/savepoints, which means the same place. To use "
            "another place, set PORTFOLIO_SAVEPOINT_DIR for all workers and commands, and restart the workers.",
        )
        self.location = location


class SavepointMissing(PortfolioStreamError):
    """There is no such savepoint, or none at all."""

    def __init__(self, savepoint: str | None, location: str) -> None:
        """`savepoint` is None where the newest was asked for."""
        if savepoint is None:
            cause, action = "no complete savepoint", "`portfolio-stream savepoint create` makes one."
        else:
            cause, action = f"no savepoint {savepoint}", "`portfolio-stream savepoint list` shows those that are there."
        super().__init__(f"There is {cause} at {location}.", f"Check PORTFOLIO_SAVEPOINT_DIR. {action}")
        self.savepoint = savepoint


class SavepointTorn(PortfolioStreamError):
    """The savepoint has no manifest: it is still being written, or its writer ended before it was complete."""

    def __init__(self, savepoint: str) -> None:
        super().__init__(
            f"The savepoint {savepoint} is not complete: it has no manifest.",
            f"Wait if it is still being written. If it is not, {_REMEDY[0].lower()}{_REMEDY[1:]}",
        )
        self.savepoint = savepoint


class SavepointIncomplete(PortfolioStreamError):
    """Some partitions have not written their parts yet, so the savepoint cannot be made complete."""

    def __init__(self, savepoint: str, missing: Sequence[int]) -> None:
        super().__init__(
            f"The savepoint {savepoint} has no part of these partitions: {', '.join(map(str, missing))}.",
            "Let a worker own each of these partitions (`portfolio-stream partitions list` shows the owners), then "
            "create another savepoint.",
        )
        self.savepoint = savepoint
        self.missing = tuple(missing)


class SavepointTampered(PortfolioStreamError):
    """A file of the savepoint is not as it was written, or is not there."""

    def __init__(self, savepoint: str, path: str, reason: str, *, is_missing: bool = False) -> None:
        super().__init__(
            f"The savepoint {savepoint} is damaged: {shortened(path)}: {reason}.",
            f"{_REMEDY} `portfolio-stream savepoint verify {savepoint}` names all that is wrong with this one.",
        )
        self.savepoint = savepoint
        self.path = path
        self.reason = reason
        self.is_missing = is_missing


class SavepointKept(PortfolioStreamError):
    """The savepoint may not be deleted."""

    def __init__(self, savepoint: str, *, is_being_written: bool) -> None:
        """If it is not being written, it is a base."""
        if is_being_written:
            because = "it is being written"
            action = (
                "Wait until it is complete, or end its operation: `portfolio-stream job describe` names the operation."
            )
        else:
            because = "the job's generation came from it"
            action = (
                "Keep it while `portfolio-stream verify` may need it: the source's records before it may be deleted "
                "already. A later generation makes it dispensable (`portfolio-stream generations list`)."
            )
        super().__init__(f"The savepoint {savepoint} is not deleted: {because}.", action)
        self.savepoint = savepoint


class SavepointForeign(PortfolioStreamError):
    """The savepoint belongs to another cluster, source topic or fold, so its state does not fit to this job."""

    def __init__(self, savepoint: str, reasons: Sequence[str]) -> None:
        """`reasons` are clauses without a full stop."""
        super().__init__(
            f"The savepoint {savepoint} does not belong to this job: {'; '.join(reasons)}.",
            f"Name a savepoint of this job: `portfolio-stream savepoint list` shows them. If the settings of this "
            f"command are not the job's, correct them (`portfolio-stream savepoint describe {savepoint}`).",
        )
        self.savepoint = savepoint
        self.reasons = tuple(reasons)
