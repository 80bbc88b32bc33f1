"""Prints for all commands, and decides what happens when the output cannot be written.

All commands print through this module, usage texts included. The rules are those of other Unix
programs:

- The reader has left (``threadwatch ps | head``): the command ends by SIGPIPE and prints nothing more.
- The output cannot be written, because the disk is full or it was closed before the command began
  (``>&-``): the command prints one line on standard error and returns exit code 1.
- Standard error cannot be written: the command goes on, because there is no other place for
  messages.

Runs on Python 3.9 and later, because ``run`` has to.
"""

import io
import os
import signal
import sys
from typing import Any, TextIO

from threadwatch.errors import ThreadwatchError


class OutputError(ThreadwatchError):
    """Standard output cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {os.strerror(error.errno or 0)}")
        self.reader_left = isinstance(error, BrokenPipeError)


class _Output(io.FileIO):
    """A standard stream whose errors are distinguished from those of other files."""

    def write(self, data: Any) -> int:
        """Write all or some of ``data``.

        :raises OutputError: it cannot be written. Not an OSError: argparse takes no notice of those.
        """
        try:
            return super().write(data)
        except OSError as error:
            raise OutputError(error) from None


class _Messages(io.FileIO):
    """A standard stream whose errors are ignored."""

    def write(self, data: Any) -> int:
        """Write ``data`` if that is possible."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def guard() -> None:
    """Replace the standard streams by ones that keep the rules above.

    A stream that a test or another program has installed stays. Characters that the encoding lacks
    are escaped, so that a thread whose name has an emoji is shown in every terminal.
    """
    sys.stdout = _guarded(sys.stdout, sys.__stdout__, _Output, 1)
    sys.stderr = _guarded(sys.stderr, sys.__stderr__, _Messages, 2)


def _guarded(
    stream: "TextIO | None", own: "TextIO | None", kind: "type[io.FileIO]", number: int
) -> TextIO:
    if stream is None:
        _occupy(number)
    elif stream is not own:
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(kind(number, "w", closefd=False)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=getattr(stream, "line_buffering", True),
        write_through=getattr(stream, "write_through", False),
    )


def _occupy(number: int) -> None:
    """Occupy a closed descriptor with one that cannot be written and that other programs do not inherit.

    Otherwise a file that is opened later would get this number, and messages would be written into
    it.
    """
    descriptor = os.open(os.devnull, os.O_RDONLY)
    if descriptor != number:
        os.dup2(descriptor, number, inheritable=False)
        os.close(descriptor)


def give_up(error: OutputError) -> int:
    """Report that the output cannot be written; return the exit code, unless SIGPIPE ends the process."""
    # What is left in the buffer is dropped when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.reader_left:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    print(f"threadwatch: {error}", file=sys.stderr)
    return 1
