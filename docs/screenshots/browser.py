"""Makes the pictures that a browser shows of the demo application: ``./dev screenshots``.

The demo runs for some minutes before, so that the status page has a history to show. The pictures of
dashboards are those of ``./dev dashboards --draw --docs``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import expect

from tests.browser import chromium

HERE: Final = Path(__file__).parent
MOST_BYTES: Final = 250_000


def page(
    url: str,
    file: Path,
    *,
    scheme: Literal["light", "dark"],
    width: int = 1280,
    height: int = 760,
) -> None:
    """Take pictures of the status page."""
    with chromium() as browser:
        opened = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        opened.goto(url)
        expect(opened.get_by_text("Live, every")).to_be_visible(timeout=20_000)
        trend = opened.get_by_role("row").nth(1).get_by_role("img").nth(1)
        expect(trend).to_have_attribute("aria-label", re.compile("average"))
        opened.screenshot(path=file)


PICTURES: Final[Mapping[str, Callable[[str, Path], None]]] = {
    "page-light.png": lambda url, file: page(url, file, scheme="light"),
    "page-dark.png": lambda url, file: page(url, file, scheme="dark"),
    "page-narrow.png": lambda url, file: page(url, file, scheme="light", width=400, height=760),
}


@contextmanager
def running() -> Iterator[str]:
    """Run the demo, and yield the address of its status page."""
    command = (sys.executable, "-m", "threadwatch", "demo", "--web.listen-address=127.0.0.1:0")
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        found = None
        while not found and (line := demo.stdout.readline()):
            found = re.search(r"in the browser +http://(\S+)/", line)
        if found is None:
            sys.exit("the demo said no address")
        yield f"http://{found[1]}/"
    finally:
        demo.terminate()
        demo.wait()


def main() -> int:
    """Make all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", choices=[[], *PICTURES], help="default: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="of history (default: 10)")
    options = parser.parse_args()
    with running() as url:
        print(f"{options.minutes:g} minutes of history first …", flush=True)
        time.sleep(60 * options.minutes)
        for name in options.pictures or PICTURES:
            PICTURES[name](url, HERE / name)
            size = (HERE / name).stat().st_size
            print(f"{name}: {size:,} bytes" + " - too large" * (size > MOST_BYTES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
