"""``./dev dashboards --draw``: pictures of the dashboards, and what is wrong with them.

A real Prometheus scrapes a real daemon that watches the demo and two small applications. Each dashboard is
drawn in both themes and two widths. Exits with 1 if a panel says an error, shows nothing, or shows something
of which a reader does not see a part.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, FloatRect

from dashboards.draw.bundle import bundled, served
from dashboards.draw.look import Source, View, drawn
from tests import grafana
from tests.browser import chromium
from tests.prometheus import Prometheus
from tests.testbed import CHECKOUT
from tests.watched import scraping, watched

NAMES: Final = tuple(path.stem for path in grafana.FILES)
WIDTHS: Final = (1280, 1920)
SAID: Final = {("application", "CPU by process"): "empty: needs per: process"}
"""Panels for which the demo has nothing, and what each says of that."""
CHOSEN: Final = {"application": {"group": "demo_app"}}
"""Of each dashboard that shows one application: which."""


DOCS: Final = (
    (View("application", "light", 1280, opened=False, chosen=CHOSEN["application"]), 1164),
    (View("fleet", "dark", 1280, opened=False), 1010),
    (View("gil", "light", 1280, opened=False), 1048),
)
"""What docs/grafana.md and the README show, and how many pixels of it from the top."""


def views(names: list[str]) -> list[View]:
    """Return every view of the dashboards with these names."""
    return [
        View(name, theme, width, chosen=CHOSEN.get(name, {}))
        for name in names
        for width in WIDTHS
        for theme in ("light", "dark")
    ]


def main() -> int:
    """Draw the dashboards that are named, or all; the exit code."""
    parser = argparse.ArgumentParser(prog="./dev dashboards --draw", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--minutes", type=float, default=3.0, help="of history (default: 3)")
    parser.add_argument("--prometheus", metavar="URL", help="ask this one, and start nothing")
    parser.add_argument("--docs", action="store_true", help="make the pictures of the docs alone")
    parser.add_argument("--into", type=Path, default=CHECKOUT / "build" / "dashboards")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no dashboard is called {', '.join(unknown)}: there are {', '.join(NAMES)}")
    options.into.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (place / "page").mkdir()
        bundled(place / "page")
        prometheus = options.prometheus or stack.enter_context(_scraped(place, options.minutes))
        page = stack.enter_context(served(place / "page"))
        browser = stack.enter_context(chromium())
        source = Source(page, prometheus, options.minutes)
        if options.docs:
            return _make_those_of_docs(browser, source)
        wrong = sum(
            _draw(browser, source, view, options.into) for view in views(options.names or [*NAMES])
        )
    print(f"{wrong} faults; the pictures are in {options.into}")
    return int(wrong > 0)


@contextlib.contextmanager
def _scraped(place: Path, minutes: float) -> Iterator[str]:
    """Yield the address of a Prometheus that has scraped a daemon for as many minutes."""
    with (
        watched(place) as daemon,
        Prometheus(place, config=scraping(daemon)) as prometheus,
    ):
        print(f"{minutes:g} minutes of history first", flush=True)
        time.sleep(60 * minutes)
        yield f"http://127.0.0.1:{prometheus.port}"


def _draw(browser: Browser, source: Source, view: View, into: Path) -> int:
    """Write the picture of a view, print what is wrong with it, and return how many faults that is."""
    with drawn(browser, source, view) as (page, found):
        page.screenshot(path=into / f"{view}.png", full_page=True)
    said = {f"{panel}: {words}" for (name, panel), words in SAID.items() if name == view.name}
    faults = sorted(set(found) ^ said)
    print(f"{view}: {len(faults)} faults", *faults, sep="\n  ", flush=True)
    return len(faults)


def _make_those_of_docs(browser: Browser, source: Source) -> int:
    """Write the pictures of the docs, each as small as pngquant makes it; the exit code."""
    if shutil.which("pngquant") is None:
        sys.exit("pngquant not found (Debian: apt-get install pngquant)")
    for view, height in DOCS:
        file = CHECKOUT / "docs" / "screenshots" / f"grafana-{view.name}.png"
        shown: FloatRect = {"x": 0, "y": 0, "width": view.width, "height": height}
        with drawn(browser, source, view) as (page, _faults):
            page.screenshot(path=file, full_page=True, clip=shown)
        subprocess.run(("pngquant", "--force", "--ext=.png", "--speed=1", "128", file), check=True)
        print(f"{file.name}: {file.stat().st_size:,} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
