"""The status page in a real browser, of a real daemon that watches real threads."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests import views
from tests.browser import Opened, chromium
from tests.harness import reserved_port, threadwatch, until
from tests.serving import Serving, application, serving
from tests.testbed import CHECKOUT
from threadwatch.words.text import printable

MANY = 2000
HOSTILE = ("<script>alert(1)</script>", "\u202etxt.exe", "a\x1b[31mb\nc", "n" * 100, "")

SHOP = """
import signal
def burn():
    while True:
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass
        time.sleep(0.01)
def start(name, target=time.sleep, arguments=(600,)):
    threading.Thread(target=target, args=arguments, name=name, daemon=True).start()
lock = threading.Lock()
lock.acquire()
start("burner", burn, ())
start("waiter", lock.acquire, ())
signal.signal(signal.SIGUSR1, lambda *_: start("latecomer"))
"""
LOOP = """
import asyncio
async def crunch():
    while True:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        await asyncio.sleep(0.02)
threading.Thread(target=lambda: asyncio.run(crunch()), name="event-loop", daemon=True).start()
"""
ODD = """
for name in {names!r}:
    thread = threading.Thread(target=time.sleep, args=(600,), daemon=True)
    thread.start()
    thread.name = name
"""
CROWD = f"""
for number in range({MANY}):
    threading.Thread(target=time.sleep, args=(600,), name="crowd-%d" % number, daemon=True).start()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, int]]:
    """Yield a daemon, and the PID of an application that it watches."""
    with (
        application(code=SHOP) as process,
        application(name="odd.py", code=ODD.format(names=HOSTILE)),
        serving(tmp_path_factory.mktemp("serve")) as daemon,
    ):
        yield daemon, process.pid


@pytest.fixture
def opened(browser: Browser, shop: tuple[Serving, int]) -> Iterator[Opened]:
    """Yield the page of that daemon, live."""
    with ExitStack() as stack:
        yield _open(stack, browser, shop[0].url)


@pytest.fixture
def page(opened: Opened) -> Page:
    """Open the same page, without the check of its invisible effects."""
    return opened.page


def _open(
    stack: ExitStack, browser: Browser, url: str, fragment: str = "", **options: Any
) -> Opened:
    """Open a page; at the end it must have had no error, and have sent requests to no other server."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    stack.callback(context.close)
    opened = Opened(context.new_page())
    stack.callback(_is_clean, opened, url)
    opened.page.goto(f"{url}/{fragment}")
    if options.get("java_script_enabled", True):
        expect(opened.page.get_by_text("Live, every")).to_be_visible()
    return opened


def _is_clean(opened: Opened, url: str) -> None:
    assert opened.errors == []
    assert all(asked.startswith(url + "/") for asked in opened.requests)


def _row(page: Page, name: str) -> Locator:
    """Return the row whose name is exactly this."""
    label = page.locator("bdi").get_by_text(name, exact=True)
    return page.get_by_role("row").filter(has=label)


def _cell(page: Page, row: Locator, head: str) -> str:
    """Return what a row has in a column."""
    heads = [
        re.sub("[▾▴ ]", "", text) for text in page.get_by_role("columnheader").all_inner_texts()
    ]
    cells = row.locator("xpath=./*").all_inner_texts()
    return cells[heads.index(head.replace(" ", ""))]


def _number(page: Page, row: Locator, head: str) -> float:
    return float(_cell(page, row, head) or "nan")


def _labels(page: Page) -> list[str]:
    """Return the names of all rows that there are, from top to bottom."""
    return page.locator("bdi").all_inner_texts()


def _fragment(page: Page) -> str:
    """Return what the page's address says of what it shows."""
    return "#" + page.url.partition("#")[2]


def _search(page: Page, text: str) -> None:
    page.get_by_role("searchbox", name="Search").fill(text)


def _cpu_ns(pid: int) -> dict[int, int]:
    """CPU time by TID, by the kernel's scheduler."""
    return {
        int(task.name): int((task / "schedstat").read_text().split()[0])
        for task in Path(f"/proc/{pid}/task").iterdir()
    }


