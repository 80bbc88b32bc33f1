"""Opens a dashboard in a browser, in a theme and a width, and finds what is wrong with what it shows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from playwright.sync_api import Browser, Page

from tests import grafana
from tests.browser import Opened
from tests.grafana import Json

SCRAPE: Final = 1
"""Seconds between two scrapes."""
_LEFT: Final = {name: f"${name}" for name in ("__rate_interval", "__interval", "__range")}
"""What depends on the width of a panel: the page puts it in."""
_TIMEOUT: Final = 120_000
"""Milliseconds that a dashboard may take, on a machine that is busy."""


@dataclass(frozen=True, slots=True)
class View:
    """One dashboard as it is looked at."""

    name: str
    """Its file's, without ``.json``."""
    theme: Literal["dark", "light"]
    width: int
    """Of the window, in pixels."""
    opened: bool = True
    """Whether rows that are collapsed are opened."""
    chosen: Mapping[str, str] = field(default_factory=dict)
    """Variables of which one value is chosen; of the others, all are."""

    def __str__(self) -> str:
        return f"{self.name}-{self.theme}-{self.width}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where what is drawn comes from."""

    page: str
    """The address of the page that draws."""
    prometheus: str
    """The address of the Prometheus that the page asks."""
    minutes: float
    """How far back the graphs go."""


def dashboard(view: View) -> Json:
    """Return the dashboard of a view, with the values of variables in its queries."""
    made = grafana.load(grafana.DIRECTORY / f"{view.name}.json")
    values: dict[str, str | list[str]] = dict(_LEFT)
    for variable in made["templating"]["list"]:
        values[variable["name"]] = view.chosen.get(variable["name"], "$__all")
    if view.opened:
        made["panels"] = grafana.opened(made["panels"])
    for panel in grafana.panels(made):
        for query in panel["targets"]:
            query["expr"] = grafana.interpolate(query["expr"], made, values)
    return made


@contextmanager
def drawn(browser: Browser, source: Source, view: View) -> Iterator[tuple[Page, list[str]]]:
    """Yield the page with a view, and what is wrong with it: a line for each fault."""
    now = time.time()
    made = dashboard(view)
    labels = [variable["label"] for variable in made["templating"]["list"]]
    plan = {
        "dashboard": made,
        "prometheus": source.prometheus,
        "scrape": SCRAPE,
        "theme": view.theme,
        "from": (now - 60 * source.minutes) * 1000,
        "to": now * 1000,
        "variables": {label: view.chosen.get(label, "All") for label in labels[1:]},
    }
    context = browser.new_context(viewport={"width": view.width, "height": 1000})
    try:
        page = context.new_page()
        opened = Opened(page)
        page.add_init_script(f"window.plan = {json.dumps(plan)}")
        page.goto(f"{source.page}index.html")
        page.wait_for_function("window.waiting === 0", timeout=_TIMEOUT)
        yield page, [*_faults(page), *(f"the page: {error[:300]}" for error in opened.errors)]
    finally:
        context.close()


def _faults(page: Page) -> list[str]:
    """Return what is wrong with the panels, once that stays the same: the last of them is drawn then."""
    before = None
    while (found := page.evaluate("window.faults()")) != before:
        before = found
        page.wait_for_timeout(500)
    return [f"{title}: {fault}" for title, fault in found]
