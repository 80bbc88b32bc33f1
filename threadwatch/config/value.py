"""Holds a value of a configuration file with its line, and reads it as each key wants it.

The key decides what a plain scalar means, and not YAML, whose versions disagree about ``on``,
``010`` and ``1_0``. This module does not know the keys themselves.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, NoReturn, TypeVar

from threadwatch.errors import ConfigError

MAX_TEXT: Final = 1000
"""Characters of one text, a pattern for example."""

UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
"""All characters but YAML's c-printable (https://yaml.org/spec/1.1/#c-printable); also U+0085,
U+2028 and U+2029, which YAML 1.1 counts as ends of lines and editors do not."""
NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS: Final = {
    spelling: truth
    for word, truth in {
        "true": True, "yes": True, "on": True, "false": False, "no": False, "off": False,
    }.items()
    for spelling in (word, word.capitalize(), word.upper())
}  # fmt: skip
_NUMBER = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[oObB][0-7_]+"
    r"|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?)"
)
_WHOLE = re.compile(r"0|[1-9][0-9]{0,17}")
_UNITS: Final = {
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}){unit})?" for unit in _UNITS))

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Value:
    """A value in a file, with its place.

    Its methods read it as a key wants it. They raise :class:`ConfigError`, which names file, line
    and key, and says what would be right.
    """

    path: str
    """The file, as the user named it."""
    key: str
    """The value's place in the document: ``groups[0].match.exe``; empty for the whole."""
    line: int
    """The line that the value begins on, from 1."""
    key_line: int
    """The line of its key; the line of the value if it has no key."""
    content: str | tuple[Value, ...] | Mapping[str, Value]
    plain: bool = False
    """A scalar without quotes."""
    secretive: bool = False
    """The value may be a secret: no message quotes it, except a wrong word in a list of words."""

    def fail(self, message: str) -> NoReturn:
        """Raise :class:`ConfigError` about this value."""
        raise ConfigError(self.path, self.line, self.key, message)

    def wrong(self, wanted: str, hint: str = "", *, show: bool = False) -> NoReturn:
        """Raise :class:`ConfigError`: it should be ``wanted``. ``show``: the value cannot be a secret."""
        if self.plain and self.content in NULLS:
            self.fail(f"should be {wanted}, but is empty")
        if self.secretive and not show and isinstance(self.content, str):
            self.fail(
                f"should be {wanted}" if self.content else f"should be {wanted}, but is empty"
            )
        self.fail(f"should be {wanted}, not {self._found()}{hint}")

    def _found(self) -> str:
        match self.content:
            case str() as text if self.plain and _NUMBER.fullmatch(text):
                return f"the number {shown(text)}"
            case str() as text if self.plain:
                return shown(text)
            case str() as text:
                return f"the text {shown(text)}"
            case tuple():
                return "a list"
            case _:
                return "a mapping"

    def mapping(self, known: Collection[str]) -> Mapping[str, Value]:
        """Return the values by their keys, which must be among the ``known`` ones."""
        if not isinstance(self.content, Mapping):
            self.wrong(f"a mapping of {listed(known)}")
        for key, value in self.content.items():
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"here can be {listed(known)}"
                raise ConfigError(value.path, value.key_line, value.key, f"unknown key: {hint}")
        return self.content

    def items(self) -> tuple[Value, ...]:
        """Return the values of a list."""
        if not isinstance(self.content, tuple):
            self.wrong("a list, each item on a line that begins with '- '")
        return self.content

    def entries(self, wanted: str) -> Mapping[str, Value]:
        """Return the values of a mapping by its keys, whatever they are."""
        if not isinstance(self.content, Mapping):
            self.wrong(wanted)
        return self.content

    def text(self, wanted: str = "text", most: int = MAX_TEXT) -> str:
        """Return a text that is not empty. A text that YAML might read as another type must be quoted."""
        if not isinstance(self.content, str):
            self.wrong(wanted, ": quote what begins with { or [")
        text = self.content
        if not text:
            self.wrong(wanted)
        if self.plain and (text in NULLS or text in _BOOLEANS or _NUMBER.fullmatch(text)):
            self.wrong(wanted, f": put it in quotes, '{shown(text)}'")
        if len(text) > most:
            self.fail(f"should be at most {most} characters long, not {len(text)}")
        # Double quotes can spell characters that the file itself may not contain: "\0", "\ud800".
        if bad := UNPRINTABLE.search(text):
            self.fail(f"should be without the control character U+{ord(bad[0]):04X}")
        return text

    def boolean(self) -> bool:
        """Return true or false, in any of YAML's spellings."""
        if not (self.plain and isinstance(self.content, str) and self.content in _BOOLEANS):
            self.wrong("true or false", show=True)
        return _BOOLEANS[self.content]

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``."""
        wanted = f"a whole number from {low} to {high}"
        if not (self.plain and isinstance(self.content, str) and _WHOLE.fullmatch(self.content)):
            self.wrong(wanted)
        if not low <= (number := int(self.content)) <= high:
            self.wrong(wanted)
        return number

    def choice(self, words: Mapping[str, _T]) -> _T:
        """Return the value of one of these words."""
        if not isinstance(self.content, str):
            self.wrong(listed(words, "or"))
        if self.content not in words:
            close = get_close_matches(self.content, words, n=1)
            hint = f": did you mean {close[0]}?" if close else ""
            self.wrong(listed(words, "or"), hint, show=True)
        return words[self.content]

    def duration_ns(self, low: int, high: int) -> int:
        """Return a duration in ns, written as in Prometheus: whole numbers with their units, ``1m30s``."""
        wanted = "a duration such as 500ms, 1s or 1m30s"
        if not isinstance(self.content, str) or not self.content:
            self.wrong(wanted)
        if _NUMBER.fullmatch(self.content):
            number = shown(self.content)
            self.wrong("a duration", f": add a unit, {number}s or {number}ms for example")
        match = _DURATION.fullmatch(self.content)
        if match is None:
            self.wrong(wanted)
        duration = sum(int(match[unit] or 0) * ns for unit, ns in _UNITS.items())
        if not low <= duration <= high:
            self.wrong(f"from {format_duration(low)} to {format_duration(high)}")
        return duration

    def pattern(self) -> re.Pattern[str]:
        """Return a regular expression of Python's :mod:`re`."""
        text = self.text("a regular expression")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # warnings like "possible nested set" become errors
                pattern = re.compile(text)
        except re.error as error:
            place = "" if error.pos is None else f" at position {error.pos} of {shown(text)}"
            self.fail(f"should be a regular expression: {one_line(error.msg)}{place}")
        except Warning as warning:
            self.fail(f"should be a clear regular expression: {one_line(str(warning))}")
        except (RecursionError, OverflowError, ValueError):
            # Groups nested too deeply, or a repetition count beyond re's limit.
            self.fail("should be a regular expression that can be compiled: make it simpler")
        if text.endswith("\n") and not pattern.flags & re.VERBOSE:
            self.fail("should not end with a line break: write |- instead of |")
        return pattern


def format_duration(ns: int) -> str:
    """Return a duration as the configuration writes it, ``1m30s``; fractions of 1 ms are left out."""
    parts = []
    for unit, size in _UNITS.items():
        count, ns = divmod(ns, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def listed(words: Collection[str], joint: str = "and") -> str:
    """Return words as part of a sentence: ``a, b and c``."""
    *most, last = words
    return f"{', '.join(most)} {joint} {last}" if most else last


def shown(text: str) -> str:
    """Return text from a file for a message: on one line, printable, cut if it is long."""
    cut = text if len(text) <= 60 else text[:57] + "..."
    return cut if cut and cut.isprintable() and cut == cut.strip() else repr(cut)


def one_line(text: str) -> str:
    """Return another program's message on one line, printable."""
    line = " ".join(text.split())
    return line if line.isprintable() else repr(line)