def test_threads_are_those_of_proc(page: Page, shop: tuple[Serving, int]) -> None:
    """Each thread of the application has a row with its TID, comm and state, under its Python name."""
    pid = shop[1]
    _search(page, "shop.py")
    names = {"MainThread", "metrics-flush", "burner", "waiter"}
    until(lambda: names <= set(_labels(page)), "all threads")
    tids = set()
    for name in names:
        row = _row(page, name)
        tid = int(_cell(page, row, "TID"))
        tids.add(tid)
        comm = Path(f"/proc/{pid}/task/{tid}/comm").read_text().rstrip("\n")
        assert _cell(page, row, "Comm") == comm
    assert tids == set(_cpu_ns(pid))
    assert int(_cell(page, _row(page, "MainThread"), "TID")) == pid
    expect(_row(page, "waiter").get_by_text("lock", exact=True)).to_be_visible()
    expect(_row(page, "metrics-flush").get_by_text("sleep", exact=True)).to_be_visible()
    # of the time that it waited, all was for the lock
    expect(_row(page, "waiter").get_by_role("img", name="lock 100 %")).to_be_visible()


def test_cpu_is_the_mean_of_what_the_kernel_counts(page: Page, shop: tuple[Serving, int]) -> None:
    """CPU % is the mean of the last 10 s by the kernel's clock; user and system are its parts."""
    pid = shop[1]
    views: list[dict[str, Any]] = []

    def keep(route: Route) -> None:
        answer = route.fetch()
        if answer.status == 200 and [answer.json()["sequence"]] != [
            v["sequence"] for v in views[-1:]
        ]:
            views.append(answer.json())
        route.fulfill(response=answer)

    before = _cpu_ns(pid)
    url = page.url
    page.goto("about:blank")  # whose views would be none of the next page's
    page.route("**/api/v1/view", keep)
    page.goto(url)
    _search(page, "burner")
    row = _row(page, "burner")
    until(lambda: page.evaluate("0") == 0 and len(views) > 4, "five views")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Pause").click()
    tid = int(_cell(page, row, "TID"))
    figures = {"CPU %": "cpu_percent", "User": "user_percent", "System": "system_percent"}

    def shown() -> bool:
        """Return whether the page shows the means; a view may have been on its way to it."""
        means = {head: _mean(views, pid, tid, key) for head, key in figures.items()}
        return all(abs(_number(page, row, head) - mean) <= 0.06 for head, mean in means.items())

    until(shown, "the means of what it has heard")
    page.unroute("**/api/v1/view")
    last = _thread(views[-1], pid, tid)
    assert before[tid] <= last["cpu_seconds"] * 1e9 <= _cpu_ns(pid)[tid]
    parts = _number(page, row, "User") + _number(page, row, "System")
    assert abs(parts - _number(page, row, "CPU %")) <= 0.25


def _mean(views: list[dict[str, Any]], pid: int, tid: int, key: str) -> float:
    """Return the mean of a figure over the last 10 s of these views, each by the time that it is of."""
    weights = [views[0]["interval_seconds"]] + [
        (view["monotonic_seconds"] - last["monotonic_seconds"])
        / (view["sequence"] - last["sequence"])
        for last, view in pairwise(views)
    ]
    began = views[-1]["monotonic_seconds"] - 10 + views[-1]["interval_seconds"] / 2
    known = [
        (value, weight)
        for view, weight in zip(views, weights, strict=True)
        if view["monotonic_seconds"] > began and (value := _thread(view, pid, tid)[key]) is not None
    ]
    mean: float = sum(value * weight for value, weight in known) / sum(w for _, w in known)
    return mean


def _thread(view: dict[str, Any], pid: int, tid: int) -> dict[str, Any]:
    """Return what a view says of a thread."""
    found: dict[str, Any] = next(
        thread
        for process in view["processes"]
        if process["pid"] == pid
        for thread in process["threads"]
        if thread["tid"] == tid
    )
    return found


def test_means_are_weighted_by_time(page: Page) -> None:
    """A view counts by its time, one older than 10 s or without a value not at all; history has its gaps."""
    found = page.evaluate(
        """async () => {
          const { Past } = await import("/static/past.js");
          const past = new Past();
          const take = (at, sequence, cpu, shares) => {
            past.add({ monotonic_seconds: at, time: at, sequence, interval_seconds: 1 });
            return past.note("x", { cpu_percent: cpu, states_percent: shares });
          };
          take(1, 1, 100, { running: 100 });
          const later = take(100, 100, null, null);
          take(101, 101, 10, { sleep: 100 });
          const mean = take(104, 102, 50, { running: 60, sleep: 40 });
          return [later.cpu, mean.cpu, mean.shares,
            past.line("x").map(({ view }) => [view.at, view.seconds])
          ];
        }"""
    )
    assert found[:2] == [None, (10 * 1 + 50 * 3) / 4]
    assert found[2] == {"running": 45, "sleep": 55}
    assert found[3] == [[1, 1], [100, 1], [101, 1], [104, 3]]


