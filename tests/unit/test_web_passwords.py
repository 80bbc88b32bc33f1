"""Passwords: which are let in, in which order they are checked, and what is remembered."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import DEADLINE
from threadwatch.web.auth import passwords
from threadwatch.web.auth.passwords import Passwords, credentials

ALICE, BOB = (bcrypt.hashpw(password, bcrypt.gensalt(4)) for password in (b"horse", b"stable"))
USERS = {b"alice": ALICE, b"bob": BOB}


def basic(user: bytes, password: bytes) -> str:
    """Return the header for this user."""
    return "Basic " + base64.b64encode(user + b":" + password).decode()


def run(test: Callable[[Passwords], Coroutine[Any, Any, None]]) -> None:
    """Run a test on a loop with its own checker."""

    async def inner() -> None:
        checker = Passwords()
        try:
            async with asyncio.timeout(DEADLINE):
                await test(checker)
        finally:
            checker.close()

    asyncio.run(inner())


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the passwords that bcrypt has been asked for, in order."""
    real, asked = bcrypt.checkpw, list[bytes]()

    def counting(password: bytes, hashed: bytes) -> bool:
        asked.append(password)
        return real(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counting)
    return asked


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        (basic(b"alice", b"horse"), True),
        (basic(b"alice", b"horse").replace("Basic", "bAsIc"), True),
        (basic(b"bob", b"stable"), True),
        (basic(b"alice", b"stable"), False),
        (basic(b"alice", b""), False),
        (basic(b"alice", b"horse\0"), False),
        (basic(b"carol", b"horse"), False),
        (basic(b"", b"horse"), False),
        ("", False),
        ("Basic", False),
        ("Basic !", False),
        ("Basic aG9yc2U=", False),  # no colon
        ("Bearer " + basic(b"alice", b"horse")[6:], False),
        (basic(b"alice", b"horse") + ", " + basic(b"alice", b"horse"), False),
    ],
)
def test_who_is_let_in(header: str, verdict: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """A user with the right password is let in, and no other."""

    async def test(checker: Passwords) -> None:
        for _ in range(2):  # checked, then remembered
            assert await checker.let_in(USERS, header, "a") is verdict

    run(test)


def test_long_passwords_count_as_far_as_bcrypt_looks() -> None:
    """Of a password longer than 72 bytes the rest is not looked at, as in other programs."""
    users = {b"alice": bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))}

    async def test(checker: Passwords) -> None:
        assert await checker.let_in(users, basic(b"alice", b"x" * 100), "a")
        assert not await checker.let_in(users, basic(b"alice", b"x" * 71), "a")

    run(test)


def test_a_verdict_is_found_once(checked: list[bytes]) -> None:
    """Right and wrong passwords are checked once, also when many ask at once."""

    async def test(checker: Passwords) -> None:
        for password, verdict in ((b"horse", True), (b"cow", False)):
            headers = [basic(b"alice", password)] * 50
            found = await asyncio.gather(*(checker.let_in(USERS, each, "a") for each in headers))
            assert set(found) == {verdict}

    run(test)
    assert checked == [b"horse", b"cow"]


def test_another_hash_is_another_check(checked: list[bytes]) -> None:
    """When a user's password changes, what was remembered of the old one counts no more."""

    async def test(checker: Passwords) -> None:
        assert await checker.let_in(USERS, basic(b"alice", b"horse"), "a")
        assert not await checker.let_in({b"alice": BOB}, basic(b"alice", b"horse"), "a")
        assert not await checker.let_in({b"bob": ALICE}, basic(b"alice", b"horse"), "a")

    run(test)
    assert len(checked) == 3


