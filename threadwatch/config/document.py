"""Parses YAML into values that know their line, from the bytes of an untrusted file.

Settings need only a small part of YAML, and only that part is read: one document of mappings, lists
and scalars. Anchors, aliases and tags are refused, so that every value means just what is written.
Size, depth and number of values are bounded, so that reading takes about a second at worst
(docs/decisions/0005-config-reading.md). The parser is PyYAML's, up to its events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn, Protocol

import yaml

from threadwatch.config.value import NULLS, UNPRINTABLE, Value, one_line, shown
from threadwatch.errors import ConfigError

MAX_BYTES: Final = 1 << 20
MAX_VALUES: Final = 20_000
"""Values of one file: scalars, lists and mappings."""
MAX_DEPTH: Final = 16

_NO_SHARING: Final = "write the value out, or quote it if it is text"
_HINTS: Final = {
    r"'\t'": " (indent with spaces, not tabs)",
    "mapping values are not allowed": " (quote text that has a colon and a blank in it)",
}
"""The usual causes of PyYAML's messages."""
_QUOTED: Final = re.compile(r"'[^']{2,}'")


def read(path: str, flag: str) -> bytes:
    """Return the bytes of a configuration file that ``flag`` names. Raises :class:`ConfigError`."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        reason = f"{why_unread(error)}: give the path of a YAML file, or leave out {flag}"
    except IsADirectoryError:
        reason = "is a directory: give the path of a YAML file"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = why_unread(error)
    raise ConfigError(path, None, "", reason)


def why_unread(error: OSError | ValueError) -> str:
    """Return what to say of a file that cannot be read, without its name."""
    match error:
        case FileNotFoundError():
            return "is not there"
        case PermissionError():
            return (
                "cannot be read: permission denied: let the user that threadwatch runs as read it"
            )
        case _:
            return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def document(
    data: bytes, path: str, *, flag: str = "--config.file", secretive: bool = False
) -> Value:
    """Return the one document in a file's bytes; :class:`ConfigError` for any bytes that are not one.

    ``secretive``: the file holds secrets. A secret may stand in a wrong place, so messages then say
    what is wrong without quoting what was found.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(
            path, None, "", f"is larger than {MAX_BYTES >> 20} MiB: is it the right file?"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 (byte 0x{data[error.start]:02x}): save it as UTF-8"
        raise ConfigError(path, line, "", message) from None
    if bad := UNPRINTABLE.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        message = f"has a control character (U+{ord(bad[0]):04X}): remove it"
        raise ConfigError(path, line, "", message)
    return _Builder(text, path, flag, secretive=secretive).build()


class _Builder:
    """Makes values of PyYAML's events. PyYAML's own composer would recurse as deep as the file is nested."""

    def __init__(self, text: str, path: str, flag: str, *, secretive: bool) -> None:
        self._path = path
        self._flag = flag
        self._secretive = secretive
        self._values = 0
        self._line = 1
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)

    def build(self) -> Value:
        """Return the document, which must be the only one and not empty."""
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            self._empty()
        value = self._value(self._next(), key="", key_line=1, depth=0)
        self._next()  # the document's end
        more = self._next()
        if not isinstance(more, yaml.StreamEndEvent):
            self._fail(more, "", "a second document begins here: put everything into one")
        if value.plain and value.content in NULLS:
            self._empty()
        return value

    def _empty(self) -> NoReturn:
        message = f"is empty: write `{{}}`, or leave out {self._flag} to use the defaults"
        raise ConfigError(self._path, None, "", message)

    def _fail(self, event: yaml.Event, key: str, message: str) -> NoReturn:
        raise ConfigError(self._path, _line(event.start_mark), key, message)

    def _next(self) -> yaml.Event:
        try:
            event = next(self._events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = _line(mark)
            problem = ": ".join(one_line(part) for part in (error.context, error.problem) if part)
            hint = next((hint for part, hint in _HINTS.items() if part in problem), "")
            if self._secretive:
                problem = _QUOTED.sub("…", problem)
            message = f"is not valid YAML: {problem}{hint}"
            raise ConfigError(self._path, line, "", message) from None
        except (yaml.YAMLError, ValueError, OverflowError):
            # PyYAML converts these numbers without checking their size: "\UFFFFFFFF", %YAML 9999…
            message = "is not valid YAML: a number here is out of range"
            raise ConfigError(self._path, self._line, "", message) from None
        self._line = _line(event.end_mark)
        return event

    def _value(self, event: yaml.Event, *, key: str, key_line: int | None, depth: int) -> Value:
        line = _line(event.start_mark)
        self._values += 1
        if self._values > MAX_VALUES:
            self._fail(event, "", f"has more than {MAX_VALUES} values: is it the right file?")
        if depth > MAX_DEPTH:
            self._fail(event, "", f"is nested more than {MAX_DEPTH} levels deep: no key needs that")
        self._refuse_sharing(event, key)
        content: str | tuple[Value, ...] | Mapping[str, Value]
        plain = False
        if isinstance(event, yaml.ScalarEvent):
            content, plain = event.value, event.style is None
        elif isinstance(event, yaml.SequenceStartEvent):
            content = tuple(self._list(key, depth + 1))
        else:
            content = self._mapping(key, depth + 1)
        own_line = line if key_line is None else key_line
        return Value(self._path, key, line, own_line, content, plain, secretive=self._secretive)

    def _refuse_sharing(self, event: yaml.Event, key: str) -> None:
        if isinstance(event, yaml.AliasEvent):
            name = self._name(event.anchor or "")
            self._fail(event, key, f"aliases (*{name}) are not read: {_NO_SHARING}")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            name = self._name(event.anchor)
            self._fail(event, key, f"anchors (&{name}) are not read: {_NO_SHARING}")
        if (
            isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
            and event.tag is not None
        ):
            self._fail(event, key, f"tags ({self._name(event.tag)}) are not read: remove it")

    def _name(self, text: str) -> str:
        return "…" if self._secretive else shown(text)

    def _list(self, key: str, depth: int) -> Iterator[Value]:
        index = 0
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            yield self._value(event, key=f"{key}[{index}]", key_line=None, depth=depth)
            index += 1

    def _mapping(self, key: str, depth: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            self._refuse_sharing(event, key)
            if not isinstance(event, yaml.ScalarEvent):
                self._fail(event, key, "a key should be a word, not a list or a mapping")
            line = _line(event.start_mark)
            inner = f"{key}.{shown(event.value)}" if key else shown(event.value)
            if event.value in values:
                first = values[event.value].key_line
                self._fail(event, inner, f"stands here twice (first on line {first}): remove one")
            values[event.value] = self._value(self._next(), key=inner, key_line=line, depth=depth)
        return values


class _Mark(Protocol):
    @property
    def line(self) -> int: ...


def _line(mark: _Mark | None) -> int:
    """Return a mark's line, counted from 1. A parser's mark is never None, though its type allows that."""
    return 1 if mark is None else mark.line + 1
