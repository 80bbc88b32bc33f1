"""Looks up names of users, without making a poll wait.

A name service can be anywhere (LDAP, sssd), be slow or away; ``getpwuid`` cannot be interrupted,
and does not tell a user without a name from a service that does not answer. Hence:

* A thread of its own asks, one user after the other; there is never a second one. A caller that
wants a name waits a moment, and not at all once the service has been late. Until the name is known,
a user is its number.
* A name is looked up again after :data:`_GOOD_FOR_S`; the old one stays until then, and also if the
service knows none any more. A user without a name is looked up again after :data:`_NONE_FOR_S`.
:meth:`UserNames.take_news` tells a caller whose judgement has turned out to be outdated.
* Known names are doubted (:meth:`UserNames.doubt`) at a reload: then the answer of the service
counts, even if it knows none.
"""

from __future__ import annotations

import pwd
import threading
import time
from collections import OrderedDict

_GOOD_FOR_S = 600
_NONE_FOR_S = 30
_WAIT_S = 0.1
"""How long a caller waits for a name."""
_IMPATIENT_FOR_S = 60
"""For how long no caller waits, once a wait was too short."""
_REFRESH_S = 5
_MOST = 4096
"""Users whose names are remembered."""


class _User:
    """The known facts about a user."""

    __slots__ = ("asked", "doubtful", "name", "outdated", "told", "until")

    def __init__(self) -> None:
        self.name: str | None = None
        """None: the user has no name, as far as is known."""
        self.told: str | None = None
        """The answer that was given for the name."""
        self.until = 0.0
        """When to ask again (time.monotonic())."""
        self.asked = False
        """Whether the name is about to be looked up."""
        self.outdated = False
        """Whether the name is to be looked up once more then: the answer may be from before a reload."""
        self.doubtful = False
        """Whether the user loses the name if the service knows none."""


class UserNames:
    """Knows names by uid. Its methods may be called by any thread."""

    def __init__(self, wait_s: float = _WAIT_S) -> None:
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._users: OrderedDict[int, _User] = OrderedDict()
        self._to_ask: list[int] = []
        self._thread: threading.Thread | None = None
        self._impatient_until = 0.0
        self._refresh_at = 0.0
        self._news: set[int] = set()

    def name(self, uid: int) -> str:
        """Return the user's name; the number where it has none, or none that is known yet."""
        with self._changed:
            user = self._users.get(uid)
            if user is None:
                user = self._users[uid] = _User()
                while len(self._users) > _MOST:
                    self._users.popitem(last=False)
            now = time.monotonic()
            if now >= user.until:
                self._ask(uid, user)
                if (user.name is None or user.doubtful) and now >= self._impatient_until:
                    self._changed.wait_for(lambda: not user.asked, self._wait_s)
                    if user.asked:
                        self._impatient_until = time.monotonic() + _IMPATIENT_FOR_S
            user.told = user.name or str(uid)
            return user.told

    def refresh(self) -> None:
        """Look up names again that may be outdated. To be called often."""
        now = time.monotonic()
        if now < self._refresh_at:
            return
        with self._changed:
            self._refresh_at = now + _REFRESH_S
            for uid, user in self._users.items():
                if now >= user.until:
                    self._ask(uid, user)

    def doubt(self) -> None:
        """Believe known names no longer, once the service has answered."""
        with self._changed:
            self._impatient_until = self._refresh_at = 0.0
            for user in self._users.values():
                user.until, user.doubtful, user.outdated = 0.0, True, user.asked

    def take_news(self) -> set[int]:
        """Return the users whose name is another now than was told, since the last call."""
        if not self._news:
            return set()
        with self._changed:
            news, self._news = self._news, set()
        return news

    def _ask(self, uid: int, user: _User) -> None:
        if user.asked:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="user-names", daemon=True)
            try:
                self._thread.start()
            except (RuntimeError, MemoryError):  # no more threads: later, perhaps
                self._thread = None
                user.until = time.monotonic() + _NONE_FOR_S
                return
        user.asked = True
        self._to_ask.append(uid)

    def _run(self) -> None:
        """Look up the names that are due, and end."""
        while True:
            with self._changed:
                if not self._to_ask:
                    self._thread = None
                    return
                uid = self._to_ask.pop(0)
            try:
                name: str | None = pwd.getpwuid(uid).pw_name
            except (KeyError, OverflowError, OSError):
                name = None
            with self._changed:
                user = self._users.get(uid)
                if user is not None and user.outdated:
                    user.outdated = False
                    self._to_ask.append(uid)
                elif user is not None:
                    self._learn(uid, user, name)
                self._changed.notify_all()

    def _learn(self, uid: int, user: _User, name: str | None) -> None:
        user.asked = False
        if name is not None or user.doubtful:
            user.name = name
        user.doubtful = False
        user.until = time.monotonic() + (_NONE_FOR_S if name is None else _GOOD_FOR_S)
        if user.told is not None and user.told != (user.name or str(uid)):
            self._news.add(uid)
