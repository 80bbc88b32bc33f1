"""Top on a screen: keys in, text out, by textual's own driver for tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.strip import Strip

from tests.golden import regenerate
from tests.harness import DEADLINE
from tests.top import Scripted, busy, hostile, many, poll, running, shop, thread
from threadwatch.errors import Unusable
from threadwatch.model.closeup import Examined
from threadwatch.model.keys import ThreadKey
from threadwatch.top.app import TopApp
from threadwatch.top.model import Top

Keys = Pilot[Any]


def screen(app: TopApp) -> list[str]:
    """Return the lines that are on the screen."""
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


async def seen(pilot: Keys, what: Callable[[list[str]], object], why: str) -> list[str]:
    """Return the screen, once it fits."""
    app = pilot.app
    assert isinstance(app, TopApp)
    end = asyncio.get_running_loop().time() + DEADLINE
    while True:
        await pilot.pause()
        lines = screen(app)
        if what(lines):
            return lines
        assert asyncio.get_running_loop().time() < end, why + ":\n" + "\n".join(lines)
        await asyncio.sleep(0.01)


def on_screen(
    source: Scripted,
    test: Callable[[Keys], Awaitable[None]],
    *,
    size: tuple[int, int] = (100, 24),
    top: Top | None = None,
) -> TopApp:
    """Run a test in the application, once its first rows are there."""
    app = TopApp(source, top or Top(), interval=1.0, colors=True)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await seen(pilot, lambda lines: len(lines) > 4 and lines[3], "rows")
            await test(pilot)

    asyncio.run(run())
    app.close()
    return app


def rows(lines: list[str]) -> list[str]:
    """Return the names in the rows of a list."""
    return [line[9:35].split("  ")[0].strip() or line[9:35].strip() for line in lines[3:-1] if line]


def has(text: str) -> Callable[[list[str]], bool]:
    """Return whether some line has this."""
    return lambda lines: any(text in line for line in lines)


@pytest.mark.parametrize("path", regenerate.SCREENS, ids=lambda path: path.stem)
def test_golden_screens(path: Any) -> None:
    """The sample's screens look as the golden files say, in narrow, usual and wide terminals."""
    assert regenerate.screen(path) == path.read_text(encoding="utf-8")


def test_keys_order_the_rows() -> None:
    """W orders by waiting for the GIL, again the other way round, < and > by the neighbouring column."""

    async def test(pilot: Keys) -> None:
        await pilot.press("t")
        assert "price-engine" in screen(app_of(pilot))[3]
        await pilot.press("W")
        lines = screen(app_of(pilot))
        assert "▾GIL WAIT" in lines[2]
        assert "http_0" in lines[3]
        await pilot.press("W")
        assert "▴GIL WAIT" in screen(app_of(pilot))[2]
        await pilot.press("greater_than_sign")
        assert "▾READY" in screen(app_of(pilot))[2]
        await pilot.press("less_than_sign", "less_than_sign", "less_than_sign")
        assert "▾CPU %" in screen(app_of(pilot))[2]
        await pilot.press("I")
        assert "▴CPU %" in screen(app_of(pilot))[2]

    on_screen(Scripted(shop(1), shop(2)), test)


def app_of(pilot: Keys) -> TopApp:
    """Return the application."""
    app = pilot.app
    assert isinstance(app, TopApp)
    return app


def test_the_filter_works_with_each_letter() -> None:
    """/ and letters filter at once; Enter keeps the filter, letters are commands again, Esc ends it."""

    async def test(pilot: Keys) -> None:
        await pilot.press("slash", *"http")
        lines = await seen(pilot, lambda lines: len([x for x in lines[3:-1] if x]) == 3, "filtered")
        assert "http_0" in lines[5]
        assert "filter http" in lines[1]
        await pilot.press("backspace", "backspace", "backspace", "backspace", *"[red]")
        lines = await seen(pilot, has("No thread fits the filter [red]"), "nothing fits")
        await pilot.press("escape", "f4", *"q")
        await seen(pilot, has("No thread fits the filter q."), "q is a letter here")
        await pilot.press("escape")
        await seen(pilot, has("housekeeping"), "the filter is gone")
        await pilot.press("slash", *"engine", "enter", "t")
        lines = await seen(pilot, lambda lines: "price-engine" in lines[3], "a list of one")
        assert not any("http" in line for line in lines)

    on_screen(Scripted(shop(1), shop(2)), test)