def test_threads_come_and_go(browser: Browser, tmp_path: Path) -> None:
    """A thread that starts has a row with the next poll; so has no process that has ended."""
    with ExitStack() as stack:
        process = stack.enter_context(application(name="brief.py", code=SHOP))
        daemon = stack.enter_context(serving(tmp_path))
        page = _open(stack, browser, daemon.url).page
        _search(page, "brief")
        expect(_row(page, "burner")).to_be_visible()
        assert "latecomer" not in _labels(page)
        process.send_signal(signal.SIGUSR1)
        expect(_row(page, "latecomer")).to_be_visible()
        process.kill()
        process.wait()
        expect(page.get_by_text("Nothing fits what is searched for.")).to_be_visible()


def test_it_is_sorted_by_what_is_chosen(page: Page) -> None:
    """Most CPU comes first, unless another column is chosen; once more turns the order."""
    _search(page, "shop.py")
    cpu = page.get_by_role("columnheader", name="CPU %")
    expect(cpu).to_have_attribute("aria-sort", "descending")
    until(lambda: _labels(page)[2:3] == ["burner"], "the burner first")
    page.get_by_role("button", name="Name").click()
    head = page.get_by_role("columnheader", name="Name")
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(cpu).not_to_have_attribute("aria-sort", re.compile("."))
    assert _labels(page)[2:] == ["burner", "MainThread", "metrics-flush", "waiter"]
    page.get_by_role("button", name="Name").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert _labels(page)[2:] == ["waiter", "metrics-flush", "MainThread", "burner"]


def test_it_can_be_narrowed_down(page: Page) -> None:
    """Search and states leave the threads that fit, and say how many; threads can stand alone."""
    _search(page, "waiter")
    assert "waiter" in _labels(page)
    assert "burner" not in _labels(page)
    _search(page, "shop")
    page.get_by_role("group", name="Filter by state").get_by_role("button", name="lock").click()
    until(lambda: _labels(page)[-1:] == ["waiter"], "who waits for a lock")
    assert "metrics-flush" not in _labels(page)
    page.get_by_role("button", name="Threads only").click()
    expect(page.get_by_role("status").filter(has_text="thread")).to_have_text(
        "1 thread in 1 process"
    )
    assert _labels(page) == ["waiter"]
    page.get_by_role("group", name="Filter by state").get_by_role("button", name="lock").click()
    assert {"waiter", "burner", "MainThread"} <= set(_labels(page))
    _search(page, "no such thread")
    expect(page.get_by_text("Nothing fits what is searched for.")).to_be_visible()
    page.get_by_role("searchbox").press("Escape")
    expect(page.get_by_role("searchbox")).to_have_value("")
    table = page.get_by_role("treegrid").or_(page.get_by_role("grid"))
    page.keyboard.press("Escape")
    expect(table).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("waiter")
    page.keyboard.press("Enter")
    expect(table).to_be_focused()
    expect(page.get_by_role("searchbox")).to_have_value("waiter")


def test_search_knows_states_and_figures(page: Page, shop: tuple[Serving, int]) -> None:
    """Each word has to fit, in a thread or around it; a|b is either; cpu>5 and states are of the thread."""
    page.get_by_role("button", name="Threads only").click()

    def found(text: str, *names: str) -> None:
        _search(page, text)
        until(lambda: sorted(_labels(page)) == sorted(names), f"{names} by {text!r}")

    found("shop burner|flush", "burner", "metrics-flush")
    found(f"pid={shop[1]} cpu>5", "burner")
    found("shop cpu<5 lock", "waiter")
    found(f"{shop[1]} waiter", "waiter")
    expect(_row(page, "waiter")).to_contain_text(f"{shop[1]} · shop")
    page.keyboard.press("Escape")
    page.get_by_role("treegrid").or_(page.get_by_role("grid")).focus()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys and search")
    expect(keys).to_contain_text("cpu>5")
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()


