"""Finds thread names that differ only in numbers and hexadecimal strings, and the rule that folds them.

Such names are chosen by code and not by a person: one for each connection, request or session. A
number is a run of decimal digits. A hexadecimal string has at least four characters and a digit, and
stands by itself, between characters that are no letters or digits; ``0x`` may stand before it. A UUID
is one string. Why: docs/decisions/0039-names-that-differ-only-in-a-number.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

MANY: Final = 10
"""From this number of names on, names that are alike are worth a rule."""

_LITERALS = tuple[str, ...]
"""What the names of a family have in common: the text around each of its varying parts."""

_ALONE: Final = r"(?<![0-9a-z]){}(?![0-9a-z])"
_VARYING = re.compile(
    "|".join(
        (
            _ALONE.format(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"),  # a UUID
            _ALONE.format(r"0x[0-9a-f]+"),
            _ALONE.format(r"(?=[a-f]*[0-9])[0-9a-f]{4,}"),
            r"[0-9]+",
        )
    ),
    re.ASCII | re.IGNORECASE,
)
_SPECIAL = re.compile(r"[\\.^$*+?{}\[\]|()]")
_LONGEST_MATCH: Final = 1000
_LONGEST_NAME: Final = 100
"""Characters that the configuration takes, of an expression and of a template."""


class Alike:
    """Counts the names that are alike, while names come and go. Only this class writes its fields."""

    __slots__ = ("_families", "_uses", "foldable")

    def __init__(self) -> None:
        self._uses: dict[str, int] = {}
        self._families: Counter[_LITERALS] = Counter()
        self.foldable = 0
        """How many of the names belong to families of :data:`MANY` or more."""

    def add(self, name: str) -> None:
        """Take a name into account, once more if it is there."""
        uses = self._uses[name] = self._uses.get(name, 0) + 1
        if uses == 1 and (family := _family(name)):
            size = self._families[family] = self._families[family] + 1
            if size >= MANY:
                self.foldable += MANY if size == MANY else 1

    def remove(self, name: str) -> None:
        """Take back one :meth:`add` of a name."""
        uses = self._uses[name] = self._uses[name] - 1
        if uses:
            return
        del self._uses[name]
        if family := _family(name):
            size = self._families[family] = self._families[family] - 1
            if size >= MANY - 1:
                self.foldable -= MANY if size == MANY - 1 else 1
            if not size:
                del self._families[family]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A rule that folds names which are alike."""

    names: int
    """How many series names it would make one of."""
    examples: tuple[str, ...]
    """Some names of threads that it folds."""
    match: str
    """The regular expression, for the key ``match`` of a rule."""
    name: str
    """The template, for the key ``name``."""

    def lines(self) -> tuple[str, ...]:
        """Return the rule as lines of the configuration."""
        return (
            "threads:",
            "  rules:",
            f"    - match: {_quoted(self.match)}",
            f"      name: {_quoted(self.name)}",
        )


def proposals(labels: Mapping[str, str]) -> tuple[Proposal, ...]:
    """Return the rules that would fold names which are alike, the one that folds most first.

    ``labels``: by the name of each thread, the name of its series. Names that the present rules fold
    share one, and are not many.
    """
    families: dict[_LITERALS, list[str]] = {}
    for name in labels:
        if family := _family(name):
            families.setdefault(family, []).append(name)
    found = []
    for literals, names in families.items():
        series = len({labels[name] for name in names})
        if series >= MANY:
            proposal = _proposal(literals, sorted(names), series)
            if len(proposal.match) <= _LONGEST_MATCH:
                found.append(proposal)
    return tuple(sorted(found, key=lambda one: (-one.names, one.match)))


def _family(name: str) -> _LITERALS:
    """Return what the name has in common with those that are alike; nothing if it has no varying part."""
    literals = _VARYING.split(name)
    return tuple(literals) if len(literals) > 1 else ()


def _proposal(literals: _LITERALS, names: list[str], series: int) -> Proposal:
    match, shown = [_pattern(literals[0])], [literals[0]]
    columns = zip(*map(_VARYING.findall, names), strict=True)
    for parts, literal in zip(columns, literals[1:], strict=True):
        different = set(parts)
        if len(different) == 1:
            match.append(_pattern(parts[0]))
            shown.append(parts[0])
        else:
            match.append(_class(different))
            shown.append("N")
        match.append(_pattern(literal))
        shown.append(literal)
    return Proposal(series, tuple(names[:2]), "".join(match), _template("".join(shown)))


def _template(name: str) -> str:
    """Return the template of a name, without its end if it is too long."""
    printable = "".join(c if c.isprintable() else "?" for c in name).lstrip()
    braces = printable[:_LONGEST_NAME].count("{") + printable[:_LONGEST_NAME].count("}")
    short = printable[: _LONGEST_NAME - braces].rstrip()
    return short.replace("{", "{{").replace("}", "}}")


def _pattern(literal: str) -> str:
    """Return an expression for a literal. A character that cannot be printed is no letter or digit."""
    return "".join(
        r"\W" if not c.isprintable() else f"\\{c}" if _SPECIAL.match(c) else c for c in literal
    )


def _class(parts: Collection[str]) -> str:
    """Return an expression for parts that differ."""
    together = "".join(parts)
    if together.isdecimal():
        return "[0-9]+"
    digits = "0-9"
    digits += "A-F" * (re.search("[A-F]", together) is not None)
    digits += "a-f" * (re.search("[a-f]", together) is not None)
    if all(part.startswith("0x") for part in parts):
        return f"0x[{digits}]+"
    digits += "".join(mark for mark in "Xx-" if mark in together)
    return f"[{digits}]{{{min(map(len, parts))},}}"


def _quoted(text: str) -> str:
    """Return text in single quotes of YAML."""
    return "'" + text.replace("'", "''") + "'"
