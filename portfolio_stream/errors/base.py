"""The base of all errors. It holds a cause, an operator's action, and an exit code."""

SHOWN_CHARACTERS = 200  # of a value in a message


def shortened(value: str) -> str:
    """The value in quotes, cut after SHOWN_CHARACTERS."""
    return repr(value) if len(value) <= SHOWN_CHARACTERS else f"{value[:SHOWN_CHARACTERS]!r}..."


def cause_of(error: BaseException) -> str:
    """What happened: our own error's cause, or another error's text, or its kind if it has no text."""
    return error.cause if isinstance(error, PortfolioStreamError) else str(error) or type(error).__name__


class PortfolioStreamError(Exception):
    """Base of all errors that an operator can meet.

    `cause` says in one sentence what happened. `action` begins with what the operator does next. A command that ends
    with this error has the exit code `exit_code`: 1, or 2 for an argument or a setting that must be corrected.
    """

    action = "Read the worker's log and open an issue with it."
    exit_code = 1

    def __init__(self, cause: str, action: str | None = None) -> None:
        if cause.endswith("..") and not cause.endswith("..."):  # another library's reason had a full stop already
            cause = cause[:-1]
        super().__init__(cause)
        self.cause = cause
        if action is not None:
            self.action = action

    def __str__(self) -> str:
        return f"{self.cause} Operator action: {self.action}"
