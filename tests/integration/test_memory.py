"""Memory is bounded: what has gone and expired leaves nothing behind, and begins anew if it returns."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest

from tests import testbed
from tests.loads import Load, Watch
from threadwatch.accounting.history import History
from threadwatch.metrics.exporter import Exporter
from threadwatch.model.keys import OTHER, SeriesKey
from threadwatch.model.view import GroupView
from threadwatch.names.slots import Slot

WAVES, SIZE = 6, 125
BOUNDED = (
    *("/groups.py", "/exposition.py", "/table.py", "/handles.py", "/slots.py", "/comm.py"),
    "/root.py",
)
"""Where caches are filled, and tables and the names in them are read."""


@pytest.fixture
def traced() -> Iterator[None]:
    """Memory is traced meanwhile."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_memory_is_flat_while_groups_and_names_come_and_go() -> None:
    """750 groups, and 3000 names, that come and go leave nothing behind.

    A group and a name that come back have nothing of what they had before. What a lasting group has used
    under names that expire stays in its sum.
    """
    watch = Watch(
        name="{comm}", match={"comm": "^load-"}, expire_after="1s", threads={"cap": 2 * SIZE}
    )
    exporter = Exporter()
    load = Load(testbed.require(3, 11), "load_waves.py", watch.mark, str(WAVES), str(SIZE))
    left = []
    try:
        load.hear("ready")
        watch.poll_until(lambda: "load-lasting" in groups(watch), "the group that lasts")
        load.go()
        for wave in range(WAVES):
            load.hear("there")
            watch.poll_until(lambda: len(groups(watch)) == 1 + SIZE, "the groups")
            watch.settle()
            lasting, back = groups(watch)["load-lasting"], groups(watch)["load-back"]
            assert lasting.series.keys() >= {SeriesKey(f"job {wave}.{n}") for n in range(1, SIZE)}
            for group, name in ((lasting, "back"), (back, "load-back-one"), (back, "MainThread")):
                assert group.series[SeriesKey(name)].started == 1, name
            exporter.publish(watch.views[-1])
            assert b'group="load-back"' in exporter.render(None, None).body
            load.go()
            load.hear("gone")
            watch.poll_until(lambda: groups(watch).keys() == {"load-lasting"}, "the groups to go")
            watch.poll_until(
                lambda: (
                    groups(watch)["load-lasting"].series.keys()
                    == {SeriesKey("MainThread"), SeriesKey(OTHER)}
                ),
                "the names to go",
            )
            assert groups(watch)["load-lasting"].series[SeriesKey(OTHER)].ended == SIZE * (wave + 1)
            exporter.publish(watch.views[-1])
            assert b'group="load-back"' not in exporter.render(None, None).body
            del watch.views[:-1]
            del lasting, back, group
            if wave in {2, WAVES - 1}:
                left.append(least_that_remains(watch, exporter))
            load.go()
    finally:
        watch.close()
        load.close()
    print(left)
    # the first waves make whatever there is one of
    (objects, size), (objects_then, size_then) = left
    gone = SIZE * (WAVES - 3)
    assert objects_then - objects < gone / 10
    assert size_then - size < gone * 20


def least_that_remains(watch: Watch, exporter: Exporter) -> tuple[int, int]:
    """Return the least of what remains after each of some polls, without history and ended parents."""
    watch.poller._account._history = History()
    watch.poller._account.children._heirs.clear()  # after a minute they go by themselves
    found = []
    for _ in range(5):
        watch.poll()
        exporter.publish(watch.views[-1])  # whose history is the new one
        del watch.views[:-1]
        (process,) = watch.poller._discovery.watched.values()
        process.threads.unchecked.clear()  # threads to be checked in turns, those that have gone among them
        found.append(remains())
    return min(objects for objects, _ in found), min(size for _, size in found)


def remains() -> tuple[int, int]:
    """Return how many objects there are, and how many bytes the code of threadwatch has allocated.

    Without what is kept on purpose and bounded: caches of names and labels, the history, which lets go of
    what has gone every five seconds, and the table of the process that lasts. A table holds threads that
    have ended for 30 s, and their reader what the table holds.
    """
    gc.collect()
    objects = sum(not isinstance(found, Slot) for found in gc.get_objects())
    files = tracemalloc.take_snapshot().statistics("filename")
    ours = (file for file in files if "/threadwatch/" in file.traceback[0].filename)
    return objects, sum(
        file.size for file in ours if not file.traceback[0].filename.endswith(BOUNDED)
    )


def groups(watch: Watch) -> dict[str, GroupView]:
    """Return the groups by name, as the last poll has them."""
    return {group.name: group for group in watch.views[-1].groups}
