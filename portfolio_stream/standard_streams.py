"""Standard output and standard error that never end a process with a traceback, whatever they are connected to.

1. What their encoding lacks is written as an escape (`\\u2020`).
2. What cannot be written to standard output raises OutputClosed (nobody reads the pipe any more) or OutputNotWritten
   (the disk is full, it is closed), once: what comes after it is dropped, so that the process can end in order.
3. A worker's output, and everybody's standard error, raise nothing: what cannot be written is dropped, and the next
   write is tried anew, since the disk may have room by then.
4. Log lines hold no control character but their own line ends: what strangers wrote reaches a terminal as escapes.
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

CLOSED = -1  # as file descriptor: every write to it fails


class OutputClosed(Exception):
    """Who read our standard output is gone, as `head` is after its lines. No error: it unwinds the command."""


class _Descriptor(io.RawIOBase):
    """Writes to a file descriptor by the rules above. It never closes it."""

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
    """`drops`: what cannot be written is dropped in silence, each time anew."""
    raw = _Descriptor(descriptor, drops)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=raw.isatty() or drops)


def install(*, drops_output: bool) -> None:
    """Put such streams into sys.stdout and sys.stderr, unless a test has put others there."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(sys.stdout, drops=drops_output)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, drops=True)
    logging.setLogRecordFactory(PrintableRecord)


def _guarded(stream: TextIO | None, *, drops: bool) -> TextIO:
    if stream is None:  # Python found the descriptor closed; its number may be a socket's by now
        return open_stream(CLOSED, "utf-8", drops=drops)
    return open_stream(stream.fileno(), stream.encoding, drops=drops)


class PrintableRecord(logging.LogRecord):
    """Its arguments stay on their line; nothing in message or traceback moves a cursor."""

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
