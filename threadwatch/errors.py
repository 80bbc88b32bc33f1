"""Defines the errors of the project. Each says what went wrong, where, and what would be right.

Reads of the kernel raise two kinds. :class:`Gone` is normal: processes and threads end at any
moment, and the caller goes on with the next one. A :class:`ReadError` is counted: it names the
source that could not be read and the reason, which become the labels of
``threadwatch_read_errors_total``.
"""


class ThreadwatchError(Exception):
    """The base of every error that the project raises on purpose."""


class Gone(ThreadwatchError):
    """The process or thread has ended (ENOENT or ESRCH from the kernel). Never counted."""


class ReadError(ThreadwatchError):
    """A file or table that should be readable was not.

    ``source`` is the file or table by its short name (``stat``, ``schedstat``, ``fd``, ``table``),
    ``reason`` a short word: ``denied``, ``malformed`` or the errno's name in lower case (``emfile``).
    """

    def __init__(self, source: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{source}: {reason}" + (f": {detail}" if detail else ""))
        self.source = source
        self.reason = reason
        self.detail = detail
        self.pid: int | None = None
        """The process that was read; None: none in particular, or the detail names it.

        Written by :mod:`threadwatch.poll.poller`.
        """

    def to_keep(self) -> "ReadError":
        """Return it without the calls that have led to it, which would keep open what they had open."""
        self.__context__ = self.__cause__ = self.__traceback__ = None
        return self


class Denied(ReadError):
    """The kernel refused permission (EACCES or EPERM)."""

    def __init__(self, source: str, detail: str = "") -> None:
        super().__init__(source, "denied", detail)


class Malformed(ReadError):
    """The bytes do not follow the source's format. The only error that parsers raise."""

    def __init__(self, source: str, detail: str = "") -> None:
        super().__init__(source, "malformed", detail)


class Unsupported(ReadError):
    """It is of a kind or version that we do not know, and is not guessed at. ``detail`` says which."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(source, "unsupported", detail)


class ConfigError(ThreadwatchError):
    """The configuration cannot be used: one line that says where, which key, and what would be right."""

    def __init__(self, path: str, line: "int | None", key: str, message: str) -> None:
        place = path if line is None else f"{path}:{line}"
        super().__init__(f"{place}: {key}: {message}" if key else f"{place}: {message}")
        self.path = path
        self.line = line
        self.key = key
        self.message = message


class Unusable(ThreadwatchError):
    """This machine or invocation lacks something needed (no procfs, port taken): one clear line."""