def test_the_address_holds_what_is_shown(
    browser: Browser, page: Page, shop: tuple[Serving, int]
) -> None:
    """Another reader of the address sees the same search, states, order, open rows and thread."""
    _search(page, "shop.py|odd.py")
    page.get_by_role("button", name="Name").click()
    page.get_by_role("button", name="Name").click()
    _row(page, "odd").click()
    _row(page, "burner").click()
    page.get_by_role("group", name="Filter by state").get_by_role("button", name="lock").click()
    until(lambda: _labels(page) == ["shop", "python shop.py", "waiter"], "what is chosen")
    assert "#search=shop.py%7Codd.py&states=lock&sort=label&closed=odd&thread=" in page.url
    with ExitStack() as stack:
        other = _open(stack, browser, shop[0].url, _fragment(page)).page
        until(lambda: _labels(other) == _labels(page), "the same rows elsewhere")
        expect(other.get_by_role("searchbox")).to_have_value("shop.py|odd.py")
        expect(other.get_by_role("heading", name="burner")).to_be_visible()
        expect(other.get_by_role("columnheader", name="Name")).to_have_attribute(
            "aria-sort", "descending"
        )
    page.go_back()
    expect(page.get_by_role("heading", name="burner")).to_be_hidden()
    expect(page.get_by_role("searchbox")).to_have_value("shop.py|odd.py")
    page.go_forward()
    expect(page.get_by_role("heading", name="burner")).to_be_visible()


def test_a_thread_in_detail(page: Page, shop: tuple[Serving, int]) -> None:
    """Enter shows what is known of a thread, its history and commands to copy; Escape closes it."""
    pid = shop[1]
    _search(page, "burner")
    _row(page, "burner").click()
    detail = page.get_by_role("region", name="Thread in detail")
    tid = int(_cell(page, _row(page, "burner"), "TID"))
    for fact in (
        f"{tid} in PID {pid}",
        "published by its process",
        f"CPython {platform.python_version()}",
    ):
        expect(detail).to_contain_text(fact)
    for title, text in (
        ("CPUs", r"may use [\d,-]+, last on \d+"),
        ("Switches", r"[\d,]+ voluntary, [\d,]+ involuntary"),
        ("System call", r"none: it runs|clock_nanosleep"),
    ):
        value = detail.locator("dt", has_text=title).locator("xpath=../dd")
        expect(value).to_have_text(re.compile(f"^({text})$"))
    expect(
        detail.get_by_text("not switched on: threadwatch serve --web.enable-stacks")
    ).to_be_visible()
    expect(detail.get_by_text(f"sudo py-spy dump --pid {pid}")).to_be_visible()
    expect(detail.get_by_text(f"threadwatch ps {pid}")).to_be_visible()
    used = detail.locator("dt", has_text="CPU time").locator("xpath=../dd")
    before = _cpu_ns(pid)[tid] / 1e9
    until(lambda: float(used.inner_text().split(" ")[0]) >= before - 0.05, "CPU time goes on")
    assert float(used.inner_text().split(" ")[0]) <= _cpu_ns(pid)[tid] / 1e9 + 0.05
    states = detail.get_by_role(
        "img", name=re.compile(r"s together: .*running \d+ %.* · CPU [\d.]+ %")
    )
    expect(states).to_be_visible()
    box = states.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 5)
    expect(detail.get_by_text(re.compile(r"^\d+:\d+:\d+.*: .*running \d+ %"))).to_be_visible()
    page.keyboard.press("Escape")
    expect(detail).to_be_hidden()
    assert "thread=" not in page.url
    page.keyboard.press("Enter")
    expect(detail).to_be_visible()
    detail.get_by_role("button", name="Close").click()
    expect(detail).to_be_hidden()


