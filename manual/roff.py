"""man(7) markup: the few macros that our pages use. Every function gives lines."""

from __future__ import annotations

from collections.abc import Iterator


def escape(text: str) -> str:
    """Text as roff shows it unchanged: hyphens that can be copied, no line that starts a macro."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = text.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    return "\n".join("\\&" + line if line.startswith(".") else line for line in text.split("\n"))


def bold(text: str) -> str:
    """Text that stands for itself, to be typed as it is."""
    return f"\\fB{escape(text)}\\fR"


def italic(text: str) -> str:
    """Text that stands for another, or is stressed."""
    return f"\\fI{escape(text)}\\fR"


def title(name: str, section: int, version: str) -> Iterator[str]:
    """Yield the head of a page. It has no date: the version says how old it is."""
    yield f'.TH {name.upper()} {section} "" "threadwatch {version}" "threadwatch"'
    yield from (".nh", ".ad l")


def section(text: str) -> str:
    """Return a heading."""
    return f'.SH "{escape(text).upper()}"'


def subsection(text: str) -> str:
    """Return a heading below a heading."""
    return f'.SS "{escape(text)}"'


def tagged(tag: str, body: str) -> Iterator[str]:
    """Yield a paragraph with a tag before it; both are markup already."""
    yield ".TP"
    yield tag
    yield body or "\\&"


def verbatim(text: str) -> Iterator[str]:
    """Yield lines that are shown as they are."""
    yield from (".PP", ".RS 4", ".nf", ".ft CR")
    for line in text.rstrip("\n").split("\n"):
        yield escape(line) or "\\&"
    yield from (".ft R", ".fi", ".RE")
