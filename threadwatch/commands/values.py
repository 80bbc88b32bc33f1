"""Converts the texts of arguments to values. Raises ArgumentTypeError, a line that says what would be right.

Runs on Python 3.9 and later, as :mod:`threadwatch.commands.main` does.
"""

import argparse
import math
import re

_LEAST_SECONDS = 0.1
"""At shorter intervals, top would mostly show itself."""
_MOST_INTERVAL = 3600
_MOST_TIMEOUT = 86_400


def interval(text: str) -> float:
    """Return the seconds between two views."""
    return _seconds(text, _MOST_INTERVAL)


def timeout(text: str) -> float:
    """Return the seconds to wait at most."""
    return _seconds(text, _MOST_TIMEOUT)


def _seconds(text: str, most: float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _LEAST_SECONDS <= seconds <= most:
        message = f"should be seconds from {_LEAST_SECONDS} to {most}, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return seconds


def count(text: str) -> int:
    """Return a number from 1."""
    if not text.isdecimal() or not int(text):
        message = f"should be a number from 1, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def host_name(text: str) -> str:
    """Return the name of a host, as a Host header has it, without a port."""
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", text):
        message = f"should be a name like threadwatch.example.org, without a port, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return text


def pid(text: str) -> int:
    """Return the number of a process."""
    if not text.isdecimal() or not text.isascii() or not int(text[:20]):
        message = f"should be the number of a process, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)
