"""Splits a command line into words, also where a title has replaced the command line.

A program can write any text over its arguments (setproctitle). Most write one of two kinds: a text
of their own (``shop: worker 3``), or the old command line, joined by blanks, with a text behind it
(``/usr/bin/python3 /usr/bin/salt-minion MinionProcessManager``). The second is still a command;
even a program that only reads its title (``getproctitle()``) leaves such a text in the place of its
arguments.

Pure functions. Their input comes from targets and may be anything; their cost is bounded by
:data:`MAX_ARGUMENTS`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_ARGUMENTS: Final = 256
MAX_ARGUMENT: Final = 4096
"""Characters that are examined of one argument, and arguments that are examined of one command line."""

# python3.13t: free-threaded; platform-python: Red Hat's
_PYTHON = re.compile(r"(?:platform-)?(?:python|pypy)[0-9.]*[a-z]{0,2}(?:-dbg)?")
_SCRIPT = re.compile(r".+\.py[cwz]?")

# ld.so(8): ld-linux-x86-64.so.2, ld-musl-aarch64.so.1, ld-2.31.so, ld.so, ld64.so.2
_LOADER = re.compile(r"ld(?:64)?(?:-[\w.-]+?)?\.so(?:\.[0-9]+)?")
_LOADER_VALUED: Final = frozenset(
    f"--{name}" for name in (
        "argv0", "audit", "glibc-hwcaps-mask", "glibc-hwcaps-prepend", "inhibit-rpath", "library-path",
        "preload",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Called:
    """The content of a process's command line."""

    words: tuple[str, ...]
    """The program and its arguments, or the words of a title; empty if there are none."""
    title: bool
    """Whether the text is the program's own, so that its first word need not be a program."""
    joined: bool
    """Whether the text was one argument, so that its words are what stands between blanks."""


def called(cmdline: Sequence[str]) -> Called:
    """Return the words of a command line; behind the dynamic loader, those of the program that it starts."""
    arguments = [argument[:MAX_ARGUMENT] for argument in cmdline[:MAX_ARGUMENTS]]
    text = arguments[0] if len(arguments) == 1 else ""
    path = text.startswith(("/", "."))
    words = text.split()[:MAX_ARGUMENTS]
    if len(words) < 2 and (path or ":" not in text):
        return Called(tuple(_without_loader(arguments)), title=False, joined=False)
    if path:
        words = _interpreter_first(words)
    words = _without_loader(words)
    command = path or is_interpreter(words[0]) or _SCRIPT.fullmatch(words[0]) is not None
    return Called(tuple(words), title=not command, joined=True)


def is_interpreter(path: str) -> bool:
    """Return whether a program's name is that of a Python interpreter."""
    return _PYTHON.fullmatch(basename(path)) is not None


def is_loader(path: str) -> bool:
    """Return whether a program is the dynamic loader, which starts the program that its arguments name."""
    return _LOADER.fullmatch(basename(path)) is not None


def basename(path: str) -> str:
    """Return the last part of a path, as the kernel gives it for ``exe`` too."""
    # The kernel puts " (deleted)" behind a program that has been replaced since, for example by an
    # upgrade.
    return path.removesuffix(" (deleted)").rstrip("/").rpartition("/")[2]


def _interpreter_first(words: list[str]) -> list[str]:
    """Return the words, with an interpreter's path in one piece even if a directory's name has blanks."""
    for end, word in enumerate(words, start=1):
        if end > 1 and word.startswith(("/", ".", "-")):
            break  # another argument begins
        if "/" in word and is_interpreter(word):
            return [" ".join(words[:end]), *words[end:]]
    return words


def _without_loader(words: list[str]) -> list[str]:
    if not words or not is_loader(words[0]):
        return words
    index = 1
    while index < len(words) and words[index].startswith("--"):
        index += 2 if words[index] in _LOADER_VALUED else 1
    return words[index:] or words
