"""A real Chromium, Debian's, for tests of what people see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.harness import DEADLINE
from tests.testbed import TestbedError

FLAGS = (
    "--no-sandbox",  # the tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield the browser, headless, with a fresh profile. What it does may take as long as anything else.

    :raises TestbedError: there is none.
    """
    path = shutil.which("chromium")
    if path is None:
        message = (
            "no chromium is installed: run tests/setup-testbed (Debian: apt-get install chromium)"
        )
        raise TestbedError(message)
    expect.set_options(timeout=1000 * DEADLINE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=list(FLAGS), timeout=1000 * DEADLINE
        )
        try:
            yield browser
        finally:
            browser.close()


class Opened:
    """A page with its invisible effects: errors, requests, and how long its work took."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(1000 * DEADLINE)
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self._said(said.type, said.text))
        page.on("dialog", lambda dialog: self.errors.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def _said(self, kind: str, text: str) -> None:
        # a poll that looks at threads is yet to come, or a daemon that was killed: the page's to say
        if kind == "error" and "503" not in text and "ERR_CONNECTION" not in text:
            self.errors.append(text)