def test_the_python_stack_of_a_thread(browser: Browser, tmp_path: Path) -> None:
    """Where it is switched on, a click shows which code a thread runs, by a real py-spy; and again."""
    with ExitStack() as stack:
        stack.enter_context(application(name="stacks.py", code=SHOP))
        daemon = stack.enter_context(serving(tmp_path, "--web.enable-stacks"))
        page = _open(stack, browser, daemon.url).page
        _search(page, "stacks.py")
        _row(page, "burner").click()
        detail = page.get_by_role("region", name="Thread in detail")
        code = detail.get_by_label("Python stack")
        expect(code).to_be_hidden()
        detail.get_by_role("button", name="Read it").click()
        expect(code).to_have_text(re.compile(r"^burn  .*stacks\.py:\d+\n.*run  .*"))
        detail.get_by_role("button", name="Read it again").click()
        expect(code).to_be_visible()
        page.keyboard.press("Escape")
        _row(page, "waiter").click()
        expect(code).to_be_hidden()
        fact = detail.locator("dt", has_text="System call").locator("xpath=../dd")
        expect(fact).to_have_text("futex")


def test_tasks_of_a_loop(browser: Browser, tmp_path: Path) -> None:
    """Below a thread that runs a loop are its tasks: what they use, how long they had it, which has it."""
    with ExitStack() as stack:
        stack.enter_context(application(name="loop.py", code=LOOP))
        daemon = stack.enter_context(serving(tmp_path))
        page = _open(stack, browser, daemon.url).page
        _search(page, "loop.py event-loop")
        thread, crunch = (_row(page, name) for name in ("event-loop", "crunch"))
        expect(thread).to_contain_text(re.compile(r"lag \d+ ms"))
        expect(crunch).to_have_attribute("aria-level", "4")
        expect(crunch).to_contain_text(re.compile(r"held [1-9][\d.]* %"))
        until(lambda: _number(page, crunch, "CPU %") > 1, "CPU of the task")
        expect(page.locator(".task.holds bdi", has_text="crunch")).to_be_visible()
        thread.click()
        loop = page.get_by_role("region", name="Thread in detail").get_by_text("asyncio, lag")
        expect(loop).to_be_visible()
        page.keyboard.press("Escape")
        thread.locator(".twisty").click()
        expect(crunch).to_be_hidden()
        assert re.search(r"closed=\d+%2F\d+", page.url)
        _search(page, "crunch")
        until(lambda: "event-loop" in _labels(page), "the thread whose task is searched for")


def test_a_thread_that_has_ended_stays_in_detail(browser: Browser, tmp_path: Path) -> None:
    """What was known last of the thread in detail is kept, and says that it has ended."""
    with ExitStack() as stack:
        process = stack.enter_context(application(name="brief.py", code=SHOP))
        daemon = stack.enter_context(serving(tmp_path))
        page = _open(stack, browser, daemon.url).page
        _search(page, "brief.py")
        _row(page, "waiter").click()
        detail = page.get_by_role("region", name="Thread in detail")
        expect(detail.get_by_role("heading", name="waiter")).to_be_visible()
        fragment = _fragment(page)
        process.kill()
        process.wait()
        expect(detail.get_by_text("has ended")).to_be_visible()
        expect(detail.get_by_role("heading", name="waiter")).to_be_visible()
        later = _open(stack, browser, daemon.url, fragment).page
        expect(
            later.get_by_text(re.compile(r"Thread \d+ of process \d+ is not there"))
        ).to_be_visible()


def test_a_selection_outlives_updates(page: Page) -> None:
    """While text is selected the rows stay as they are, and the page says so."""
    _search(page, "burner")
    text = _cell(page, _row(page, "burner"), "TID")
    _row(page, "burner").locator(".id").evaluate("(cell) => getSelection().selectAllChildren(cell)")
    expect(page.get_by_text("Waits while text is selected")).to_be_visible()
    assert page.evaluate("String(getSelection())") == text
    page.evaluate("getSelection().removeAllRanges()")
    expect(page.get_by_text("Live, every")).to_be_visible()


def test_updates_that_come_slowly_are_told(page: Page) -> None:
    """On a link where updates take seconds, the page says how often they come in truth."""
    wire = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 1500, "downloadThroughput": -1, "uploadThroughput": -1}
    wire.send("Network.enable")
    wire.send("Network.emulateNetworkConditions", slow)
    said = re.compile(r"Live, every ([2-9]|\d\d)\.\d s; polls are every 1 s")
    expect(page.get_by_text(said)).to_be_visible()


