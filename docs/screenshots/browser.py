"""Makes the pictures that a browser shows of the demo application: ``./dev screenshots``.

The status page, and in Prometheus' own interface the query of a dashboard's panel. The demo runs for
some minutes before, with a Prometheus that scrapes it, so that there is a history to see.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import expect

from tests import grafana
from tests.browser import chromium
from tests.prometheus import Prometheus

HERE: Final = Path(__file__).parent
CONFIGURATION: Final = HERE.parent.parent / "config" / "prometheus" / "prometheus.yml"
MOST_BYTES: Final = 250_000
PANEL: Final = ("application", "GIL held by thread")
"""The dashboard's file, and the panel whose query is shown."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What there is to look at."""

    url: str
    """Of the status page."""
    prometheus: Prometheus
    """It scrapes the demo."""


def page(
    demo: Demo,
    file: Path,
    *,
    scheme: Literal["light", "dark"],
    width: int = 1280,
    height: int = 760,
) -> None:
    """Take pictures of the status page."""
    with chromium() as browser:
        opened = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        opened.goto(demo.url)
        expect(opened.get_by_text("Live, every")).to_be_visible(timeout=20_000)
        trend = opened.get_by_role("row").nth(1).get_by_role("img").nth(1)
        expect(trend).to_have_attribute("aria-label", re.compile("average"))
        opened.screenshot(path=file)


def query(demo: Demo, file: Path) -> None:
    """Take a picture of the panel's query as Prometheus 2's interface draws it."""
    name, panel = PANEL
    (asked,) = (e for e in grafana.expressions() if (e.dashboard, e.panel) == PANEL)
    dashboard = grafana.load(grafana.DIRECTORY / f"{name}.json")
    values = {
        "__rate_interval": "1m",
        "job": "threadwatch",
        "instance": "$__all",
        "group": "demo_app",
        "thread": "$__all",
    }
    asking = {
        "g0.expr": grafana.interpolate(asked.text, dashboard, values),
        "g0.tab": "0",
        "g0.stacked": "1",
        "g0.range_input": "10m",
    }
    with chromium() as browser:
        opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        address = f"http://127.0.0.1:{demo.prometheus.port}/graph?"
        opened.goto(address + urllib.parse.urlencode(asking))
        expect(opened.get_by_text("price-engine")).to_be_visible(timeout=20_000)
        # As high as its text: the page itself does that only while a user types.
        opened.locator("textarea").evaluate(
            "(box) => { box.style.height = `${box.scrollHeight + 4}px`; box.blur(); }"
        )
        opened.screenshot(path=file, full_page=True)
    print(f"{panel}: {asking['g0.expr']}")


PICTURES: Final[Mapping[str, Callable[[Demo, Path], None]]] = {
    "page-light.png": lambda demo, file: page(demo, file, scheme="light"),
    "page-dark.png": lambda demo, file: page(demo, file, scheme="dark"),
    "page-narrow.png": lambda demo, file: page(demo, file, scheme="light", width=400, height=760),
    "query.png": query,
}


@contextmanager
def running() -> Iterator[Demo]:
    """Run the demo, and a Prometheus that scrapes it."""
    command = (sys.executable, "-m", "threadwatch", "demo", "--web.listen-address=127.0.0.1:0")
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        found = None
        while not found and (line := demo.stdout.readline()):
            found = re.search(r"in the browser +http://(\S+)/", line)
        if found is None:
            sys.exit("the demo said no address")
        config = CONFIGURATION.read_text().replace("127.0.0.1:9749", found[1])
        config = re.sub(r"rule_files:\n.*\n", "", config)
        with (
            tempfile.TemporaryDirectory() as directory,
            Prometheus(Path(directory), config=config) as prometheus,
        ):
            yield Demo(f"http://{found[1]}/", prometheus)
    finally:
        demo.terminate()
        demo.wait()


def main() -> int:
    """Make all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", choices=[[], *PICTURES], help="default: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="of history (default: 10)")
    options = parser.parse_args()
    with running() as demo:
        print(f"{options.minutes:g} minutes of history first …", flush=True)
        time.sleep(60 * options.minutes)
        for name in options.pictures or PICTURES:
            PICTURES[name](demo, HERE / name)
            size = (HERE / name).stat().st_size
            print(f"{name}: {size:,} bytes" + " - too large" * (size > MOST_BYTES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
