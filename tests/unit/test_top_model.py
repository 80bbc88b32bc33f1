"""Top's model: a view and what the user chose → rows, and where the cursor is."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.top import busy, hostile, many, poll, running, shop, text, thread
from tests.views import with_loop
from threadwatch.errors import Unusable
from threadwatch.model.states import NAMES
from threadwatch.top.bars import LETTERS, MEANINGS, divide
from threadwatch.top.batch import batch
from threadwatch.top.columns import layout
from threadwatch.top.detail import detail
from threadwatch.top.guide import guide
from threadwatch.top.history import KEPT, History
from threadwatch.top.model import Top
from threadwatch.top.order import SORTS, Sort
from threadwatch.top.rows import Shape
from threadwatch.top.title import figures, footer, nothing, title
from threadwatch.words.text import width


def _top(**shape: object) -> Top:
    top = Top((), replace(Shape(), **shape))  # type: ignore[arg-type]  # of Shape's fields
    top.take(shop())
    return top


def _names(top: Top) -> list[str]:
    return ["  " * row.depth + row.name for row in top.rows]


def _sort(name: str) -> Sort:
    (found,) = (sort for sort in SORTS if sort.name == name)
    return found


def test_the_tree_has_groups_processes_and_threads_the_busiest_first() -> None:
    """A group of several processes has a row, one of a single process shares its; all in order of CPU."""
    assert _names(_top()) == [
        "shop",
        "  python3 app.py",
        "    price-engine",
        "    http_0",
        "    housekeeping",
        "    (native-io)",
        "  worker, forked",
        "    MainThread",
        "cron",
        "  MainThread",
    ]


def test_tasks_stand_under_their_thread_and_can_be_folded() -> None:
    """A thread with a loop has its tasks below it, the busiest first, until its row is closed."""
    top = Top()
    top.take(
        poll(1, with_loop(running(300, "cron", thread(300, "MainThread"), thread(301, "pool_0"))))
    )
    tree = ["cron", "  MainThread", "    shop.pay", "    (loop)", "    Server.serve", "  pool_0"]
    assert _names(top) == tree
    _, main, pay, *_ = top.rows
    assert (main.note, pay.note) == (
        "loop held 62.0 %, 250 ms late, 2 ready",
        "held 60.0 %, 1 ready, 12 waiting",
    )
    assert (pay.figures.cpu_ratio, pay.timed, pay.thread) == (0.4, (), None)
    top.move(1)
    top.fold(opened=False)
    assert _names(top) == [*tree[:2], tree[-1]]
    top.filter("server.serve")
    assert _names(top) == tree[:-1]


def test_a_group_and_a_process_have_the_sums_of_their_threads() -> None:
    """CPU, GIL and ready of a group are those of its processes together."""
    top = _top()
    group, process, *_ = top.rows
    assert (group.figures.cpu_ratio, process.figures.cpu_ratio) == (0.4375, 0.375)
    assert (group.figures.gil_wait_ratio, process.figures.gil_wait_ratio) == (0.625, 0.625)
    assert group.figures.gil_held_ratio == 0.4375
    assert group.note == "2 processes, 5 threads"


@pytest.mark.parametrize(
    ("name", "first"),
    [("cpu", 101), ("held", 101), ("wait", 102), ("time", 101), ("tid", 101), ("state", 102)],
)
def test_each_order_puts_its_first_thread_first(name: str, first: int) -> None:
    """In a list of threads, each order begins with the thread that has the most of it."""
    top = _top(flat=True, sort=_sort(name))
    assert top.rows[0].figures.tid == first
    top.reverse()
    assert top.rows[-1].figures.tid == first


def test_what_is_not_known_comes_last_in_either_direction() -> None:
    """A thread without a figure stands behind those with one, reversed or not."""
    top = Top((), Shape(flat=True, sort=_sort("held")))
    unknown = thread(1, "unknown", gil_held_ratio=None)
    top.take(poll(1, running(9, "x", unknown, busy(2, "b", 0.5), busy(3, "c", 0.25))))
    assert [row.name for row in top.rows] == ["b", "c", "unknown"]
    top.reverse()
    assert [row.name for row in top.rows] == ["c", "b", "unknown"]


def test_the_order_is_that_of_what_is_shown() -> None:
    """Differences that one decimal does not show do not move rows: equal ones are in order of their TIDs."""
    top = Top((), Shape(flat=True))
    for number in range(1, 4):
        noise = [0.25 + random.uniform(0, 0.0004) for _ in range(6)]
        threads = [busy(tid, f"t{tid}", cpu) for tid, cpu in enumerate(noise, 1)]
        top.take(poll(number, running(9, "x", *threads)))
        assert [row.figures.tid for row in top.rows] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ("http", ["http_0"]),
        ("HTTP_0|house", ["http_0", "housekeeping"]),
        ("103", ["housekeeping"]),
        ("gil", ["http_0"]),
        ("cron", ["MainThread"]),
        ("native-io", ["(native-io)"]),
        ("200", ["MainThread"]),
        ("nothing like it", []),
        (" | ", [*"12345678"][:6]),
    ],
)
def test_the_filter_finds_by_name_state_tid_and_application(filter_: str, found: list[str]) -> None:
    """A thread is shown if a word is part of what is known of it, or of its process; | separates words."""
    top = _top()
    top.filter(filter_)
    names = [row.name for row in top.rows if row.thread is not None]
    assert len(names) == len(found)
    if filter_.strip(" |"):
        assert names == found


def test_a_filter_opens_what_is_closed() -> None:
    """What fits is seen even below a closed process, which is closed again afterwards."""
    top = _top()
    top.fold_all()
    assert _names(top) == ["shop", "cron"]
    top.filter("price")
    assert _names(top) == ["shop", "  python3 app.py", "    price-engine"]
    top.filter("")
    assert _names(top) == ["shop", "cron"]


def test_idle_threads_can_be_hidden() -> None:
    """Without idle threads, those remain that run or wait to; processes without any are not shown."""
    top = _top(busy=True)
    assert [row.name for row in top.rows if row.thread] == ["price-engine", "http_0", "MainThread"]
    assert "cron" not in _names(top)


def test_folding() -> None:
    """Closing hides what is below; ← on a thread goes to its process, on that closes it, then its group."""
    top = _top()
    top.move(3)
    top.fold(opened=False)
    assert top.at == 1
    top.fold(opened=False)
    assert _names(top)[:3] == ["shop", "  python3 app.py", "  worker, forked"]
    assert top.at == 1
    top.fold(opened=False)
    assert top.at == 0
    top.fold(opened=False)
    assert _names(top) == ["shop", "cron", "  MainThread"]
    top.fold(opened=True)
    assert "  python3 app.py" in _names(top)
    top.fold()
    assert _names(top)[:2] == ["shop", "cron"]


def test_closing_all_keeps_the_cursor_on_what_its_row_is_in() -> None:
    """* on a thread closes everything and leaves the cursor on the thread's group."""
    top = _top()
    top.move(9)
    top.fold_all()
    assert top.current is not None
    assert top.current.name == "cron"
    top.fold_all()
    assert len(top.rows) == 10


