"""What is not shown of command lines, titles and URLs: who logs in where, and by which secret.

A person may see the arguments of a host's processes, in ``ps``; they are not for every screen that the
name of an application gets to. So of what is shown, users and passwords in URLs are left out, and the
values of what is called a password or the like. Pure functions, for any text, at a cost in proportion to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

HIDDEN: Final = "…"
"""What stands for a secret."""

# RFC 3986: what is before the last @ of the authority. Many write a password that has a / as it is: then what
# is behind the first colon is no port.
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
    """A text without the users and passwords of the URLs in it: ``https://me:secret@host`` → ``https://host``."""
    return _USER.sub("", text) if "://" in text and "@" in text else text


def without_secrets(cmdline: Sequence[str]) -> tuple[str, ...]:
    """A command line, or a title, without users and passwords in URLs and without the values of secrets.

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