def test_the_host_is_told(page: Page) -> None:
    """Title and head name the machine; a line has its CPUs, what processes use, its load and busiest GIL."""
    name = socket.gethostname()
    expect(page).to_have_title(f"{name} · threadwatch")
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    line = page.get_by_label("Host", exact=True)
    expect(line).to_contain_text(f"{os.cpu_count()} CPU")
    expect(line).to_contain_text(re.compile(r"load \d+\.\d\d, \d+\.\d\d, \d+\.\d\d"))
    expect(line).to_contain_text(
        re.compile(r"busiest GIL: python shop\.py, PID \d+, held \d+\.\d %")
    )
    page.get_by_role("button", name="Pause").click()
    page.wait_for_load_state("networkidle")
    _search(page, "")
    page.get_by_role("button", name="Collapse all").click()
    groups = page.locator(".row.group").all()
    sums = sum(_number(page, row, "CPU %") for row in groups)
    used = re.search(r"use ([\d.]+) %", line.inner_text())
    assert used
    assert abs(float(used[1]) - sums) <= 0.05 * (len(groups) + 1)


def test_hostile_names_are_text(opened: Opened) -> None:
    """Markup is shown as it is written, and what would not show or turn the line is spelled out."""
    page = opened.page
    _search(page, "odd.py")
    shown = {printable(name) or '""' for name in HOSTILE}
    until(lambda: shown <= set(_labels(page)), f"{shown}")
    assert page.locator("main script").count() == 0
    names = [*views.HOSTILE, *HOSTILE, views.SURROGATES]
    spelled = page.evaluate(
        "async (names) => { const { printable } = await import('/static/text.js');"
        " return JSON.parse(names).map(printable); }",
        json.dumps(names),
    )
    # but for what is no character yet: the browser and Python may know different Unicodes
    assert spelled == [printable(name) for name in names]


def test_markup_cannot_be_made(opened: Opened) -> None:
    """The browser itself refuses to make markup of text on this page, and to run a script in it."""
    refused = opened.page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return ''; }"
        " catch (error) { return error.name; } }"
    )
    assert refused == "TypeError"
    opened.errors.clear()


def test_both_themes(browser: Browser, shop: tuple[Serving, int]) -> None:
    """Dark or light is the system's choice, or one's own, which lasts; texts can be read in both."""
    for scheme, other in (("light", "dark"), ("dark", "light")):
        with ExitStack() as stack:
            page = _open(stack, browser, shop[0].url, color_scheme=scheme).page
            assert _brightness(page) == scheme
            assert _contrasts(page) >= 4.5
            page.get_by_label("Theme").select_option(other)
            assert _brightness(page) == other
            assert _contrasts(page) >= 4.5
            page.reload()
            expect(page.get_by_text("Live, every")).to_be_visible()
            expect(page.get_by_label("Theme")).to_have_value(other)
            assert _brightness(page) == other


COLOURS = """() => {
  const context = document.createElement("canvas").getContext("2d");
  const luminance = (colour) => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((value) => {
      const c = value / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const of = (selector, what) => luminance(getComputedStyle(document.querySelector(selector))[what]);
  return { page: of("body", "backgroundColor"), panel: of(".table", "backgroundColor"),
    texts: ["body", ".header", ".comm", ".note", ".found", "nav a"].map((s) => of(s, "color")) };
}"""


def _brightness(page: Page) -> str:
    return "light" if page.evaluate(COLOURS)["page"] > 0.5 else "dark"


def _contrasts(page: Page) -> float:
    """Return the least contrast of any kind of text (WCAG 2, 1.4.3), on what it may stand on."""
    found = page.evaluate(COLOURS)
    least: float = min(
        (max(text, ground) + 0.05) / (min(text, ground) + 0.05)
        for text in found["texts"]
        for ground in (found["page"], found["panel"])
    )
    return least


def test_a_narrow_window(browser: Browser, shop: tuple[Serving, int]) -> None:
    """On a telephone nothing but the table goes beyond the edge, and its names stay where they are."""
    with ExitStack() as stack:
        page = _open(stack, browser, shop[0].url, viewport={"width": 400, "height": 800}).page
        _search(page, "burner")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        name = _row(page, "burner").get_by_role("rowheader")
        expect(name).to_be_in_viewport()
        before = name.bounding_box()
        page.locator(".table").evaluate("(table) => table.scrollTo(2000, 0)")
        expect(page.get_by_role("columnheader", name="TID")).to_be_in_viewport()
        assert name.bounding_box() == before


