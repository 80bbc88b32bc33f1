"""Tells which function of the application runs in a task: what tells requests apart.

In servers, each request is a task of the same coroutine. Under it, frames of the framework come first, then
those of the application, whose outermost one is what the framework has called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from threadwatch.errors import ReadError
from threadwatch.names.memory.snapshot import word
from threadwatch.tasks.frames import Frame
from threadwatch.tasks.objects import Code, Objects, Readable

_OF_CLASSES = "__init__"
"""What the code of the interpreter's own that calls the ``__init__`` of a class has instead of a file, from
3.13 on (CPython, Python/specialize.c, _Py_InitCleanup)."""
_INSTALLED = ("/site-packages/", "/dist-packages/")
_FIRST_IN_COROUTINE = 11
"""From this minor version on, the frame of a coroutine lies in the coroutine."""
_COROUTINE_SIZE = 128
"""Bytes of a coroutine in front of its frame: fewer."""
_FRAME = 16
"""In older versions, the place of its address in a coroutine."""
_PACKAGE = frozenset({"__init__", "__main__"})


def is_application(file: str, library: str) -> bool:
    """Return whether code of a file is the application's: no installed package's, and not Python's own.

    ``library``: the directory of Python's own library, with a slash at the end.
    """
    if file == _OF_CLASSES or file.startswith(("<", library)):
        return False
    return not any(part in file for part in _INSTALLED)


def describe(code: Code) -> str:
    """Return the name of a function with that of its module: ``views.Orders.get``."""
    directory, _, name = code.file.rpartition("/")
    module = name.removesuffix(".py")
    if module in _PACKAGE:
        module = directory.rpartition("/")[2] or module
    return f"{module}.{code.name}"


def of_coroutine(
    memory: Readable, minor: int, frames: Sequence[Frame], coroutine: int
) -> Sequence[Frame] | None:
    """Return the frames up to that of a coroutine, the innermost first; None: it is not there.

    It is not where the coroutine runs in a greenlet, or has ceased to run while the thread was walked. A task
    that begins eagerly runs below the frames of the one that has made it. ``minor``: the version of Python.
    Raises Gone or ReadError.
    """
    first, size = coroutine + 1, _COROUTINE_SIZE - 1
    if minor < _FIRST_IN_COROUTINE:
        first, size = word(memory.read(coroutine + _FRAME, 8), 0), 1
    for number, frame in enumerate(frames):
        if first <= frame.address < first + size:
            return frames[: number + 1]
    return None


class Functions:
    """The application's functions in one process."""

    def __init__(self, objects: Objects, library: str) -> None:
        self._objects = objects
        self._library = library

    def outermost(self, memory: Readable, frames: Iterable[Frame]) -> str | None:
        """Return the outermost of the application's functions in frames that begin with the outermost.

        None: there is none. Raises Gone.
        """
        for frame in frames:
            try:
                code = self._objects.code(memory, frame.code)
            except ReadError:
                continue  # a frame of the interpreter's own, which has no code
            if is_application(code.file, self._library):
                return describe(code)
        return None