def test_the_cursor_stays_on_its_thread() -> None:
    """The cursor follows its thread in the order; one that was not moved stays on the first row."""
    top = Top((), Shape(flat=True))
    top.take(poll(1, running(9, "x", busy(1, "a", 0.5), busy(2, "b", 0.25), busy(3, "c", 0.125))))
    assert top.at == 0
    top.take(poll(2, running(9, "x", busy(1, "a", 0.1), busy(2, "b", 0.25), busy(3, "c", 0.125))))
    assert (top.at, top.rows[0].name) == (0, "b")
    top.move(1)
    assert top.current is not None
    assert top.current.name == "c"
    top.take(poll(3, running(9, "x", busy(1, "a", 0.1), busy(2, "b", 0.25), busy(3, "c", 0.75))))
    assert (top.at, top.current.name) == (0, "c")
    top.take(poll(4, running(9, "x", busy(1, "a", 0.5), busy(2, "b", 0.25), busy(3, "c", 0.125))))
    assert (top.at, top.current.name) == (2, "c")


def test_the_cursor_of_a_thread_that_has_ended_stays_where_it_was() -> None:
    """What takes the row's place has the cursor; at the end of the list, the last row."""
    top = Top((), Shape(flat=True))
    threads = [busy(tid, f"t{tid}", 0.5 - tid / 10) for tid in range(1, 5)]
    top.take(poll(1, running(9, "x", *threads)))
    top.move(2)
    top.take(poll(2, running(9, "x", *threads[:2], threads[3])))
    assert top.current is not None
    assert top.current.name == "t4"
    top.take(poll(3, running(9, "x", threads[0])))
    assert top.current.name == "t1"
    top.take(poll(4))
    assert (list(top.rows), top.at) == ([], 0)