def test_keys_do_what_the_mouse_does(page: Page) -> None:
    """The table is one stop of the Tab key; arrows move in it, open and close; / searches, p pauses."""
    page.keyboard.press("/")
    page.keyboard.type("shop.py")
    grid = page.get_by_role("treegrid", name="Threads")
    page.get_by_role("button", name="Comm").focus()
    page.keyboard.press("Shift+Tab")
    grid.focus()

    def active() -> str:
        return str(
            page.evaluate(
                "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
                ".querySelector('bdi').textContent"
            )
        )

    assert active() == "shop"
    row = _row(page, "shop")
    expect(row).to_have_attribute("aria-expanded", "true")
    expect(row).to_have_attribute("aria-level", "1")
    page.keyboard.press("ArrowLeft")
    expect(row).to_have_attribute("aria-expanded", "false")
    assert _labels(page) == ["shop"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(_row(page, active())).to_have_attribute("aria-level", "2")
    page.keyboard.press("End")
    expect(_row(page, active())).to_have_attribute("aria-level", "3")
    page.keyboard.press("Home")
    assert active() == "shop"
    page.keyboard.press("Enter")
    expect(row).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("Paused at")).to_be_visible()


def test_who_listens_hears_what_bars_show(page: Page) -> None:
    """Bars and trends are pictures with a text; the grid says how many rows it has."""
    _search(page, "burner")
    row = _row(page, "burner")
    expect(row.get_by_role("img").first).to_have_attribute(
        "aria-label", re.compile(r"running \d+ %")
    )
    assert row.get_by_role("img").nth(1).get_attribute("aria-label")
    expect(page.get_by_role("treegrid")).to_have_attribute("aria-rowcount", "4")


def test_it_does_not_ask_while_nobody_looks(opened: Opened, shop: tuple[Serving, int]) -> None:
    """A page in the background asks for nothing, and goes on when it is seen again."""
    page = opened.page

    def hide(hidden: bool) -> None:  # noqa: FBT001 - no browser hides a page for us
        page.evaluate(
            "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
            " document.dispatchEvent(new Event('visibilitychange')); }",
            hidden,
        )

    hide(hidden=True)
    page.wait_for_load_state("networkidle")
    asked = len(opened.requests)
    polls = float(shop[0].metric("threadwatch_polls_total") or "nan")
    until(
        lambda: float(shop[0].metric("threadwatch_polls_total") or "0") > polls + 2, "three polls"
    )
    page.evaluate("0")  # what has happened is told with the answer
    assert len(opened.requests) == asked
    hide(hidden=False)
    until(lambda: page.evaluate("0") == 0 and len(opened.requests) > asked, "it asks again")