def test_wrong_passwords_push_no_right_one_out(
    checked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many wrong ones come, memory is bounded and the right one stays known."""
    monkeypatch.setattr(passwords, "_WRONG_KEPT", 5)

    async def test(checker: Passwords) -> None:
        assert await checker.let_in(USERS, basic(b"alice", b"horse"), "a")
        for number in range(20):
            assert not await checker.let_in(USERS, basic(b"alice", b"%d" % number), "a")
        assert await checker.let_in(USERS, basic(b"alice", b"horse"), "a")
        assert (len(checker._right), len(checker._wrong), len(checker._checks)) == (1, 5, 0)

    run(test)
    assert len(checked) == 21


def test_addresses_take_turns(checked: list[bytes]) -> None:
    """A client that sends many passwords takes turns with one that sends a single one."""

    async def test(checker: Passwords) -> None:
        many: list[Awaitable[bool]] = [
            checker.let_in(USERS, basic(b"alice", b"%d" % number), "many") for number in range(20)
        ]
        one = checker.let_in(USERS, basic(b"alice", b"horse"), "one")
        await asyncio.gather(*many, one)

    run(test)
    assert checked.index(b"horse") <= 2


def test_a_check_that_nobody_waits_for_is_not_made(checked: list[bytes]) -> None:
    """A client that has gone away before its turn costs nothing more, and leaves nothing behind."""
    slow = {b"alice": bcrypt.hashpw(b"horse", bcrypt.gensalt(9))}

    async def test(checker: Passwords) -> None:
        tasks = [
            asyncio.create_task(checker.let_in(slow, basic(b"alice", b"%d" % number), "a"))
            for number in range(50)
        ]
        await asyncio.sleep(0)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.wait(tasks)
        assert not await checker.let_in(USERS, basic(b"alice", b"last"), "b")
        assert not checker._checks
        assert not checker._turns

    run(test)
    assert checked == [b"0", b"last"]


def test_unknown_users_take_as_long_as_known_ones() -> None:
    """Whether a user exists cannot be told from the time: both cost one check at the users' own cost."""
    users = {name: bcrypt.hashpw(b"horse", bcrypt.gensalt(9)) for name in (b"alice", b"bob")}
    times: dict[bytes, list[float]] = {b"alice": [], b"mallory": []}

    async def test(checker: Passwords) -> None:
        for number in range(7):
            for user, taken in times.items():
                began = time.process_time()  # CPU time: beside other work, the rest is chance
                assert not await checker.let_in(users, basic(user, b"%d" % number), "a")
                taken.append(time.process_time() - began)

    run(test)
    known, unknown = min(times[b"alice"]), min(times[b"mallory"])
    assert 0.5 < known / unknown < 2
    assert unknown > 0.005


def test_unknown_users_of_unequal_costs_are_spread() -> None:
    """Where users' costs differ, those who do not exist have one of them each, and always the same."""
    users = {b"cheap": ALICE, b"dear": bcrypt.hashpw(b"horse", bcrypt.gensalt(5))}
    checker = Passwords()
    names = [b"%d" % number for number in range(100)]
    first = [checker._somebody(users, name) for name in names]
    assert set(first) == set(users.values())
    assert [checker._somebody(users, name) for name in names] == first


def test_a_hash_that_only_looks_like_one_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    """What bcrypt cannot use is logged, without the hash, and is no right password."""

    async def test(checker: Passwords) -> None:
        assert not await checker.let_in({b"alice": b"$2b$04$"}, basic(b"alice", b"horse"), "a")
        assert await checker.let_in(USERS, basic(b"alice", b"horse"), "a")

    run(test)
    assert "cannot be used" in caplog.text
    assert "$2b$" not in caplog.text


def test_closing_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that is under way does not hold up the end."""
    answered = threading.Event()  # no cost is so high that it outlasts every wait for a CPU
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: answered.wait(DEADLINE))

    async def test() -> None:
        checker = Passwords()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await checker.let_in(USERS, basic(b"alice", b"horse"), "a")
        checker.close()

    asyncio.run(test())
    (checks,) = (thread for thread in threading.enumerate() if thread.name == "passwords")
    answered.set()
    checks.join()


_ENDING = """
import asyncio, sys, time
from threadwatch.web.auth.passwords import Passwords
async def main():
    asyncio.create_task(Passwords().let_in({b"alice": sys.argv[1].encode()}, sys.argv[2], "a"))
    await asyncio.sleep(0.01)
class Last:  # is still there when the interpreter goes away, which then takes its time
    def __del__(self, sleep=time.sleep):
        sleep(0.5)
last = Last()
asyncio.run(main())
"""


def test_a_process_can_end_while_a_check_is_under_way() -> None:
    """It ends with its own status, also where the thread comes back when the interpreter is going away."""
    hashed = bcrypt.hashpw(b"stable", bcrypt.gensalt(11)).decode()
    done = subprocess.run(
        [sys.executable, "-c", _ENDING, hashed, basic(b"alice", b"horse")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@given(st.text())
def test_any_header_is_credentials_or_nothing(text: str) -> None:
    """Whatever a client sends as Authorization, it is a user and a password, or nothing."""
    for header in (text, "Basic " + text):
        said = credentials(header)
        assert said is None or b":" not in said[0]
