"""What a process publishes, followed through tables of this very process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from threadwatch.errors import ReadError
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.names.published import Published
from threadwatch.names.slot_budget import FREE, SharedBudget
from threadwatch.names.slots import Gil
from threadwatch.procfs import ProcessDir, ProcFS, parse_stat
from threadwatch.publisher import layout
from threadwatch.publisher.memfd import Record, Table

NewTable = Callable[..., Table]


@pytest.fixture
def process() -> Iterator[ProcessDir]:
    """Yield this process."""
    with ProcFS().open_process(os.getpid()) as process:
        yield process


@pytest.fixture
def start_ticks(process: ProcessDir) -> int:
    """Return when this process started."""
    return parse_stat(process.read("stat", "stat")).start_ticks


@pytest.fixture
def published(start_ticks: int) -> Iterator[Published]:
    """Yield what this process publishes, before the first reading."""
    published = Published(ns_pid=os.getpid(), start_ticks=start_ticks)
    yield published
    published.close()


@pytest.fixture
def new_table() -> Iterator[NewTable]:
    """Makes tables, as a publisher does."""
    tables = []

    def new(interpreter: int = 0, gil: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Table:
        tables.append(
            Table(
                flags=0,
                interpreter=interpreter,
                implementation="cpython",
                hexversion=sys.hexversion,
                gil=gil,
            )
        )
        return tables[-1]

    yield new
    for table in tables:
        table.close()


def born(table: Table, tid: int, name: str) -> Record:
    """Return a thread in a table."""
    record = table.add(tid, tid, name)
    assert record is not None
    return record


def name_of(published: Published, tid: int, start_ticks: int) -> str | None:
    """Return the published name of a thread."""
    found = published.slot(tid, start_ticks)
    return found and found[1].name


def ends(published: Published) -> list[tuple[str, int | None]]:
    """Return the names and CPU times of those that have ended since this was last asked."""
    return [(slot.name, slot.cpu_ns) for _, slot in published.take_ended()]


def test_a_thread_that_is_born_after_an_end(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """A thread with the TID of one that ended before is not that one, though it is as young."""
    table = new_table()
    record = born(table, 11, "one")
    published.find(process)
    published.read(process)
    table.end(record, 5_000_000)
    published.read(process)
    ((_, slot),) = published.take_ended()
    ended_ticks = slot.ended_ns // NS_PER_TICK
    assert name_of(published, 11, slot.born_ns // NS_PER_TICK) == "one"
    assert name_of(published, 11, ended_ticks + 1) is None


def test_nothing_is_published_without_a_table(
    process: ProcessDir, published: Published, start_ticks: int
) -> None:
    """A process without a table has no header, no names and no ends, and that is no error."""
    assert published.find(process) == []
    assert published.read(process)
    assert (published.header, ends(published)) == (None, [])
    assert name_of(published, os.getpid(), start_ticks) is None


def test_names_births_and_renames(
    process: ProcessDir, published: Published, new_table: NewTable, start_ticks: int
) -> None:
    """A thread's name is the one that was last written, and new or renamed threads are reported."""
    table = new_table()
    one = born(table, 11, "one")
    assert published.find(process) == []
    published.read(process)
    assert name_of(published, 11, start_ticks) == "one"
    assert published.take_changed() == {11}
    table.rename(one, "another")
    born(table, 12, "two")
    published.read(process)
    assert [name_of(published, tid, start_ticks) for tid in (11, 12)] == ["another", "two"]
    assert published.take_changed() == {11, 12}
    assert published.take_changed() == set()


def test_a_table_of_the_process_that_forked(new_table: NewTable) -> None:
    """A fork that the publisher has not noticed holds its maker's table; a watcher holds none."""
    table = new_table()
    born(table, 11, "one")
    go_on, stop = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # as C code forks: no publisher hears of it
        os.close(stop)
        os.read(go_on, 1)
        os._exit(0)
    os.close(go_on)
    try:
        with ProcFS().open_process(pid) as child:
            ticks = parse_stat(child.read("stat", "stat")).start_ticks
            watching = child.open_table(table.descriptor)
            published = Published(ns_pid=pid, start_ticks=ticks)
            assert published.find(child) == []
            assert published.header is None
            assert published.inherited is not None
            assert published.inherited.pid == os.getpid()
            published.close()
        table.close()
        with ProcFS().open_process(os.getpid()) as own, watching:
            published = Published(ns_pid=pid, start_ticks=ticks)
            published.find(own)
            assert published.inherited is None
    finally:
        os.close(stop)
        os.waitpid(pid, 0)