def test_a_daemon_that_stops_is_told_and_found_again(browser: Browser, tmp_path: Path) -> None:
    """What is shown is marked as old, with its age, until the daemon answers again."""
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port())
        daemon = stack.enter_context(serving(tmp_path, port=port))
        page = _open(stack, browser, daemon.url).page
        daemon.process.kill()
        alert = page.get_by_role("alert")
        expect(alert).to_have_text("The daemon does not answer.")
        expect(page.get_by_text(re.compile(r"is \d+ seconds old"))).to_be_visible()
        expect(page.get_by_text("Not answering")).to_be_visible()
        again = subprocess.Popen(
            threadwatch("serve", f"--web.listen-address=127.0.0.1:{port}"),
            cwd=CHECKOUT,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(again.wait)
        stack.callback(again.kill)
        expect(page.get_by_text("Live, every")).to_be_visible()
        expect(alert).to_be_hidden()


def test_what_permission_hides_is_told(browser: Browser, tmp_path: Path) -> None:
    """A daemon that may not see all says so, and what would say more; names are the kernel's then."""
    with ExitStack() as stack:
        stack.enter_context(application(code=SHOP))
        prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        daemon = stack.enter_context(serving(tmp_path, prefix=prefix))
        page = _open(stack, browser, daemon.url).page
        expect(page.get_by_text("Permission hides a part")).to_contain_text("threadwatch doctor")
        _search(page, "shop.py")
        until(
            lambda: any(name.startswith("(python") for name in _labels(page)), "comm in parentheses"
        )
        expect(page.get_by_text("no names").first).to_be_visible()


def test_an_empty_host(opened: Opened, shop: tuple[Serving, int]) -> None:
    """Where no Python process is seen, or the daemon alone, the page says so, and how to start one."""
    page = opened.page

    def only(route: Route, pid: int | None) -> None:
        view = route.fetch().json()
        processes = [process for process in view["processes"] if process["pid"] == pid]
        route.fulfill(json={**view, "processes": processes, "groups": []})

    page.route("**/api/v1/view", lambda route: only(route, shop[0].process.pid))
    expect(page.get_by_role("heading", name="No other Python process is seen")).to_be_visible()
    expect(page.get_by_role("treegrid")).to_be_visible()
    page.unroute("**/api/v1/view")
    expect(page.get_by_role("heading", name="No other Python process is seen")).to_be_hidden()
    page.route("**/api/v1/view", lambda route: only(route, None))
    expect(page.get_by_role("heading", name="No Python process is seen")).to_be_visible()
    expect(page.get_by_text("threadwatch run -- python app.py")).to_be_visible()
    expect(page.get_by_role("treegrid")).to_be_hidden()
    page.unroute("**/api/v1/view")


def test_without_javascript_there_is_a_table(browser: Browser, shop: tuple[Serving, int]) -> None:
    """A plain page with the groups and the links, which a text browser can show."""
    with ExitStack() as stack:
        page = _open(stack, browser, shop[0].url, java_script_enabled=False).page
        expect(page.get_by_role("rowheader", name="shop")).to_be_visible()
        expect(page.get_by_role("link", name="Metrics")).to_be_visible()
        expect(page.get_by_label("Theme")).to_be_hidden()


def test_thousands_of_threads(browser: Browser, tmp_path: Path) -> None:
    """2,000 threads are as many elements as there is room for, and an update takes no time to notice."""
    with ExitStack() as stack:
        stack.enter_context(application(name="crowd.py", code=CROWD))
        daemon = stack.enter_context(serving(tmp_path))
        page = _open(stack, browser, daemon.url).page
        _search(page, "crowd.py")
        expect(page.get_by_role("status").filter(has_text="thread")).to_contain_text(
            f"{MANY + 2:,} threads"
        )
        page.get_by_role("button", name="Expand all").click()
        expect(page.get_by_role("treegrid")).to_have_attribute("aria-rowcount", str(MANY + 2 + 3))
        assert page.get_by_role("row").count() < 60
        page.get_by_role("treegrid").focus()
        page.keyboard.press("End")
        expect(page.locator(f"[aria-rowindex='{MANY + 2 + 3}']")).to_be_in_viewport()
        for _ in range(2):
            page.keyboard.press("PageUp")
        until(lambda: _in_order(page), "elements stand in the order of their rows")
        page.evaluate(
            "window.took = []; new PerformanceObserver((list) => took.push(...list.getEntries()"
            ".map((entry) => entry.duration))).observe({ type: 'measure' })"
        )
        # a busy machine makes single updates wait for a CPU; a slow page would make all of them take long
        quick = "took.filter((ms) => ms < 100).length"
        until(lambda: page.evaluate(quick) >= 3, "three updates take less than 100 ms")


def _in_order(page: Page) -> bool:
    """Return whether the rows that there are follow each other in the document as on the screen."""
    numbers = page.evaluate(
        "[...document.querySelectorAll('.rows .row')].map((row) => Number(row.ariaRowIndex))"
    )
    return bool(numbers == list(range(numbers[0], numbers[0] + len(numbers))))


def test_there_is_history_though_nobody_looked(browser: Browser, tmp_path: Path) -> None:
    """What ran before the page was opened has its trend at once."""
    with ExitStack() as stack:
        stack.enter_context(application(code=SHOP))
        daemon = stack.enter_context(serving(tmp_path))
        until(lambda: float(daemon.metric("threadwatch_polls_total") or "0") > 6, "a step")
        page = _open(stack, browser, daemon.url).page
        _search(page, "burner")
        trend = _row(page, "burner").get_by_role("img").nth(1)
        expect(trend).to_have_attribute("aria-label", re.compile(r"average [1-9][\d.]* %, most \d"))
        assert re.match(r"M[\d.]+ [\d.]+L", trend.locator("path").last.get_attribute("d") or "")
