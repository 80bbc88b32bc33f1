"""What the daemon exposes for a sample, and how top shows one, kept as files: a change shows in the diff.

To write them anew after a change that is meant: ``python -m tests.golden.regenerate``.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.top import Scripted, shop
from tests.views import sample
from threadwatch.metrics.collector import BuildInfo, collect
from threadwatch.metrics.exposition import Format, encode
from threadwatch.top.app import TopApp
from threadwatch.top.model import Top

DIRECTORY = Path(__file__).parent
BUILD = BuildInfo("1.2.3", "0123456789abcdef", "3.11.9", "cpython")
FILES = {
    DIRECTORY / "metrics.txt": Format.TEXT,
    DIRECTORY / "metrics.openmetrics.txt": Format.OPENMETRICS,
}
SCREENS = [DIRECTORY / f"top-{size}.txt" for size in ("60x14", "80x24", "120x30", "200x30")]
"""``threadwatch top`` in terminals of those sizes."""


def exposition(form: Format) -> bytes:
    """Return the sample view in that format, without the daemon's process, whose values always differ."""
    return encode(collect(sample(), BUILD), form)


def screen(path: Path) -> str:
    """Return the text of top's screen in the size that the file's name says; without the clock's hour."""
    columns, lines = map(int, path.stem.removeprefix("top-").split("x"))
    app = TopApp(Scripted(*map(shop, range(1, 13))), Top(), interval=1.0, colors=True)

    async def run() -> str:
        async with app.run_test(size=(columns, lines)) as pilot:
            while app.session.top.view is None or app.session.top.view.sequence < 12:
                await pilot.pause(0.01)
            await pilot.pause()
            strips = app.screen._compositor.render_strips()
            return "".join(strip.text.rstrip() + "\n" for strip in strips)

    try:
        text = asyncio.run(run())
    finally:
        app.close()
    return re.sub(r"\d\d:\d\d:(\d\d)", r"hh:mm:\1", text)


def main() -> None:
    """Write all files."""
    for path, form in FILES.items():
        path.write_bytes(exposition(form))
        print(path)
    for path in SCREENS:
        path.write_text(screen(path), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
