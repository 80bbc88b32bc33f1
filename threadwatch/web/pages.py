"""The landing page: self-contained HTML without scripts, in the reader's choice of dark or light.

Group names come from the processes that are watched. They are escaped, what cannot be printed
(control characters, marks that turn the writing direction) is spelled out, and the
Content-Security-Policy allows nothing but the one style sheet below.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from typing import Final

import threadwatch
from threadwatch.model import GroupView, View

MOST_GROUPS: Final = 200
"""Rows of the table; the rest is summed up in one line."""

_STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #fff; --ink: #1f2328; --dim: #59636e; --line: #d8dee4; --accent: #0b62c4;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #0d1117; --ink: #e6edf3; --dim: #9198a1; --line: #30363d; --accent: #6cb0ff; }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 60rem; padding: 3rem 1.5rem;
  background: var(--page); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
}
h1 { margin: 0; font-size: 1.75rem; letter-spacing: -.01em; }
p { margin: .25rem 0 0; color: var(--dim); }
a { color: var(--accent); text-underline-offset: .2em; }
nav { margin: 1.5rem 0 2rem; display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; }
.table { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
caption { text-align: left; font-weight: 600; padding-bottom: .5rem; }
th, td {
  padding: .5rem 0 .5rem 1.5rem; border-bottom: 1px solid var(--line);
  text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
}
th:first-child {
  padding-left: 0; min-width: 10rem; text-align: left; white-space: normal; overflow-wrap: anywhere;
}
thead th { color: var(--dim); font-weight: 500; font-size: .875rem; }
tbody th { font-weight: 500; unicode-bidi: isolate; }
"""

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    ("Content-Security-Policy", _POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
"""What a page is to be sent with, besides its type."""


def landing(view: View | None, telemetry_path: str, health_paths: Sequence[str]) -> str:
    """The page at ``/``: links, version, and a row for each group, those that used most CPU first."""
    # relative, so that they hold behind a proxy that puts a prefix before our paths
    links = "\n".join(
        f'<a href=".{html.escape(path)}">{html.escape(text)}</a>'
        for path, text in (
            (telemetry_path, "Metrics"),
            *((p, p.rpartition("/")[2].capitalize()) for p in health_paths),
        )
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>threadwatch</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>threadwatch</h1>
<p>CPU and state of Python threads, by name · version {html.escape(threadwatch.__version__)}</p>
</header>
<nav>
{links}
</nav>
<main>
{_groups(view)}
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
    return f"""<div class="table">
<table>
<caption>Groups</caption>
<thead>
<tr><th scope="col">Group</th><th scope="col">Processes</th><th scope="col">Published</th>\
<th scope="col">Threads</th><th scope="col">CPU seconds</th></tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
</div>{more}"""


def _row(group: GroupView) -> str:
    threads = sum(
        state.count for totals in group.series.values() for state in totals.states.values()
    )
    return (
        f'<tr><th scope="row">{printable(group.name)}</th><td>{group.processes:,}</td>'
        f"<td>{group.published:,}</td><td>{threads:,}</td><td>{group.cpu_ns / 1_000_000_000:,.1f}</td></tr>"
    )


def printable(text: str) -> str:
    """``text`` for HTML: escaped, with what cannot be printed spelled out as in a Python literal."""
    return html.escape("".join(c if c.isprintable() else _spelled(c) for c in text))


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()