def test_threads_that_find_no_place_are_counted(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """A table that is full is an error, and again each time that twice as many threads found no place."""
    table = new_table()
    for tid in range(layout.CAPACITY):
        assert table.add(tid, tid, "") is not None
    published.find(process)
    published.read(process)
    told = []
    for more in range(8):
        assert table.add(1, (1 << 40) + more, "one too many") is None
        try:
            published.read(process)
        except ReadError as error:
            told.append((error.source, error.reason, error.detail.split()[0]))
    assert told == [("table", "overflow", number) for number in ("1", "3", "7")]


def test_a_name_is_for_one_thread_and_not_for_its_tid(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """A thread that is younger than the slot with its TID has not published itself."""
    record = born(new_table(), 11, "one")
    published.find(process)
    published.read(process)
    born_ticks = record.born_ns // 10_000_000
    assert name_of(published, 11, born_ticks) == "one"
    assert name_of(published, 11, born_ticks + 2) is None


def test_an_end_is_told_once(
    process: ProcessDir, published: Published, new_table: NewTable, start_ticks: int
) -> None:
    """Each end is given once, with its CPU time; the name stays known as long as the slot does."""
    table = new_table()
    records = [born(table, 11 + i, f"thread {i}") for i in range(2)]
    published.find(process)
    published.read(process)
    table.end(records[0], 5_000_000)
    table.end(records[1], layout.CPU_UNKNOWN)
    published.read(process)
    assert ends(published) == [("thread 0", 5_000_000), ("thread 1", None)]
    born(table, 20, "later")
    published.read(process)
    assert ends(published) == []
    assert name_of(published, 11, start_ticks) == "thread 0"


def test_lives_between_two_looks(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """As many threads as are kept can be born and end between two looks: none is missed, none told twice."""
    table = new_table()
    published.find(process)
    for look in range(3):
        for number in range(layout.RETAIN_SLOTS):
            table.end(born(table, 11, f"{look} {number}"), number)
        told: list[tuple[str, int | None]] = []
        for _ in range(
            layout.RETAIN_SLOTS // FREE
        ):  # these cost less than real ones: not all at once
            published.read(process)
            told += ends(published)
        expected = [(f"{look} {number}", number) for number in range(layout.RETAIN_SLOTS)]
        assert sorted(told, key=lambda end: end[1] or 0) == expected


def test_ends_in_a_table_that_is_found_late(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """The time of ends before the last look is charged to (unattributed): they come without CPU time."""
    published.find(process)
    table = new_table()
    table.end(born(table, 11, "before"), 5)
    assert ends(published) == []
    table.end(born(table, 12, "after"), 6)
    published.find(process)
    published.read(process)
    assert ends(published) == [("before", None), ("after", 6)]


def test_ends_from_before_the_first_look_of_all(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """When a process is looked at for the first time, ends that its table still tells are news."""
    table = new_table()
    table.end(born(table, 11, "before"), 5)
    published.find(process)
    published.read(process)
    assert ends(published) == [("before", 5)]


def test_a_table_that_is_left(
    process: ProcessDir, published: Published, new_table: NewTable, start_ticks: int
) -> None:
    """A table that its publisher has left is read once more and then forgotten; the next one is found."""
    table = new_table()
    record = born(table, 11, "one")
    published.find(process)
    published.read(process)
    table.end(record, 7)
    table.close()
    assert not published.read(process)
    assert ends(published) == [("one", 7)]
    assert published.header is None
    born(new_table(), 12, "two")
    published.find(process)
    assert published.read(process)
    assert name_of(published, 12, start_ticks) == "two"


def test_another_table_at_the_same_descriptor(
    process: ProcessDir, published: Published, new_table: NewTable, start_ticks: int
) -> None:
    """After exec the new program's table can have the old one's number: a young unknown thread tells."""
    old = new_table()
    born(old, 11, "old")
    published.find(process)
    published.read(process)
    new = new_table()
    born(new, 12, "new")
    os.dup2(new.descriptor, old.descriptor, inheritable=False)
    assert published.read(process)
    assert name_of(published, 12, start_ticks) is None
    assert not published.read(process)
    published.find(process)
    assert published.read(process)
    assert [name_of(published, tid, start_ticks) for tid in (11, 12)] == [None, "new"]


def test_the_main_interpreters_name_counts(
    process: ProcessDir, published: Published, new_table: NewTable, start_ticks: int
) -> None:
    """Where two interpreters know a thread, its name is the one in the main interpreter."""
    born(new_table(interpreter=1), 11, "in a subinterpreter")
    born(new_table(interpreter=0), 11, "in the main one")
    published.find(process)
    published.read(process)
    assert name_of(published, 11, start_ticks) == "in the main one"
    assert published.header is not None
    assert published.header.interpreter == 0


@pytest.mark.parametrize("foreign", ["pid", "start"])
def test_the_table_of_another_process(
    process: ProcessDir, new_table: NewTable, start_ticks: int, foreign: str
) -> None:
    """A table that names another process is not believed, and is no error: forks inherit such tables."""
    born(new_table(), 11, "one")
    published = Published(
        ns_pid=os.getpid() + (foreign == "pid"),
        start_ticks=start_ticks + (foreign == "start"),
    )
    assert published.find(process) == []
    assert published.header is None
    published.close()


def test_the_table_of_another_user(
    process: ProcessDir, new_table: NewTable, start_ticks: int
) -> None:
    """A table that belongs to neither the process's user nor root is an error, counted once."""
    table = new_table()
    os.fchown(table.descriptor, 4711, -1)
    published = Published(ns_pid=os.getpid(), start_ticks=start_ticks)
    errors: list[ReadError] = published.find(process)
    assert [(error.source, error.reason) for error in errors] == [("table", "malformed")]
    assert "belongs to uid 4711" in errors[0].detail
    assert published.find(process) == []
    assert published.header is None
    published.close()


def test_whose_a_table_is_holds_for_the_moment(
    process: ProcessDir, published: Published, new_table: NewTable, start_ticks: int
) -> None:
    """A table of the wrong user is believed once the user is the right one, and what is believed stays so."""
    table = new_table()
    born(table, 11, "one")
    os.fchown(table.descriptor, 4711, -1)
    published.find(process)
    assert published.header is None
    os.fchown(table.descriptor, os.geteuid(), -1)
    assert published.find(process) == []
    published.read(process)
    assert name_of(published, 11, start_ticks) == "one"
    os.fchown(table.descriptor, 4711, -1)
    born(table, 12, "two")
    assert published.read(process)
    assert published.find(process) == []
    assert name_of(published, 12, start_ticks) == "two"


def test_each_gil_is_told_once(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """Interpreters that share a GIL tell of the same one; the main interpreter's comes first."""
    assert not published.gils
    new_table(2, gil=(0x2000, 208, 152, 160))
    new_table(1, gil=(0x1000, 208, 152, 160))
    new_table(0, gil=(0x1000, 208, 152, 160))
    new_table(3)
    published.find(process)
    assert published.gils == (Gil(0x1000, 208, 152, 160), Gil(0x2000, 208, 152, 160))


def test_a_gil_is_told_as_long_as_there_is_a_table_of_it(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """Not once another table is at its place (exec), nor once it is closed (its interpreter has ended)."""
    here, there = Gil(0x1000, 208, 152, 160), Gil(0x2000, 208, 152, 160)
    first = new_table(0, gil=(0x1000, 208, 152, 160))
    second = new_table(1, gil=(0x2000, 208, 152, 160))
    published.find(process)

    def told() -> list[bool]:
        return [published.still_tells(process, gil) for gil in (here, there, Gil(8, 208, 0, 0))]

    assert told() == [True, True, False]
    second.close()
    assert told() == [True, False, False]
    os.dup2(new_table().descriptor, first.descriptor, inheritable=False)
    assert told() == [False, False, False]


def test_idents_are_those_of_living_threads(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """An ident gives the TID of the thread that has it now, even if another had it before, or none."""
    table = new_table()
    first = table.add(11, 0x7F00, "one")
    table.add(12, 0x7F40, "two")
    assert first is not None
    published.find(process)
    published.read(process)
    assert [published.tid_of_ident(ident) for ident in (0x7F00, 0x7F40, 11)] == [11, 12, None]
    table.end(first, 1)
    published.read(process)
    assert published.tid_of_ident(0x7F00) is None
    table.add(13, 0x7F00, "three")
    published.read(process)
    assert published.tid_of_ident(0x7F00) == 13
    new_table(1).add(14, 0x7F00, "of another interpreter, whose last word nobody heard")
    published.find(process)
    published.read(process)
    assert published.tid_of_ident(0x7F00) == 14


def test_idents_of_slots_that_are_used_again(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """Where an end was missed, because another thread has the slot by now, the ident belongs to no thread."""
    table = new_table()
    published.find(process)
    before = None
    for number in range(layout.RETAIN_SLOTS + 1):
        record = table.add(number + 1, number + 1, "short")
        assert record is not None
        if number == 0:
            published.read(process)
            before = published.tid_of_ident(1)
        table.end(record, 1)
    last = table.add(1 << 20, 1 << 20, "in the first slot")
    assert last is not None
    assert last.index == 0
    published.read(process)
    assert (before, published.tid_of_ident(1)) == (1, None)
    assert published.tid_of_ident(1 << 20) == 1 << 20


_SLEEPER = """
import time
while time.process_time() < {}: pass
print(flush=True)
time.sleep(1000)
"""


class Flood:
    """A process that burns some CPU time and then sleeps, and a table of its own that we write."""

    def __init__(self, burnt_s: float, user: int | None = None) -> None:
        self._memfd = os.memfd_create(layout.NAME, os.MFD_CLOEXEC)
        os.ftruncate(self._memfd, layout.HEADER_SIZE + layout.CAPACITY * layout.SLOT_SIZE)
        self._program = subprocess.Popen(
            ["/usr/bin/python3", "-S", "-c", _SLEEPER.format(burnt_s)],
            stdout=subprocess.PIPE,
            pass_fds=[self._memfd],
            user=user,
        )
        assert self._program.stdout is not None
        self._program.stdout.readline()
        self.dir = ProcFS().open_process(self._program.pid)
        stat = parse_stat(self.dir.read("stat", "stat"))
        head = layout.pack_static(
            flags=0,
            pid=self._program.pid,
            start_ticks=stat.start_ticks,
            hexversion=sys.hexversion,
            interpreter=0,
            created_ns=1,
            implementation=b"cpython",
        )
        os.pwrite(self._memfd, head, 0)
        self._generation = 0

    @property
    def paid(self) -> int:
        """Return the slots that it has paid for so far: to begin to sleep costs something, too."""
        stat = parse_stat(self.dir.read("stat", "stat"))
        return (stat.user_ticks + stat.system_ticks) * 10_000_000 // 20_000

    def published(self, room: SharedBudget | None = None) -> Published:
        """Return what it publishes."""
        start = parse_stat(self.dir.read("stat", "stat")).start_ticks
        published = Published(ns_pid=self._program.pid, start_ticks=start, budget=room)
        assert published.find(self.dir) == []
        return published

    def write(self, count: int, name: bytes) -> None:
        """Make this many living threads of that name."""
        slots = b"".join(
            layout.pack_slot(layout.LIVE, 0, n + 1, n + 1, n + 1, 1, 0, 0, 0, name).ljust(
                256, b"\0"
            )
            for n in range(count)
        )
        os.pwrite(self._memfd, slots, layout.HEADER_SIZE)
        self.touch()

    def touch(self) -> None:
        """Say that something has changed."""
        self._generation += 1
        os.pwrite(self._memfd, layout.DYNAMIC.pack(self._generation, 0), layout.DYNAMIC_OFFSET)

    def close(self) -> None:
        """End it."""
        self.dir.close()
        os.close(self._memfd)
        self._program.kill()
        self._program.communicate()


NewFlood = Callable[..., Flood]


@pytest.fixture
def new_flood() -> Iterator[NewFlood]:
    """Makes such processes."""
    floods = []

    def new(burnt_s: float, user: int | None = None) -> Flood:
        floods.append(Flood(burnt_s, user))
        return floods[-1]

    yield new
    for flood in floods:
        flood.close()


def test_a_flood_is_kept_as_far_as_it_is_paid_for(new_flood: NewFlood) -> None:
    """Of a table that is full at no cost to its process, as much is kept as its CPU time can have made."""
    flood = new_flood(0)
    flood.write(layout.CAPACITY, b"thread")
    published = flood.published()
    for _ in range(100):
        flood.touch()
        published.read(flood.dir)
    kept = len(published.take_changed())
    assert flood.paid < 10_000, "it has burnt no CPU time"
    assert FREE <= kept <= FREE + 2 + flood.paid + layout.CHUNK


def test_a_flood_is_read_as_far_as_it_is_paid_for(new_flood: NewFlood) -> None:
    """An old process has its slots read once; changes that cost it nothing are read a few at a time."""
    flood = new_flood(0.2)
    published = flood.published()
    flood.write(8000, b"thread")
    for _ in range(8000 // FREE):
        published.read(flood.dir)
    assert len(published.take_changed()) == 8000
    read = 0
    rounds = 40
    for number in range(rounds):
        flood.write(8000, b"renamed %d" % number)
        published.read(flood.dir)
        read += len(published.take_changed())
    # what it has not spent yet, and in each round what is free, and what two threads, or one, have free
    saved = max(flood.paid - 8000, 0) + layout.RETAIN_SLOTS
    assert rounds * FREE <= read <= saved + rounds * (FREE + 2 + layout.CHUNK)
    assert saved + rounds * (FREE + 2 + layout.CHUNK) < rounds * 8000 // 10


def test_users_have_a_share_of_what_is_kept(new_flood: NewFlood) -> None:
    """One user's tables get half of what others leave; what has no place is one error."""
    room = SharedBudget(2, slots=1000)
    flood = new_flood(0.1)
    flood.write(5000, b"thread")
    greedy = flood.published(room)
    with pytest.raises(ReadError) as caught:
        greedy.read(flood.dir)
    assert (caught.value.source, caught.value.reason) == ("table", "enospc")
    assert len(greedy.take_changed()) == 500 // layout.CHUNK * layout.CHUNK
    assert greedy.read(flood.dir)
    of_another = new_flood(0.05, user=4711)
    of_another.write(100, b"thread")
    other = of_another.published(room)
    assert other.read(of_another.dir)
    assert len(other.take_changed()) == 100
    greedy.close()
    other.close()
    assert room.take(1, 1000) == 500


def test_last_words_are_few_together() -> None:
    """Of ended processes, which cannot be asked what they paid, a limited number of slots is read."""
    room = SharedBudget(2)
    most = [room.last_words()]
    for _ in range(4):
        room.spend_words(most[-1])
        most.append(room.last_words())
    assert most[:4] == [layout.RETAIN_SLOTS] * 4
    assert most[4] < layout.RETAIN_SLOTS


def test_one_slot_that_changes_all_the_time(
    process: ProcessDir, published: Published, new_table: NewTable
) -> None:
    """Whatever TIDs and idents a slot goes through, the last ones are remembered and no others."""
    table = new_table()
    published.find(process)
    for tid in range(1, 1000):
        slot = layout.pack_slot(layout.LIVE, 0, 1, tid, tid, 1, 0, 0, 0, b"always the first")
        table._map[layout.HEADER_SIZE : layout.HEADER_SIZE + len(slot)] = slot
        table._changed()
        published.read(process)
    assert [published.slot(tid, 0) is not None for tid in (1, 998, 999)] == [False, False, True]
    (followed,) = published._tables
    assert (len(followed.by_tid), len(followed.by_ident)) == (1, 1)


def test_tables_share_the_slots_of_one(
    process: ProcessDir, start_ticks: int, new_table: NewTable
) -> None:
    """Second and further tables of all processes have limited places, and as many slots as one."""
    room = SharedBudget(2)
    both = [Published(ns_pid=os.getpid(), start_ticks=start_ticks, budget=room) for _ in range(2)]
    try:
        for number in range(4):
            new_table(number)
        assert [(e.source, e.reason) for e in both[0].find(process)] == [("table", "emfile")]
        assert room.files_left == 0
        both[1].find(process)
        assert room.files_left == 0
        both[0].close()
        assert room.files_left == 2
    finally:
        for published in both:
            published.close()
