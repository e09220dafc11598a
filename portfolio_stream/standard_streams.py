"""Standard output and standard error that never end a process with a traceback.

1. A character that the stream's encoding lacks is written as an escape (`\\u2020`).
2. A command's write to standard output raises OutputClosed if the pipe has no reader any more, and OutputNotWritten if
   the disk is full or the stream is closed. Only the first failed write raises. All later output is dropped, so that
   the process can end in order.
3. A worker's standard output, and standard error everywhere, never raise. Text that cannot be written is dropped. The
   next write is tried again, because the disk may have room by then.
4. Log lines have no control characters: a terminal shows the characters of a stranger's text as escapes.
"""

import errno
import io
import logging
import os
import select
import sys
import traceback
from collections.abc import Mapping
from typing import Any, TextIO

from portfolio_stream.errors import OutputNotWritten
from portfolio_stream.foreign import printable, printable_lines

CLOSED = -1  # a file descriptor to which every write fails


class OutputClosed(Exception):
    """The reader of our standard output is gone, as `head` is after its lines.

    This is no error: it only unwinds the command's stack.
    """


class _Descriptor(io.RawIOBase):
    """Writes to a file descriptor by the rules above. Never closes the descriptor."""

    def __init__(self, descriptor: int, drops: bool) -> None:
        self._descriptor = descriptor
        self._drops = drops
        self._has_failed = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor == CLOSED:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor != CLOSED and os.isatty(self._descriptor)

    def write(self, content: Any) -> int:
        """Raises OutputClosed, OutputNotWritten."""
        if self._has_failed:
            return len(content)
        try:
            return self._write(content)
        except OSError as error:
            if self._drops:
                return len(content)
            self._has_failed = True
            if error.errno == errno.EPIPE:
                raise OutputClosed from None
            raise OutputNotWritten(os.strerror(error.errno or errno.EIO)) from None

    def _write(self, content: Any) -> int:
        while True:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:  # another program made our terminal non-blocking
                select.select((), (self._descriptor,), ())


def open_stream(descriptor: int, encoding: str, *, drops: bool) -> TextIO:
    """Returns a stream that writes by the rules above: by rule 3 if `drops`, or else by rule 2."""
    raw = _Descriptor(descriptor, drops)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=raw.isatty() or drops)


def install(*, drops_output: bool) -> None:
    """Replace sys.stdout and sys.stderr by such streams, unless a test has replaced them already."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(sys.stdout, drops=drops_output)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, drops=True)
    logging.setLogRecordFactory(PrintableRecord)


def _guarded(stream: TextIO | None, *, drops: bool) -> TextIO:
    if stream is None:  # Python found the descriptor closed; by now its number may belong to a socket
        return open_stream(CLOSED, "utf-8", drops=drops)
    return open_stream(stream.fileno(), stream.encoding, drops=drops)


class PrintableRecord(logging.LogRecord):
    """A log record without control characters in message and traceback. Its arguments have no line ends either."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if isinstance(self.args, Mapping):
            self.args = {name: _argument(value) for name, value in self.args.items()}
        elif self.args:
            self.args = tuple(map(_argument, self.args))
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = printable_lines("".join(traceback.format_exception(*self.exc_info)).rstrip("\n"))

    def getMessage(self) -> str:
        return printable_lines(super().getMessage())


def _argument(value: Any) -> Any:
    return printable(str(value)) if isinstance(value, str | BaseException) else value