def test_a_pause_shows_what_there_was_and_keeps_what_comes() -> None:
    """Paused, the rows stand still; afterwards the newest view is shown, and no poll lacks in the history."""
    top = Top()
    one = running(9, "x", busy(1, "a", 0.5))
    top.take(poll(1, one))
    top.take(poll(2, one))
    top.pause()
    for number in range(3, 6):
        top.take(poll(number, running(9, "x", busy(1, "a", 0.25))))
    assert top.rows[0].figures.cpu_ratio == 0.5
    top.pause()
    assert top.rows[0].figures.cpu_ratio == 0.25
    (key,) = top.rows[1].threads
    assert len(top.history.line(key)) == 4


def test_what_was_asked_for() -> None:
    """Words name PIDs and applications, with what they started; what nothing has ends it only at first."""
    top = Top(("100",))
    top.take(shop())
    assert {row.process.key.pid for row in top.rows if row.process} == {100, 200}
    top.take(poll(2, *(p for p in shop().processes if p.key.pid != 100)))
    assert {row.process.key.pid for row in top.rows if row.process} == {200}, "the child lives on"
    top.take(poll(3))
    assert list(top.rows) == []
    assert "100" in nothing(top)[0]
    with pytest.raises(Unusable, match="top: no application is called 'nosuch'"):
        Top(("nosuch",)).take(shop())


def test_the_history_adds_up_by_time() -> None:
    """The bar's shares are those of the last ten seconds, weighed by how long each poll was."""
    history = History()
    shares = [{"running": 1.0}, {"sleep": 1.0}, {"sleep": 0.5, "gil": 0.5}]
    moments = [1, 2, 5]  # seconds: the second poll is one second long, the third three
    for second, states in zip(moments, shares, strict=True):
        history.add(poll(second, running(9, "x", busy(1, "a", 0.1, states=states))))
    (key,) = ((p.key, t.tid, t.start_ticks) for p in [running(9, "x")] for t in [busy(1, "a", 0.1)])
    assert history.shares(key) == pytest.approx({"sleep": (1 + 1.5) / 4, "gil": 1.5 / 4})
    assert history.line(key) == [(1.0, shares[1]), (3.0, shares[2])]
    for second in range(6, 30):
        history.add(poll(second, running(9, "x", busy(1, "a", 0.1, states={"disk": 1.0}))))
    assert history.shares(key) == pytest.approx({"disk": 1.0})


def test_the_history_is_bounded_and_forgets_the_ended() -> None:
    """At most KEPT polls of a thread are remembered, and none of one that has ended."""
    history = History()
    for second in range(KEPT + 50):
        history.add(poll(second, running(9, "x", busy(1, "a", 0.1, user_ns=second))))
    key = (running(9, "x").key, 1, 4_200)
    assert len(history.line(key)) == KEPT - 1
    history.add(poll(KEPT + 50))
    assert history.line(key) == []
    assert history.shares(key) == {}


def test_bars_are_as_wide_as_they_should_be() -> None:
    """Whatever the shares, a bar has the cells of the time that is known, and each state about its own."""
    generator = random.Random(5)
    for cells in (1, 7, 10, 18, 60):
        for _ in range(200):
            states = generator.sample(NAMES, generator.randint(1, 6))
            parts = [generator.random() for _ in states]
            known = generator.choice([1.0, 1.0, 0.5])
            shares = {s: known * p / sum(parts) for s, p in zip(states, parts, strict=True)}
            divided = dict(divide(shares, cells))
            assert abs(sum(divided.values()) - known * cells) <= 0.501
            for state, share in shares.items():
                assert abs(divided.get(state, 0) - share * cells) < 1.5
    assert divide({}, 10) == []


