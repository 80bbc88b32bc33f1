"""Grafana's components, installed as ``package-lock.json`` says, and the page that draws with them."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.testbed import TESTBED

HERE: Final = Path(__file__).parent
_LISTS: Final = ("package.json", "package-lock.json")


def installed() -> Path:
    """Return the ``node_modules`` with what the lock file names; the first call installs them, in a minute.

    :raises SystemExit: node or npm is missing.
    """
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found (Debian: apt-get install nodejs npm)")
    state = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    directory = TESTBED / f"grafana-{state}"
    complete = directory / "complete"
    if not complete.exists():
        print("installing Grafana's components, once; this takes a minute", flush=True)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name in _LISTS:
            shutil.copy(HERE / name, directory)
        command = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        subprocess.run(command, cwd=directory, check=True, stdin=subprocess.DEVNULL)
        complete.touch()
    return directory / "node_modules"


def bundled(out: Path) -> None:
    """Make the page in the directory ``out``."""
    modules = installed()
    subprocess.run(("node", str(HERE / "build.mjs"), str(modules), str(out)), check=True)
    shutil.copy(HERE / "page" / "index.html", out)
    # where Grafana's components look for icons and letters
    (out / "public" / "fonts" / "inter").mkdir(parents=True)
    (out / "public" / "img").symlink_to(modules / "@grafana" / "ui" / "dist" / "public" / "img")
    for weight, name in ((400, "Regular"), (500, "Medium")):
        letters = modules / "@fontsource" / "inter" / "files" / f"inter-latin-{weight}-normal.woff2"
        (out / "public" / "fonts" / "inter" / f"Inter-{name}.woff2").symlink_to(letters)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        """Say nothing of requests."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Yield the address of a server for the files of a directory, on this machine alone."""
    handler = functools.partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="page", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