def test_pause_stands_still_and_goes_on() -> None:
    """Space holds the picture while views come, and shows the newest afterwards."""
    source = Scripted(poll(1, running(9, "x", busy(1, "a", 0.5))))

    async def test(pilot: Keys) -> None:
        await pilot.press("space")
        await seen(pilot, has("PAUSED"), "paused")
        source.give(poll(2, running(9, "x", busy(1, "other", 0.25))))
        end = app_of(pilot).session.top
        await seen(pilot, lambda _: end._kept, "the view has come")
        assert not has("other")(screen(app_of(pilot)))
        await pilot.press("space")
        lines = await seen(pilot, has("other"), "going on")
        assert not has("PAUSED")(lines)

    on_screen(source, test)


def test_the_cursor_keeps_its_line_when_rows_move() -> None:
    """When the order changes, the row under the cursor moves with its thread, and the list below it, so that
    its place on the screen does not.
    """  # noqa: D205  # one claim, a long one

    def view(number: int, first: int) -> Any:
        threads = [
            busy(n, f"thread-{n:02}", (0.9 if n == first else 0.5) - n / 100) for n in range(60)
        ]
        return poll(number, running(9, "x", *threads))

    source = Scripted(view(1, 0))

    async def test(pilot: Keys) -> None:
        app = app_of(pilot)
        await pilot.press("t", *["down"] * 30)
        before = screen(app)
        line = next(n for n, text in enumerate(before) if "thread-30" in text)
        source.give(view(2, 45))
        await seen(pilot, lambda lines: "thread-30" in lines[line] and lines != before, "moved")
        assert app.session.top.current is not None
        assert app.session.top.current.name == "thread-30"
        assert app.session.top.at == 31
        source.give(view(3, 30))
        lines = await seen(pilot, lambda lines: "thread-30" in lines[3], "first of all")
        assert "thread-00" in lines[4]

    on_screen(source, test)


def test_fold_and_detail() -> None:
    """← closes, → opens, Enter on a thread shows all about it, with the kernel's stack; Esc goes back."""

    async def test(pilot: Keys) -> None:
        await pilot.press("down", "left")
        await seen(pilot, lambda lines: not has("http_0")(lines), "closed")
        await pilot.press("right", "down", "down", "enter")
        lines = await seen(pilot, has("do_futex"), "the stack")
        assert lines[0].startswith("http_0")
        assert has("futex_wait_queue")(lines)
        assert has("0-3")(lines)
        assert has("GIL wait 50.0 %")(lines)
        assert not has("web.py")(lines)
        await pilot.press("s")
        await seen(
            pilot, has("Shop.answer  /srv/shop/web.py:71"), "the Python stack, when asked for"
        )
        await pilot.press("escape")
        await seen(pilot, has("price-engine"), "back")

    on_screen(Scripted(shop(1), shop(2)), test, size=(100, 40))


def test_detail_of_a_thread_that_ends() -> None:
    """The detail screen keeps what was known of a thread that has ended, and says so."""
    source = Scripted(poll(1, running(1, "x", busy(1, "short-lived", 0.5))))

    async def test(pilot: Keys) -> None:
        await pilot.press("down", "enter")
        await seen(pilot, has("it has ended"), "the source says so")
        source.give(poll(2, running(2, "y", thread(2, "b"))))
        lines = await seen(pilot, lambda lines: "has ended" in lines[0], "the view says so")
        assert lines[0].startswith("short-lived")
        await pilot.press("q")
        await seen(
            pilot, lambda lines: has("CPU %")(lines) and not has("short-lived")(lines), "back"
        )

    on_screen(source, test)


