"""Whose groups there is room for, when some user's processes have very many names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.harness import until
from tests.serving import application
from threadwatch.accounting import places
from threadwatch.accounting.account import Account
from threadwatch.accounting.group import GroupRules
from threadwatch.accounting.places import MOST_GROUPS, SHARE
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.model.keys import OTHER, ProcessKey
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

RULES = GroupRules("group", 200, str, 900 * 10**9)
FIXED = GroupRules("group", 200, str, 900 * 10**9, fixed=True)
ALICE, BOB, CAROL = 1000, 1001, 1002


TICKS = """
def tick():
    while True:
        time.sleep(0.001)
threading.Thread(target=tick, daemon=True).start()
"""
"""A process at rest is not read, and has nothing to be charged."""


class Host:
    """Processes that come and go, one a nanosecond."""

    def __init__(self) -> None:
        self.account = Account()
        self.now_ns = 0

    def start(self, group: str, owner: int, rules: GroupRules = RULES) -> tuple[ProcessKey, str]:
        """Return a process, and the group that it is charged to."""
        self.now_ns += 1
        key = ProcessKey(self.now_ns, self.now_ns)
        return key, self.account.open(key, group, rules, self.now_ns, owner)

    def run(self, group: str, owner: int) -> str:
        """Return a process that has ended; the group that it was charged to."""
        key, charged_to = self.start(group, owner)
        self.account.close(key, (), self.now_ns)
        return charged_to

    def names(self) -> set[str]:
        """Return the groups that there are."""
        return {group.name for group in self.account.groups(self.now_ns)}


@pytest.fixture
def host() -> Host:
    """Return a host on which no process has started another."""
    return Host()


def test_names_of_processes_that_have_ended_make_room(host: Host) -> None:
    """However many names a user's programs had, those of other users and its own next ones have groups."""
    assert host.run("cron", BOB) == "cron"
    for number in range(3 * MOST_GROUPS):
        assert host.run(f"junk-{number}", ALICE) == f"junk-{number}"
    assert host.start("shop", BOB)[1] == "shop"
    assert host.start("mine", ALICE)[1] == "mine"
    assert host.names() >= {"cron", "shop", "mine"}
    assert f"junk-{3 * MOST_GROUPS - 1}" in host.names()
    assert len(host.names()) <= SHARE + 2


def test_one_user_has_its_share(host: Host) -> None:
    """A user whose processes live under more names than its share is charged to ``(other)`` with the rest."""
    charged = [host.start(f"junk-{number}", ALICE)[1] for number in range(SHARE + 2)]
    assert charged[-3:] == [f"junk-{SHARE - 1}", OTHER, OTHER]
    assert host.start("shop", BOB)[1] == "shop"
    (other,) = (group for group in host.account.groups(host.now_ns) if group.name == OTHER)
    assert (other.processes, other.dropped) == (2, 2)


def test_when_all_places_are_taken(host: Host) -> None:
    """A group without processes leaves for another: of the user who has most, the one longest empty."""
    for number in range(SHARE):
        host.run(f"a-{number}", ALICE)
    for number in range(SHARE - 1):
        host.start(f"b-{number}", BOB)
    assert host.run("carol", CAROL) == "carol"
    assert host.start("late", CAROL)[1] == "late"
    assert "a-0" not in host.names()
    assert {"a-1", "carol", "late"} <= host.names()


def test_groups_that_the_configuration_names(host: Host) -> None:
    """They have places beside all others."""
    for owner in (ALICE, BOB):
        for number in range(SHARE):
            host.start(f"{owner}-{number}", owner)
    assert host.start("late", CAROL)[1] == OTHER
    assert host.start("web", CAROL, FIXED)[1] == "web"


def test_a_process_finds_room_later(host: Host) -> None:
    """A process that was charged to ``(other)`` moves to its own group once there is room, counted once."""
    keys = [host.start(f"junk-{number}", ALICE)[0] for number in range(SHARE)]
    late, charged_to = host.start("late", ALICE)
    assert charged_to == OTHER
    assert host.account.open(late, "late", RULES, host.now_ns, ALICE) == OTHER
    host.account.close(keys[7], (), host.now_ns)
    assert host.account.open(late, "late", RULES, host.now_ns, ALICE) == "late"
    groups = {group.name: group for group in host.account.groups(host.now_ns)}
    assert (groups[OTHER].processes, groups[OTHER].dropped) == (0, 1)
    assert groups["late"].processes == 1


@pytest.fixture
def applications() -> Iterator[dict[int, str]]:
    """Three applications, by their PIDs."""
    with ExitStack() as stack:
        names = ("shop", "bakery", "mill")
        yield {stack.enter_context(application(name=f"{n}.py", code=TICKS)).pid: n for n in names}


def test_what_is_shown_is_what_is_charged(
    applications: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process stands in views under the group that has its time, and moves when there is room again."""
    monkeypatch.setattr(places, "SHARE", 0)
    with closing(Poller(ProcFS(), DEFAULT_CONFIG, report=lambda _error: None)) as poller:
        view = poller.poll()
        shown = {process.key.pid: process.group for process in view.processes}
        assert {shown[pid] for pid in applications} == {OTHER}
        assert [group.name for group in view.groups] == [OTHER]
        monkeypatch.setattr(places, "SHARE", SHARE)
        until(
            lambda: (
                {p.key.pid: p.group for p in poller.poll().processes}.items()
                >= applications.items()
            ),
            "the groups of all three",
        )
        view = poller.poll()
        assert set(applications.values()) <= {group.name for group in view.groups}
