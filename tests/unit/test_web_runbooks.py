"""The runbooks as the daemon serves them: Markdown in, safe HTML out."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import views
from threadwatch.metrics.exporter import Exporter
from threadwatch.shipped import runbooks as texts
from threadwatch.web import runbooks
from threadwatch.web.app import App
from threadwatch.web.health import Health
from threadwatch.web.markdown import to_html
from threadwatch.web.messages import Request

TAGS = {"h1", "h2", "h3", "h4", "p", "pre", "code", "a", "em", "strong"}


class _Page(HTMLParser):
    """What a browser makes of a page: its tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag; none but a link has an attribute."""
        self.tags.append(tag)
        assert {name for name, _ in attrs} <= ({"href"} if tag == "a" else set())
        self.links += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.text += data


def _get(path: str) -> tuple[int, str]:
    response = views.answered(App(Exporter(), Health()), Request("GET", path))
    return response.status, response.body.decode()


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("# A\n\none\ntwo\n\n## B", "<h1>A</h1>\n<p>one two</p>\n<h2>B</h2>"),
        ("a `<b>` c", "<p>a <code>&lt;b&gt;</code> c</p>"),
        (
            "```console\n$ a < b\n\n# c\n```\nrest",
            "<pre><code>$ a &lt; b\n\n# c</code></pre>\n<p>rest</p>",
        ),
        ("*a* **b** [c](d.md)", '<p><em>a</em> <strong>b</strong> <a href="./d">c</a></p>'),
        ("[`c`](other.md) 2 * 3 * 4", "<p><code>c</code> 2 * 3 * 4</p>"),
        ("<script>x</script> [a](javascript:b)", "<p>&lt;script&gt;x&lt;/script&gt; a</p>"),
        ("```\nopen", "<pre><code>open</code></pre>"),
    ],
)
def test_markdown_becomes_html(text: str, page: str) -> None:
    """Headings, paragraphs, code, emphasis, and links that are known; all else is text."""
    assert to_html(text, {"d.md": "./d"}.get) == page


@given(st.text("ab`*[]()#<>&\"'\n .md") | st.text())
def test_no_text_becomes_markup(text: str) -> None:
    """Whatever is written, the page has our tags alone, and leads nowhere but where it may."""
    page = _Page(to_html(text, lambda to: "./x" if to == "b.md" else None))
    assert set(page.tags) <= TAGS
    assert set(page.links) <= {"./x"}


@pytest.mark.parametrize("name", sorted(texts()))
def test_each_page_is_served_whole(name: str) -> None:
    """A page has all words of its file, and links only to pages that are served."""
    status, page = _get(f"/runbooks/{name}")
    assert status == 200
    body = page[page.index("<main>") :]
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body))
    for word in re.findall(r"[A-Za-z]{4,}", re.sub(r"\]\([^)]*\)|```\w*", "", texts()[name])):
        assert word in shown
    for link in re.findall('href="([^"]+)"', body):
        assert _get(f"/runbooks/{link.removeprefix('./')}")[0] == 200
    assert "](" not in shown


def test_all_pages_are_listed() -> None:
    """The list leads to each page; a page that there is not is not found, and the answer names the list."""
    status, page = _get("/runbooks/")
    assert status == 200
    links = set(re.findall(r'<li><a href="\./([a-z-]+)">', page))
    assert (
        links
        == set(texts())
        == {path.removeprefix("/runbooks/") for path in runbooks.load()} - {""}
    )
    status, said = _get("/runbooks/nothing")
    assert status == 404
    assert "/runbooks/" in said
    assert "/runbooks/down" not in said
