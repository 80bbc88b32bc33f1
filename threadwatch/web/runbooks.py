"""Serves the runbooks of the alerts, so that they can be read where nothing else is reachable."""

from __future__ import annotations

import html
from typing import Final

from threadwatch.shipped import runbooks
from threadwatch.web import pages
from threadwatch.web.markdown import to_html
from threadwatch.web.messages import NOSNIFF, Request, Response

PATH: Final = "/runbooks/"
"""The list of all; each page is behind it, by its name."""


class Page:
    """Answers with one page."""

    def __init__(self, body: str) -> None:
        headers = (("Content-Type", "text/html; charset=utf-8"), *pages.HEADERS, NOSNIFF)
        self._response = Response(200, headers, body.encode())

    def __call__(self, _request: Request) -> Response:
        """Return the response."""
        return self._response


def load() -> dict[str, Page]:
    """Return the list and all pages by their paths."""
    texts = runbooks()

    def link(to: str) -> str | None:
        # Pages link each other by their files' names; the other pages of the documentation are not here.
        name = to.removesuffix(".md")
        return f"./{name}" if name in texts else None

    titles = {name: text.partition("\n")[0].removeprefix("# ") for name, text in texts.items()}
    rows = "\n".join(
        f'<li><a href="./{html.escape(name)}">{html.escape(title)}</a></li>'
        for name, title in titles.items()
    )
    found = {PATH: Page(_page("Runbooks", f"<h1>Runbooks</h1>\n<ul>\n{rows}\n</ul>"))}
    for name, text in texts.items():
        found[PATH + name] = Page(_page(titles[name], to_html(text, link)))
    return found


def _page(title: str, body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)} · threadwatch</title>
<link rel="icon" href="../static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="../static/runbook.css">
</head>
<body>
<nav><a href="../">threadwatch</a> <a href="./">Runbooks</a></nav>
<main>
{body}
</main>
</body>
</html>
"""
