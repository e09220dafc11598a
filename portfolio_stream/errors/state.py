"""Errors of a worker's data folder, its local store, and the state in the store and the changelog."""

from collections.abc import Collection
from pathlib import Path

from portfolio_stream.errors.base import PortfolioStreamError


class DataDirectoryInUse(PortfolioStreamError):
    """Another process has locked the data directory."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"Another process uses the data directory {path}.",
            "Stop that process, or give this one another PORTFOLIO_DATA_DIR or PORTFOLIO_INSTANCE_ID.",
        )
        self.path = path


class DataDirectoryUnusable(PortfolioStreamError):
    """No worker can have its folder there. The setting must be corrected; the disk works."""

    exit_code = 2

    def __init__(self, path: Path, reason: str, option: str = "--datadir or PORTFOLIO_DATA_DIR") -> None:
        """`option` is the option or variable that names the folder."""
        super().__init__(
            f"The data directory {path} cannot be used: {reason}.",
            f"Let this user write there, or name another folder with {option}.",
        )
        self.path = path


class StateUnreadable(PortfolioStreamError):
    """A key or a value of the state cannot be decoded, so no worker wrote it: another program writes the changelog."""

    def __init__(self, part: str) -> None:
        """`part` says what cannot be decoded and names its table. It never shows the key: the key may be private."""
        super().__init__(
            f"The state has {part} that cannot be read: no worker wrote it.",
            "Run `portfolio-stream verify`, which names the record, and find out which other program may write to the "
            "changelog topic. Then rebuild the state: stop all workers; delete outputs, dead letters, changelog and "
            "the group; start the workers.",
        )


class StoreFailed(PortfolioStreamError):
    """The local store cannot be read or written: the disk is full or broken, or permissions are missing.

    No committed value is lost: the changelog has all of them.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The local store at {path} failed: {reason}.",
            "Free space or repair the disk, then start the worker again. If the store is corrupt, delete its folder: "
            "the worker rebuilds the store from the changelog.",
        )
        self.path = path


class FoldMismatch(PortfolioStreamError):
    """The state was folded by another version of the fold, or with other settings."""

    def __init__(self, partition: int, found: str, expected: str) -> None:
        """`found` and `expected` are a fold's name, or `version=N setting=VALUE ..`."""
        super().__init__(
            f"The state of partition {partition} was folded with {found}, but this worker folds with {expected}.",
            f"Start the worker with {_what_made(found, expected)}. To fold the whole history anew instead, choose new "
            "values of PORTFOLIO_GROUP, PORTFOLIO_OUTPUT_TOPIC and PORTFOLIO_DLQ_TOPIC: in the old topics all outputs "
            "would be there twice.",
        )
        self.partition = partition
        self.found = found
        self.expected = expected


class RepeatFailed(PortfolioStreamError):
    """A partition folds records again, and what stands in an output topic cannot be what the fold gave before."""


class OutputDiffers(RepeatFailed):
    """The fold gives another output than the one that stands."""

    def __init__(
        self, topic: str, partition: int, offset: int, source: tuple[int, int], fields: Collection[str]
    ) -> None:
        """`source` are the first and the last source offset of the records that were folded. Never a content."""
        first, last = source
        records = f"source offset {last}" if first == last else f"source offsets {first}..{last}"
        super().__init__(
            f"The fold of {records} does not give again the output {topic}-{partition}@{offset}, which differs in "
            f"{', '.join(fields)}.",
            "Nothing was written. Find out what changed: the code of the fold, its settings, or a record that another "
            f"program wrote. Then run `portfolio-stream partitions retry {partition}`, or go back to a former "
            "generation with `portfolio-stream generations rollback`.",
        )


class OutputUnreadable(RepeatFailed):
    """An output that stands cannot be read, so nobody knows whether the fold gives it again."""

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(
            f"The output {topic}-{partition}@{offset} cannot be compared: {reason}.",
            f"Repair the log of that topic, then run `portfolio-stream partitions retry {partition}`. Or go back to a "
            "former generation with `portfolio-stream generations rollback`.",
        )


def _what_made(found: str, expected: str) -> str:
    """The variables with their values, or the version, in which the fold of the state differs from ours."""
    pairs = [dict(part.split("=", 1) for part in fold.split() if "=" in part) for fold in (found, expected)]
    differing = {name: value for name, value in pairs[0].items() if pairs[1].get(name) != value}
    version = differing.pop("version", None)
    names = [f"PORTFOLIO_{name.upper()}={value}" for name, value in differing.items()]
    if version is not None or not names:
        names.insert(0, f"the version of the code whose fold is {version or found}")
    return " and ".join(names)
