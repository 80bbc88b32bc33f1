"""Removes users, passwords and other secrets from command lines, titles and URLs.

A user of the host may see the arguments of its processes, in ``ps``; but the name of an application
also gets to other screens. So users and passwords in URLs are left out, and the values of arguments
called a password or the like. Pure functions, for any text, at a cost in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

HIDDEN: Final = "…"
"""The text in the place of a secret."""

# RFC 3986: users and passwords stand before the last @ of the authority. Many users do not escape a
# / in a password: then the text behind the first colon is not a port.
_USER = re.compile(
    r"(?<=://)(?:[^\s/?#]{0,400}@|[^\s:/?#]{0,200}:(?![0-9]{1,5}(?:[/?#\s]|$))\S{0,200}@)"
)
_CALLED: Final = (
    r"(?:password|passwd|passphrase|pwd|secret|token|credentials?|(?:api|access|private)[-_]?key)"
)
_ASSIGNED = re.compile(rf"(?i)({_CALLED}['\"]?[=:])(?!//)[^\s&;]+")
_OPTION = re.compile(rf"(?i)--?[\w-]{{0,40}}{_CALLED}")
_JOINED = re.compile(rf"(?i)((?:^|\s)--?[\w-]{{0,40}}{_CALLED}\s+)(?!-)\S+")


def without_credentials(text: str) -> str:
    """Return a text without users and passwords in URLs: ``https://me:secret@host`` → ``https://host``."""
    return _USER.sub("", text) if "://" in text and "@" in text else text


def without_secrets(cmdline: Sequence[str]) -> tuple[str, ...]:
    """Return a command line or title without users and passwords in URLs and without the values of secrets.

    ``--db=https://me:secret@host --token=x --password y key`` →
    ``--db=https://host --token=… --password … key``.
    """
    shown: list[str] = []
    secret = False
    for argument in cmdline:
        if secret and not argument.startswith("-"):
            shown.append(HIDDEN)
            secret = False
            continue
        secret = argument.startswith("-") and _OPTION.fullmatch(argument) is not None
        text = without_credentials(argument)
        if "=" in text or ":" in text:
            text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
        if " " in text and "-" in text:
            text = _JOINED.sub(rf"\1{HIDDEN}", text)  # a command line that has become a title
        shown.append(text)
    return tuple(shown)