def test_quit_while_the_kernel_does_not_answer() -> None:
    """Whatever a thread's detail waits for, q and q again end the application at once."""
    answer = threading.Event()

    class Stuck(Scripted):
        def examine(self, key: ThreadKey) -> Examined | str:
            answer.wait()
            return super().examine(key)

    async def test(pilot: Keys) -> None:
        await pilot.press("down", "down", "enter")
        await seen(pilot, has("Where its time went"), "the detail")
        await pilot.press("q", "q")

    try:
        on_screen(Stuck(shop(1), shop(2)), test, size=(100, 40))
        assert not answer.is_set()
    finally:
        answer.set()


@pytest.mark.parametrize("key", ["f1", "question_mark", "h"])
def test_help(key: str) -> None:
    """F1, ? and h explain keys and states; the text can be scrolled; q goes back, and does not end top."""

    async def test(pilot: Keys) -> None:
        await pilot.press(key)
        await seen(pilot, lambda lines: lines[0] == "Keys", "help")
        await pilot.press("end")
        await seen(pilot, has("the kernel's comm: no Python name"), "its end")
        await pilot.press("q")
        await seen(pilot, has("price-engine"), "back")

    on_screen(Scripted(shop(1), shop(2)), test)


@pytest.mark.parametrize("key", ["q", "f10", "ctrl+c", "ctrl+q"])
def test_quit(key: str) -> None:
    """Each of the keys that end top ends it, without an error, and lets go of the source."""

    async def test(pilot: Keys) -> None:
        await pilot.press("slash", *"x") if key != "q" else None
        await pilot.press(key)

    source = Scripted(shop(1))
    app = on_screen(source, test)
    assert app.return_value is None
    assert app.return_code == 0
    assert source.closed


def _fits(height: int, there: str, missing: str) -> Callable[[list[str]], bool]:
    return lambda lines: len(lines) == height and has(there)(lines) and not has(missing)(lines[2:])


def test_another_size() -> None:
    """A terminal that is made wider shows more columns, a narrower one fewer, a tiny one does not fail."""

    async def test(pilot: Keys) -> None:
        app = app_of(pilot)
        for columns, rows_, there, missing in (
            (200, 50, "COMM", "nothing"),
            (60, 12, "CPU %", "READY"),
            (20, 5, "CPU %", "STATE"),
            (3, 2, "", "STATE"),
            (100, 24, "GIL WAIT", "COMM"),
        ):
            await pilot.resize_terminal(columns, rows_)
            lines = await seen(pilot, _fits(rows_, there, missing), f"{columns} columns")
            assert all(len(line) <= columns for line in lines)
        assert app.is_running

    on_screen(Scripted(shop(1), shop(2)), test)


def test_hostile_names_are_text() -> None:
    """Markup, escape sequences and wide characters of names are shown as they are, and do nothing."""

    async def test(pilot: Keys) -> None:
        app = app_of(pilot)
        await pilot.press("t", "N", "end")
        lines = await seen(pilot, has("[red]x[/red]"), "markup as text")
        assert has("[@click=app.quit]x[/]")(lines)
        assert has("\\x1b]0;x\\x07")(lines)
        for _ in range(8):
            lines = screen(app)
            assert all(line.isprintable() for line in lines)
            await pilot.press("enter")
            assert all(line.isprintable() for line in screen(app))
            await pilot.press("escape", "pageup")
        assert app.is_running

    on_screen(Scripted(hostile(1), hostile(2)), test, size=(120, 30))


