"""Markdown to man(7): headings, paragraphs, lists, code, links to elsewhere, and tables.

A table becomes tagged paragraphs, one for each row: 80 columns have no room for a table of prose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from manual import roff


def to_man(text: str) -> Iterator[str]:
    """Yield the lines of a page's body. The first heading, the document's own title, is left out.

    :raises ValueError: the text has an element that is unknown here.
    """
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    position = 0
    headed = True  # by the page itself: a paragraph needs no mark behind a heading
    while position < len(tokens):
        token = tokens[position]
        end = _end(tokens, position)
        inside = tokens[position + 1 : end]
        if token.type == "heading_open":
            if token.tag != "h1":
                heading = roff.section if token.tag == "h2" else roff.subsection
                yield heading(_plain(inside[0]))
        elif token.type == "paragraph_open":
            if not headed:
                yield ".PP"
            yield _inline(inside[0])
        elif token.type == "fence":
            yield from roff.verbatim(token.content)
        elif token.type == "table_open":
            yield from _table(inside)
        elif token.type == "bullet_list_open":
            yield from _list(inside)
        else:
            message = f"no way to show {token.type} in a manual page"
            raise ValueError(message)
        headed = token.type == "heading_open"
        position = end + 1


def _end(tokens: Sequence[Token], position: int) -> int:
    """Return where the element ends that begins at ``position``."""
    level = 0
    for index in range(position, len(tokens)):
        level += tokens[index].nesting
        if level == 0:
            return index
    message = "an element that does not end"
    raise ValueError(message)


def _table(tokens: Sequence[Token]) -> Iterator[str]:
    rows: list[list[Token]] = []
    for token, following in pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(following)
    heads, *body = rows
    names = [_plain(head) for head in heads]
    for tag, *cells in body:
        said = [
            f"{name}: {_inline(cell)}" if name else _inline(cell)
            for name, cell in zip(names[1:], cells, strict=True)
            if cell.content
        ]
        yield from roff.tagged(_inline(tag), "\n.br\n".join(said))


def _list(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "inline":
            yield '.IP "\\(bu" 2'
            yield _inline(token)


def _inline(token: Token) -> str:
    out = []
    font = "R"
    for child in token.children or ():
        match child.type:
            case "text":
                out.append(roff.escape(child.content))
            case "code_inline":
                out.append(roff.bold(child.content).removesuffix("R") + font)
            case "softbreak" | "hardbreak":
                out.append("\n")
            case "strong_open" | "em_open":
                font = "B" if child.type == "strong_open" else "I"
                out.append(f"\\f{font}")
            case "strong_close" | "em_close":
                font = "R"
                out.append("\\fR")
            case "link_open" | "link_close":
                pass  # its text says enough
            case other:
                message = f"no way to show {other} in a manual page"
                raise ValueError(message)
    text = "".join(out)
    return "\n".join("\\&" + line if line.startswith(".") else line for line in text.split("\n"))


def _plain(token: Token) -> str:
    return "".join(child.content for child in token.children or ())
