"""Derives the application that a launcher (gunicorn, celery, uWSGI …) runs, from arguments or title.

The result is None if the launcher does not name it. Pure functions, for any text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

_MODULE = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)(?::.*)?", re.DOTALL)
_MODULE_AND_OBJECT = re.compile(r"(?!(?:python|file):)[^\W\d]\w*(?:\.\w+)*:[^\W\d].*", re.DOTALL)
_SAYS_NOTHING: Final = frozenset(
    ("app", "application", "asgi", "celery", "celery_app", "main", "wsgi")
)
"""Last parts of a path that do not distinguish one application from another."""
_VERSION = re.compile(r"[-_.]?[0-9][0-9.]*$")
_GUNICORN_TITLE = re.compile(r"gunicorn: [\w-]+(?: \[(.*)\])?", re.DOTALL)
_CELERY_TITLE = re.compile(r"\[celeryd?[ :][^\]]*\](.*)", re.DOTALL)
_WORD = re.compile(r"[\[(]*([^\s:\])]+)")
# Numbers and hashes that machines write: a UUID, a hash, a process's or a job's number, a date, a
# percentage.
_UUID: Final = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_HASH: Final = r"(?=[0-9a-fA-F]*[0-9][a-fA-F])[0-9a-fA-F]{8,}"
_MADE = re.compile(rf"{_UUID}|{_HASH}|[^a-zA-Z\u00aa-\U0010ffff]*")
_MADE_BEHIND = re.compile(rf"[-_.#@=](?:{_UUID}|{_HASH}|[0-9]{{5,}})$")
_WORD_LENGTH: Final = 200

# The options of WSGI and ASGI servers that take no value, besides all that begin with --no-.
_FLAGS: Final = frozenset(
    (
        "--access-log", "--call", "--capture-output", "--casefold-http-method", "--check-config",
        "--daemon", "--date-header", "--debug", "--disable-redirect-access-to-syslog",
        "--do-handshake-on-connect", "--enable-backlog-metric", "--enable-stdio-inheritance",
        "--expose-tracebacks", "--factory", "--http2", "--initgroups", "--ipv4", "--ipv6",
        "--log-syslog", "--permit-obsolete-folding", "--permit-unconventional-http-method",
        "--permit-unconventional-http-version", "--preload", "--print-config", "--proxy-headers",
        "--proxy-protocol", "--reload", "--reset-contextvars", "--reuse-port", "--server-header",
        "--spew", "--strip-header-spaces", "--suppress-ragged-eofs", "--use-colors", "-D", "-R",
    )
)  # fmt: skip


def application_in(specification: str) -> str | None:
    """Return the name for a module, an object in it or a file: ``shop.wsgi:application`` → ``shop``.

    A last part that every application has, such as ``wsgi``, ``app`` or ``main``, is left out, as
    long as another part remains.
    """
    path, _, _ = specification.partition(":")
    if "/" in path or path.endswith(".py"):
        parts = [part for part in path.removesuffix(".py").split("/") if part.strip(".")]
        return _telling(parts)[-1] if parts else None
    match = _MODULE.fullmatch(specification)
    return ".".join(_telling(match[1].split("."))) if match else None


def launched_by(program: str, arguments: Sequence[str]) -> str | None:
    """Return the application that ``program``, called with these arguments, launches."""
    launcher = _LAUNCHERS.get(program) or _LAUNCHERS.get(_VERSION.sub("", program))
    return launcher(arguments) if launcher else None


def titled_by_python(title: str) -> bool:
    """Return whether only Python programs write such a title over their arguments."""
    return bool(_GUNICORN_TITLE.match(title) or _CELERY_TITLE.match(title))


def application_in_title(title: str) -> str | None:
    """Return the application of a process that wrote a title over its arguments (setproctitle)."""
    if match := _GUNICORN_TITLE.match(title):
        return application_in(match[1]) or match[1] if match[1] else "gunicorn"
    if match := _CELERY_TITLE.match(title):
        # The state and the arguments follow: -active- (-A shop worker).
        return _app_option(match[1].replace("(", " ").replace(")", " ").split()) or "celery"
    words = title.split()
    if words[:1] == ["granian"]:
        return _object(words) or "granian"
    for match in _WORD.finditer(title):
        word = match[1].rpartition("/")[2].partition("[")[0][:_WORD_LENGTH]
        if not _MADE.fullmatch(word):
            return _MADE_BEHIND.sub("", word) or word
    return None


def _telling(parts: list[str]) -> list[str]:
    end = len(parts)
    while end > 1 and parts[end - 1] in _SAYS_NOTHING:
        end -= 1
    return parts[:end]


def _option(arguments: Sequence[str], *names: str) -> str | None:
    """Return the value of the first of these options: ``-A x``, ``-Ax``, ``--app x``, ``--app=x``."""
    for index, argument in enumerate(arguments):
        for name in names:
            if argument == name:
                return arguments[index + 1] if index + 1 < len(arguments) else None
            joint = name if len(name) == 2 else f"{name}="
            if argument.startswith(joint):
                return argument[len(joint) :]
    return None


def _object(arguments: Sequence[str]) -> str | None:
    found = next((text for text in arguments if _MODULE_AND_OBJECT.fullmatch(text)), None)
    return application_in(found) if found else None


def _server(arguments: Sequence[str], *names: str) -> str | None:
    """Return the application of a WSGI or ASGI server: its configured name, or the module that it serves."""
    if names and (name := _option(arguments, *names)):
        return application_in(name) or name
    value_of_option = False
    for argument in arguments:
        if argument.startswith("-"):
            flag = argument in _FLAGS or argument.startswith("--no-")
            attached = "=" in argument if argument.startswith("--") else len(argument) > 2
            value_of_option = not flag and not attached
        elif value_of_option:
            value_of_option = False
        elif _MODULE.fullmatch(argument):
            return application_in(argument)
    return _object(arguments)  # behind an option that is not known here


def _gunicorn(arguments: Sequence[str]) -> str | None:
    return _server(arguments, "-n", "--name")


def _granian(arguments: Sequence[str]) -> str | None:
    return _server(arguments, "--process-name")


def _app_option(arguments: Sequence[str]) -> str | None:
    """Return the application of celery and flask."""
    specification = _option(arguments, "-A", "--app")
    return application_in(specification) if specification else None


def _uwsgi(arguments: Sequence[str]) -> str | None:
    specification = _option(arguments, "--module", "-w", "--wsgi", "--wsgi-file", "--file")
    return application_in(specification) if specification else None


def _django(arguments: Sequence[str]) -> str | None:
    settings = _option(arguments, "--settings")
    return settings.partition(".settings")[0] if settings else None


def _file(arguments: Sequence[str]) -> str | None:
    """Return the application of ``fastapi run app/main.py`` or ``streamlit run app.py``."""
    files = (text for text in arguments[1:] if text.endswith(".py") and not text.startswith("-"))
    return application_in(next(files, ""))


_LAUNCHERS: Final[Mapping[str, Callable[[Sequence[str]], str | None]]] = {
    "celery": _app_option,
    "daphne": _server,
    "django": _django,
    "django-admin": _django,
    "dramatiq": _server,
    "fastapi": _file,
    "flask": _app_option,
    "granian": _granian,
    "gunicorn": _gunicorn,
    "gunicorn.app.wsgiapp": _gunicorn,
    "hypercorn": _server,
    "streamlit": _file,
    "uvicorn": _server,
    "uwsgi": _uwsgi,
    "uwsgi-core": _uwsgi,
    "uwsgi_python": _uwsgi,
    "waitress": _server,
    "waitress-serve": _server,
}