def test_every_state_has_a_letter_of_its_own() -> None:
    """Bars can be read without colours: the letters of all states differ, and help explains each."""
    assert len(set(LETTERS.values())) == len(NAMES)
    said = "\n".join(map(text, guide()))
    assert all(state in said and MEANINGS[state] in said for state in NAMES)


@pytest.mark.parametrize("columns", [*range(1, 60, 7), 79, 80, 81, 99, 100, 120, 131, 200, 300])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    """At any width every line has that width at most, and hostile names leave nothing unprintable."""
    for made in (shop, hostile):
        top = Top()
        for number in (1, 2):
            top.take(made(number))
        chosen = layout(columns, top.known)
        lines = [chosen.head(sort, reverse=flag) for sort in SORTS for flag in (True, False)]
        lines += (
            chosen.cells(row, top.history.together(row.threads, row.whole), 100.0)
            for row in top.rows
        )
        lines.append(
            title(top, where="host", trouble="no answer", interval=1.0, columns=max(columns, 40))
        )
        lines.append(figures(top, notes="", shown=(0, 3), columns=max(columns, 40)))
        if columns >= 20:
            lines.append(footer(columns))
        limit = max(columns, 40)
        for line in lines:
            assert text(line).isprintable()
            assert width(text(line)) <= (columns if columns >= 40 else limit), text(line)


def test_columns_align() -> None:
    """Every row of a list is as wide as its head, so that figures stand below their titles."""
    top = Top()
    top.take(hostile(1))
    top.take(hostile(2))
    for columns in (60, 80, 120, 200):
        chosen = layout(columns, top.known)
        wide = width(text(chosen.head(SORTS[0], reverse=False)))
        for row in top.rows:
            line = chosen.cells(row, top.history.together(row.threads, row.whole), 100.0)
            assert width(text(line)) == wide


def test_columns_of_which_nothing_is_known_are_left_out() -> None:
    """Where no GIL is seen, there are no columns of it; once seen, they stay."""
    top = Top()
    unseen = thread(1, "a", gil_held_ratio=None, gil_wait_ratio=None)
    top.take(poll(1, running(9, "x", unseen)))
    assert "GIL" not in text(layout(200, top.known).head(SORTS[0], reverse=False))
    top.take(poll(2, running(9, "x", busy(1, "a", 0.5))))
    top.take(poll(3, running(9, "x", unseen)))
    assert "GIL HELD" in text(layout(200, top.known).head(SORTS[0], reverse=False))


def test_every_order_has_its_column() -> None:
    """Each order is by a column that is shown and marked, however narrow the terminal; its key is its own."""
    for columns in (250, 80):
        for sort in SORTS:
            spans = layout(columns, keep=sort.column).head(sort, reverse=False)
            (marked,) = (span.text for span in spans if span.style == "head-sorted")
            title = sort.column if columns > 80 else sort.column.removeprefix("GIL ")
            assert title in marked
    assert len({sort.key for sort in SORTS}) == len({sort.name for sort in SORTS}) == len(SORTS)


def test_the_detail_of_a_thread_says_all_that_is_known() -> None:
    """Name, TID, application, states over time and the kernel's stack are there, or why they are not."""
    top = Top()
    for number in range(1, 6):
        top.take(shop(number))
    process = top.view.processes[0] if top.view else running(1, "x")
    one = process.threads[1]
    lines = detail(
        process,
        one,
        top.history.line((process.key, one.tid, one.start_ticks)),
        "only on the host itself",
        ["Shop.answer  /srv/shop/web.py:71"],
        gone=False,
        started=1_795_392_000.0,
        uptime=100.0,
        columns=80,
    )
    said = "\n".join(map(text, lines))
    for part in (
        "http_0",
        "102",
        "PID 100",
        "shop",
        "CPython 3.12.1",
        "only on the host",
        "web.py:71",
        "gil",
    ):
        assert part in said
    assert "50.0 %   waits for the GIL" in said
    assert all(width(text(line)) <= 80 for line in lines)


def test_batch_has_every_row() -> None:
    """The text of one view has a line for each row, whatever the terminal's height would be."""
    top = Top()
    top.take(many(20, 10))
    lines = list(batch(top, where="http://elsewhere", columns=None))
    assert len(lines) == 4 + len(top.rows)
    assert lines[0].startswith("threadwatch  http://elsewhere  testhost  20")
    assert all(line == line.rstrip() for line in lines)
