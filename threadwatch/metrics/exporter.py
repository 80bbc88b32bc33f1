"""Serves a View's metrics: rendered on demand, once for all scrapers.

- The poll thread publishes a view, which is one assignment; the thread that renders does all the
  work.
- A view is rendered at most once for each format and encoding: a second scrape of the same view
  gets the same bytes, so ten scrapers cost what one does.
- What was rendered is dropped together with its view.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from threadwatch.metrics.collector import BuildInfo, collect
from threadwatch.metrics.exposition import Format, accepts_gzip, encode, negotiate, packed
from threadwatch.metrics.own_process import OwnProcess
from threadwatch.model.view import View


@dataclass(frozen=True, slots=True)
class Rendered:
    """A response body, with the headers that describe it."""

    body: bytes
    content_type: str
    encoding: str | None
    """``gzip``, or None for no encoding."""


class _Page:
    """A view, and what has been rendered of it."""

    __slots__ = ("rendered", "view")

    def __init__(self, view: View | None) -> None:
        self.view = view
        self.rendered: dict[tuple[Format, bool], Rendered] = {}


class Exporter:
    """Serves the last view that was published. One thread publishes, one renders."""

    def __init__(self, build: BuildInfo | None = None) -> None:
        """``build`` is what ``threadwatch_build_info`` says, by default the threadwatch that runs."""
        self._build = build
        self._own = OwnProcess()
        self._page = _Page(None)

    @property
    def view(self) -> View | None:
        """Return the last published view; None before the first."""
        return self._page.view

    def publish(self, view: View) -> None:
        """Make ``view`` the one that is served from the next request on."""
        self._page = _Page(view)

    def render(self, accept: str | None, accept_encoding: str | None) -> Rendered:
        """Return the metrics in the format and encoding that these request headers ask for."""
        page = self._page  # once: the poll thread may replace it meanwhile
        form, compress = negotiate(accept), accepts_gzip(accept_encoding)
        rendered = page.rendered.get((form, compress))
        if rendered is None:
            rendered = self._render(page, form, compress=compress)
            if page.view is not None:  # before the first poll nothing replaces the page
                page.rendered[form, compress] = rendered
        return rendered

    def _render(self, page: _Page, form: Format, *, compress: bool) -> Rendered:
        if compress:
            plain = page.rendered.get((form, False)) or self._render(page, form, compress=False)
            return Rendered(packed(plain.body), form.value, "gzip")
        body = encode(chain(collect(page.view, self._build), self._own.collect()), form)
        return Rendered(body, form.value, None)
