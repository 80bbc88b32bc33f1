"""Turns the Markdown that the runbooks use into HTML: headings, paragraphs, code, links, emphasis. Pure.

Every character of the text is escaped before it becomes part of the page, so that no text becomes markup.
What is not of this subset is shown as it is written.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Final

_HEADING = re.compile(r"(#{1,4}) (.+)")
_FENCE: Final = "```"
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\[(?P<text>[^\]\[]+)\]\((?P<to>[^()\s]+)\)"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    r"|\*(?P<emphasis>[^*\s][^*]*)\*"
)


def to_html(text: str, link: Callable[[str], str | None]) -> str:
    """Return the HTML of a text.

    ``link``: the address that a link leads to; None: the link is shown as its text alone.
    """
    return "\n".join(_blocks(text.splitlines(), link))


def _blocks(lines: list[str], link: Callable[[str], str | None]) -> Iterator[str]:
    paragraph: list[str] = []
    rest = iter(lines)
    for line in rest:
        heading = _HEADING.fullmatch(line)
        if line.strip() and not heading and not line.startswith(_FENCE):
            paragraph.append(line)
            continue
        yield from _paragraph(paragraph, link)
        paragraph = []
        if heading:
            level = len(heading[1])
            yield f"<h{level}>{_inline(heading[2], link)}</h{level}>"
        elif line.startswith(_FENCE):
            code = []
            for inside in rest:
                if inside.startswith(_FENCE):
                    break
                code.append(inside)
            yield f"<pre><code>{html.escape(chr(10).join(code))}</code></pre>"
    yield from _paragraph(paragraph, link)


def _paragraph(lines: list[str], link: Callable[[str], str | None]) -> Iterator[str]:
    if lines:
        yield f"<p>{_inline(' '.join(lines), link)}</p>"


def _inline(text: str, link: Callable[[str], str | None]) -> str:
    parts, end = [], 0
    for match in _INLINE.finditer(text):
        parts.append(html.escape(text[end : match.start()]))
        parts.append(_marked(match, link))
        end = match.end()
    parts.append(html.escape(text[end:]))
    return "".join(parts)


def _marked(match: re.Match[str], link: Callable[[str], str | None]) -> str:
    if code := match["code"]:
        return f"<code>{html.escape(code)}</code>"
    if to := match["to"]:
        inside = _inline(match["text"], lambda _: None)
        address = link(to)
        return inside if address is None else f'<a href="{html.escape(address)}">{inside}</a>'
    tag = "strong" if match["strong"] else "em"
    return f"<{tag}>{_inline(match['strong'] or match['emphasis'], link)}</{tag}>"