def test_a_source_that_fails_and_comes_back() -> None:
    """What fails is said in the first line with the age of what is shown, and gone with the next view."""
    source = Scripted(shop(1))

    async def test(pilot: Keys) -> None:
        source.give(Unusable("testhost cannot be reached: [bold]Connection refused"))
        lines = await seen(pilot, has("cannot be reached: [bold]Connection refused"), "trouble")
        assert "as of" in lines[0]
        assert has("price-engine")(lines)
        source.give(shop(3))
        await seen(pilot, lambda lines: not has("cannot be reached")(lines), "all is well")

    on_screen(source, test)


def test_nothing_fits_what_was_asked_for() -> None:
    """A word that names nothing ends top at once, and it says so."""
    source = Scripted(shop(1))
    app = TopApp(source, Top(("nosuch",)), interval=1.0, colors=True)

    async def run() -> None:
        async with app.run_test():
            pass

    async def ended() -> None:
        async with asyncio.timeout(DEADLINE):
            await app.run_async(headless=True)

    asyncio.run(ended())
    assert app.return_value is not None
    assert "no application is called 'nosuch'" in app.return_value


def test_an_empty_host() -> None:
    """Where there is no Python process, top says how to get one, and waits for it."""
    source = Scripted(poll(1))

    async def test(pilot: Keys) -> None:
        await seen(pilot, has("No Python process can be seen."), "nothing there")
        await pilot.press("down", "end", "enter", "right", "t", "asterisk")
        source.give(shop(2))
        await seen(pilot, has("price-engine"), "something there")

    app = TopApp(source, Top(), interval=1.0, colors=True)

    async def run() -> None:
        async with app.run_test(size=(80, 24)) as pilot:
            await test(pilot)

    asyncio.run(run())
    app.close()


def test_nothing_but_top_itself() -> None:
    """Where top sees only itself, it shows that, and says how to get something to look at."""
    source = Scripted(poll(1, running(300, "threadwatch", busy(300, "MainThread", 0.03))))
    source.own_pid = 300

    async def test(pilot: Keys) -> None:
        lines = await seen(pilot, has("No other Python process can be seen."), "alone")
        assert has("threadwatch demo")(lines)
        source.give(shop(2))
        await seen(pilot, lambda lines: not has("No other")(lines), "not alone")

    on_screen(source, test)


def test_the_mouse() -> None:
    """A click goes to a row, a double click into it; a click on a title orders by it; the wheel moves."""

    async def test(pilot: Keys) -> None:
        app = app_of(pilot)
        x = screen(app)[2].index("GIL WAIT") + 2
        await pilot.click(offset=(x, 2))
        assert "▾GIL WAIT" in screen(app)[2]
        await pilot.click(offset=(20, 6))
        assert app.session.top.at == 3
        await pilot.click(offset=(20, 6), times=2)
        await seen(pilot, has("Where its time went"), "detail")

    on_screen(Scripted(shop(1), shop(2)), test)


def test_only_lines_that_have_changed_are_drawn() -> None:
    """A view that changes one thread has one row drawn again, not the whole list: nothing flickers."""
    views = [many(5, 40, number) for number in (1, 2)]
    source = Scripted(views[0])

    async def test(pilot: Keys) -> None:
        app = app_of(pilot)
        await pilot.press("N")
        listed = app.screen.query_one("#list")
        drawn: list[int] = []
        render = listed.render_line

        def counted(y: int) -> Strip:
            drawn.append(y)
            return render(y)

        listed.render_line = counted  # type: ignore[method-assign]  # to count
        processes = list(views[0].processes)
        first = processes[0]
        changed = busy(10_003, "renamed", 0.5)
        threads = [changed if one.tid == 10_003 else one for one in first.threads]
        processes[0] = running(10_000, "app-001", *threads, cpu_ratio=first.cpu_ratio)
        source.give(poll(2, *processes))
        lines = await seen(pilot, has("renamed"), "the change")
        row = next(n for n, line in enumerate(lines) if "renamed" in line)
        assert set(drawn) <= {row - 3, 0}, "its row, and its process's, whose GIL it holds"

    on_screen(source, test)
