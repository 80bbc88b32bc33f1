"""Makes the page at ``/``: a table of groups, which the scripts replace by the live one.

Group names come from the watched processes. They are escaped; characters that cannot be printed
(controls, marks that turn the writing direction) are spelled out; and the Content-Security-Policy
allows only our own files.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Final

import threadwatch
from threadwatch.model.view import GroupView, View
from threadwatch.words import text as words

MOST_GROUPS: Final = 200
"""Rows of the table; the remaining groups are summed up in one line."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    # No text can become markup, even by a fault in the scripts.
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = (
    ("Content-Security-Policy", _POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
"""Headers of a page, besides its type."""


def landing(view: View | None, others: Mapping[str, str], host: str) -> str:
    """Return the page at ``/``: host, links, version, and a row for each group, the busiest first.

    ``others``: the names of other pages by their paths. ``host``: the machine's name; empty: not known.
    """
    # Links are relative, so that they work behind a proxy that puts a prefix before our paths.
    links = "\n".join(
        f'<a href=".{html.escape(path)}">{html.escape(text)}</a>' for path, text in others.items()
    )
    named = printable(host)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{f"{named} · " if named else ""}threadwatch</title>
<link rel="icon" href="./static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="./static/page.css">
<script type="module" src="./static/main.js"></script>
</head>
<body>
<header>
<h1><img src="./static/icon.svg" alt="" width="22" height="22">threadwatch<span id="host">{named}</span></h1>
<span id="pulse" class="pulse"></span>
<div id="tools">
<label hidden>Theme <select id="theme">
<option value="auto">System</option>
<option value="light">Light</option>
<option value="dark">Dark</option>
</select></label>
</div>
<nav aria-label="Other pages">
{links}
</nav>
<span class="version">{html.escape(threadwatch.__version__)}</span>
</header>
<p id="notice" class="notice" hidden><strong role="alert"></strong><span></span></p>
<main>
<section class="summary">
{_groups(view)}
<noscript><p>With JavaScript this page shows each thread, live.</p></noscript>
</section>
</main>
</body>
</html>
"""


def _groups(view: View | None) -> str:
    if view is None:
        return "<p>The first poll is not complete yet.</p>"
    if not view.groups:
        return "<p>No Python process is seen.</p>"
    groups = sorted(view.groups, key=lambda group: (-group.cpu_ns, group.name))
    rows = "\n".join(_row(group) for group in groups[:MOST_GROUPS])
    rest = len(groups) - MOST_GROUPS
    more = f"\n<p>and {rest} more, which used less CPU time</p>" if rest > 0 else ""
    return f"""<table>
<caption>Groups</caption>
<thead>
<tr><th scope="col">Group</th><th scope="col">Processes</th><th scope="col">Published</th>\
<th scope="col">Threads</th><th scope="col">CPU seconds</th></tr>
</thead>
<tbody>
{rows}
</tbody>
</table>{more}"""


def _row(group: GroupView) -> str:
    threads = sum(
        state.threads for totals in group.series.values() for state in totals.states.values()
    )
    return (
        f'<tr><th scope="row">{printable(group.name)}</th><td>{group.processes:,}</td>'
        f"<td>{group.published:,}</td><td>{threads:,}</td><td>{group.cpu_ns / 1_000_000_000:,.1f}</td></tr>"
    )


def printable(text: str) -> str:
    """Return ``text`` for HTML: escaped, what cannot be printed spelled out as in a Python literal."""
    return html.escape(words.printable(text))
