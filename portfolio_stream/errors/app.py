"""Errors of an app's code: its tables, folds and agents, and the Faust features that the engine refuses."""

from portfolio_stream.errors.base import PortfolioStreamError


class TableNameInvalid(PortfolioStreamError):
    """A table's name is illegal: the name is the first part of the table's keys."""

    exit_code = 2

    def __init__(self, table: str) -> None:
        super().__init__(
            f"{table!r} cannot be a table's name: it is empty, or holds a NUL character.",
            "Give the table another name.",
        )
        self.table = table


class TableUnknown(PortfolioStreamError):
    """A fold asked for a view of a table that the app does not have. No store would keep the fold's values."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"A fold uses the table {table!r}, but the app has no such table.",
            "Add the table to the app, restart the worker, and run `portfolio-stream partitions retry`.",
        )
        self.table = table


class TopicNotAnOutput(PortfolioStreamError):
    """A fold asked for an appender to a topic that the app does not name as an output."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"A fold appends to {topic!r}, but the app has no such output.",
            "Add the topic to the app's outputs, restart the worker, and run `portfolio-stream partitions retry`.",
        )
        self.topic = topic


class ValueNotBytes(PortfolioStreamError):
    """A table's encoder returned a value that is not bytes."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"The encoder of table {table!r} returned a value that is not bytes.",
            "Correct the encoder, restart the worker, and run `portfolio-stream partitions retry`.",
        )
        self.table = table


class ShareTooLarge(PortfolioStreamError):
    """A fold made more of a few source records than a transaction may hold."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(
            f"A fold made {found}, and a transaction takes {allowed}.",
            "Change the fold so that it makes less of one record, or move the record with `portfolio-stream partitions "
            "dead-letter`.",
        )


class AgentReturned(PortfolioStreamError):
    """An agent ended while the engine still had slices for it."""

    def __init__(self) -> None:
        super().__init__(
            "The agent returned instead of asking for the next slice.",
            "Let the agent iterate over its stream to the end, then restart the worker.",
        )


class NotTransactional(PortfolioStreamError):
    """The app's code uses a feature of Faust that writes outside the transaction."""

    def __init__(self, feature: str, instead: str) -> None:
        super().__init__(f"{feature} is not transactional.", f"Use {instead} instead.")
        self.feature = feature


class FaustFeatureRefused(PortfolioStreamError):
    """A command or an option of Faust would write outside the transaction, or the engine has nothing for it."""

    exit_code = 2

    def __init__(self, feature: str, action: str) -> None:
        super().__init__(f"{feature} is not for an app with exactly-once.", action)
        self.feature = feature


class ForeignTopicRead(PortfolioStreamError):
    """An agent reads another topic than the engine's source."""

    def __init__(self, topics: str, source: str) -> None:
        super().__init__(
            f"An agent reads {topics}, but the engine reads only {source}.", f"Let every agent read {source} alone."
        )
        self.topics = topics
