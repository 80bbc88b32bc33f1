"""Writes log lines to standard error, in logfmt or JSON: one event a line, whatever it contains.

Where standard error is systemd's journal, each line begins with its priority, ``<N>`` (sd-daemon(3)).
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from threadwatch.commands.service_manager import is_journal

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4}
"""Priorities of syslog(3); any other level is an error, 3."""
_NAMES = {"WARNING": "warn", "CRITICAL": "error"}


class _Formatter(logging.Formatter):
    """Formats time, level, message, and the fields that were given as ``extra={"fields": {…}}``."""

    def __init__(self, *, as_json: bool, for_journal: bool) -> None:
        super().__init__()
        self._as_json = as_json
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": _NAMES.get(record.levelname, record.levelname.lower()),
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if self._as_json:
            line = json.dumps(fields, default=str)
        else:
            line = " ".join(f"{key}={_quoted(str(value))}" for key, value in fields.items())
        return f"<{_PRIORITIES.get(record.levelno, 3)}>{line}" if self._for_journal else line


def _quoted(value: str) -> str:
    """Return a value in logfmt: bare where that is unambiguous, else as a JSON string, so on one line."""
    bare = value and value.isascii() and value.isprintable() and not set(value) & set(' "=\\')
    return value if bare else json.dumps(value)


def set_up(*, level: str, form: str) -> None:
    """Send the project's messages of ``level`` (debug, info, warn, error) and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json=form == "json", for_journal=_to_journal()))
    logger = logging.getLogger("threadwatch")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(_LEVELS[level])


def _to_journal() -> bool:
    try:
        error = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # standard error is closed, or is not a file
        return False
    return is_journal(os.environ, error.st_dev, error.st_ino)
