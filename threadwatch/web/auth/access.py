"""Keeps the rules of access: the web configuration and the files that it names, read again after a change.

Each connection and each request looks by stat whether a file has changed. A file that cannot be
used leaves the rules as they were, and is logged once, until it changes again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from threadwatch.config.changes import signature
from threadwatch.config.document import read
from threadwatch.config.value import listed
from threadwatch.errors import ConfigError
from threadwatch.web.auth.settings import FLAG, WebSettings, parse_web_config
from threadwatch.web.auth.tls import Tls, build

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of access: TLS, users, and the headers that every response carries."""

    tls: Tls | None = None
    """How connections are served; None: without TLS."""
    users: Mapping[bytes, bytes] | None = None
    """bcrypt hashes by users' names; empty or None: no client has to log in."""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def policy(self) -> tuple[object, ...] | None:
        """Return what must stay equal for a connection to go on."""
        return self.tls.policy if self.tls else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what an administrator should know of a configuration that works."""
        return self.tls.warnings if self.tls else ()

    def __str__(self) -> str:
        """Return a summary: ``TLS, certificate valid until …, 2 users``."""
        words = []
        if self.tls is None:
            words.append("no TLS")
        else:
            until = self.tls.valid_until
            words.append("TLS" + (f" with a certificate valid until {until}" if until else ""))
            if self.tls.context.verify_mode:
                words.append("client certificates")
        count = len(self.users or {})
        words.append(f"{count} user{'' if count == 1 else 's'}" if count else "no users")
        return listed(words)


OPEN: Final = Rules()
"""The rules without a web configuration."""


class Access:
    """Keeps the rules up to date with their files. For one thread."""

    def __init__(self, path: str | None) -> None:
        """Read the web configuration at ``path``; None: there is none. Raises ConfigError."""
        self._path = path
        self._seen: dict[str, object] = {}
        self._rules = OPEN if path is None else self._load(path)
        self._warn()

    @property
    def rules(self) -> Rules:
        """Return the rules as of the last look."""
        return self._rules

    def look(self, *, again: bool = False) -> Rules:
        """Return the rules that hold now. ``again``: read the files even if they have not changed."""
        path = self._path
        if path is None or not (again or self._has_changed()):
            return self._rules
        try:
            self._rules = self._load(path)
        except ConfigError as error:
            logger.error(  # noqa: TRY400 - the message is complete; a traceback would add nothing
                "the new web configuration is bad, so the one before stays in use",
                extra={"fields": {"error": error}},
            )
        else:
            logger.info("web configuration read again", extra={"fields": {"web": str(self._rules)}})
            self._warn()
        return self._rules

    def _has_changed(self) -> bool:
        return any(signature(path) != seen for path, seen in self._seen.items())

    def _load(self, path: str) -> Rules:
        # Before the files are read, so that a write in between is seen as a change.
        self._seen = {known: signature(known) for known in (path, *self._seen)}
        settings = parse_web_config(read(path, FLAG), path)
        self._seen = {path: self._seen[path]} | {name: signature(name) for name in settings.files()}
        return _rules(settings)

    def _warn(self) -> None:
        for warning in self._rules.warnings:
            logger.warning(warning)


def load_rules(path: str) -> Rules:
    """Return the rules of a web configuration. Raises ConfigError."""
    return _rules(parse_web_config(read(path, FLAG), path))


def _rules(settings: WebSettings) -> Rules:
    tls = build(settings.tls) if settings.tls else None
    return Rules(tls, settings.users, settings.headers)
