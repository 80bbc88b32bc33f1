"""What the commands print, and what happens when it cannot be written.

One place for all commands, usage texts included. Rules, as other programs of Unix have them:

- The reader has left (``threadwatch ps | head``): the command ends by SIGPIPE, without a word.
- The output cannot be written, because the disk is full or it was closed before the command began (``>&-``):
  one line on standard error, and exit code 1.
- Standard error that cannot be written changes nothing: there is no other place to say so.

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
    """A standard stream whose errors can be told from those of other files."""

    def write(self, data: Any) -> int:
        """Write all or some of it.

        :raises OutputError: it cannot be written. Not an OSError: argparse takes no notice of those.
        """
        try:
            return super().write(data)
        except OSError as error:
            raise OutputError(error) from None


class _Messages(io.FileIO):
    """A standard stream whose errors are nobody's concern."""

    def write(self, data: Any) -> int:
        """Write it, or do not."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def guard() -> None:
    """Replace the standard streams by ones that keep the rules above.

    What a test or another program has put in their place stays. Characters that the encoding does not have
    are escaped: a terminal without emoji must not keep anybody from seeing the threads.
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
    """Put something where no descriptor is that cannot be written, and is not handed on to other programs.

    A file that is opened later would else lie where messages go.
    """
    descriptor = os.open(os.devnull, os.O_RDONLY)
    if descriptor != number:
        os.dup2(descriptor, number, inheritable=False)
        os.close(descriptor)


def give_up(error: OutputError) -> int:
    """Say that nothing more can be written; the exit code, unless it ends the process by SIGPIPE."""
    # what is left in the buffer goes nowhere when Python ends
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.reader_left:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    print(f"threadwatch: {error}", file=sys.stderr)
    return 1
