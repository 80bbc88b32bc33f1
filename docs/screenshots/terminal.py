"""Makes the picture of ``threadwatch top`` from the demo: ``python docs/screenshots/terminal.py``."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from threadwatch.commands.run import environment
from threadwatch.top.app import TopApp
from threadwatch.top.model import Top
from threadwatch.top.source import ProcSource

HERE = Path(__file__).resolve().parent
APPLICATION = HERE.parent.parent / "threadwatch/commands/demo_app.py"
SIZE = (112, 26)
POLLS = 13
"""Ten seconds for the bars, and some for the application to start."""


async def picture() -> str:
    """Return the screen as SVG, when the application has run for a while."""
    source = ProcSource(procfs="/proc", config_file=None, interval=1.0, pids=frozenset())
    source.where = "shop-1"
    top = Top(("demo_app",))
    app = TopApp(source, top, interval=1.0, colors=True)
    try:
        async with app.run_test(size=SIZE) as pilot:
            while top.view is None or top.view.sequence < POLLS:
                await pilot.pause(0.1)
            await pilot.press("down", "down")
            await pilot.pause()
            return app.export_screenshot(title="threadwatch top demo_app")
    finally:
        app.close()


def main() -> None:
    """Write top.svg beside this file."""
    application = subprocess.Popen(
        ["python", APPLICATION.name],
        executable=sys.executable,
        cwd=APPLICATION.parent,
        env=environment(os.environ),
        start_new_session=True,
    )
    try:
        svg = asyncio.run(picture())
    finally:
        os.killpg(application.pid, signal.SIGKILL)
        application.wait()
    # the font is whatever the reader has: nothing is to be fetched from anywhere
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "DejaVu Sans Mono")
    path = HERE / "top.svg"
    path.write_text(svg, encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
