"""Errors of hdfs:///, which is a mount table and no Hadoop."""

from portfolio_stream.errors.base import PortfolioStreamError, shortened

_OURS = "`hdfs dfs -ls /flink/savepoints` shows the savepoints."


class HdfsRootMissing(PortfolioStreamError):
    """The path is in no mount, and there is no place for all other paths."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{shortened(path)} is not here: hdfs:/// has only /flink/savepoints and /flink/checkpoints.",
            f"{_OURS} To have other paths, set PORTFOLIO_HDFS_ROOT to a folder or to s3://bucket/prefix.",
        )


class HdfsHostUnknown(PortfolioStreamError):
    """The address names a name node or another file system."""

    exit_code = 2

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{shortened(path)} is another file system: this `hdfs` knows hdfs:/// alone, without a host.",
            f"{_OURS} For a bucket use `aws s3`; for a Hadoop cluster, Hadoop's own `hdfs`.",
        )


class HdfsRootFailed(PortfolioStreamError):
    """PORTFOLIO_HDFS_ROOT cannot be read or written."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(
            f"PORTFOLIO_HDFS_ROOT {location} cannot be read or written: {reason}.",
            "Correct PORTFOLIO_HDFS_ROOT, or give this user the right to read and write there. For s3:// check "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL too.",
        )


class HdfsUsage(PortfolioStreamError):
    """The command line is none that `hdfs dfs` understands."""

    exit_code = 255  # Hadoop's own

    def __init__(self, cause: str, usage: str) -> None:
        super().__init__(cause, f"Type {usage}.")


class HdfsCommandRefused(PortfolioStreamError):
    """A command of Hadoop's that has no counterpart on a mount table."""

    def __init__(self, command: str, instead: str) -> None:
        super().__init__(
            f"`hdfs {command}` has no counterpart here: hdfs:/// is a mount table on the savepoints' place, no Hadoop.",
            f"{instead[0].upper()}{instead[1:]}.",
        )
