"""Finds out why a command's Python would not publish under ``threadwatch run``, from its command line.

``run`` sets two environment variables for its command. Python does not read them with -I, behind
``env -i``, or in a program that contains its own Python. So ``run`` reads the command as the kernel
and the wrapping tools will, and prints one line that says what will not work and what would. It
prints nothing where the command line does not tell: for a shell script, or for the children that a
program starts.

Standard library only; runs on Python 3.9 and later.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*[a-z]{0,2}(?:-dbg)?")
_VALUED = "WXQ"
"""Options of the interpreter that take a value; -c and -m end them."""

# These tools start a program in their own environment; what may stand before the program is
# skipped.
_TRANSPARENT = frozenset(
    (
        "catchsegv", "chrt", "exec", "ionice", "linux32", "linux64", "nice", "nohup", "numactl", "prlimit",
        "setarch", "setsid", "stdbuf", "strace", "taskset", "time", "timeout", "unshare",
    )
)  # fmt: skip
_ARGUMENT = re.compile(r"-.*|[0-9][0-9a-zA-Z,.:-]*|[A-Za-z_]\w*=.*")
"""The words that may stand between such a tool and its program: options, numbers, durations, masks."""
_RESET = frozenset(("doas", "sudo"))
_RESET_IF = {
    "runuser": frozenset(("-", "-l", "--login")),
    "setpriv": frozenset(("--reset-env",)),
    "su": frozenset(("-", "-l", "--login")),
}
_ELSEWHERE = frozenset(
    ("at", "batch", "docker", "kubectl", "nerdctl", "podman", "ssh", "systemd-run")
)
_BEHIND = "put `threadwatch run --` behind it, before the program"

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_MAX_DEPTH = 8
_HEAD = 512
_TAIL = 1 << 16
_PYINSTALLER = b"MEI\x0c\x0b\x0a\x0b\x0e"
"""The magic of PyInstaller's archive: in the last 88 bytes, or before data appended later, such as
a signature."""
_PROBE = "import sys; print('threadwatch.publisher.publisher' in sys.modules)"
_PROBE_SECONDS = 10


def obstacle(command: Sequence[str], environment: Mapping[str, str]) -> "str | None":
    """Return why the Python that a command starts will not publish, and what to do instead; None if unknown.

    ``environment`` is the environment of the command. Where the command line shows an obstacle, the
    interpreter is started once more with its options: an installed threadwatch publishes
    nevertheless.
    """
    with suppress(OSError, ValueError):
        return _look(list(command), environment)
    return None


def _look(words: "list[str]", environment: Mapping[str, str]) -> "str | None":
    before: list[str] = []  # the tools in front of the interpreter: needed to ask it
    trouble = None
    for _ in range(_MAX_DEPTH):  # env runs nice runs a script …
        name = os.path.basename(words[0]) if words else "threadwatch"
        if name == "threadwatch" or _runs_again(words):  # it will examine the command itself
            return None
        if _PYTHON.fullmatch(name):
            options, script = _interpreter(words)
            trouble = _ignored(name, options) or trouble
            if trouble:
                return None if _publishes([*before, words[0], *options], environment) else trouble
            return _pex(script) if script and not before else None
        if elsewhere := _elsewhere(name, words):
            return elsewhere
        if name in ("env", "chroot"):
            count, what = _env(words) if name == "env" else _chroot(words)
            trouble = what or trouble
            before += words[:count]
            words = words[count:]
        elif name in _TRANSPARENT or name in _RESET_IF or name in _RESET:
            words = words[1:]
            while words and _ARGUMENT.fullmatch(words[0]):
                words = words[1:]
        else:
            path = shutil.which(words[0])
            if path is None or "chroot" in before:
                return trouble
            shebang = _shebang(path)
            if not shebang or _program(path):
                return _program(path) or trouble
            words = [*shebang, path, *words[1:]]
    return trouble


def _runs_again(words: "list[str]") -> bool:
    """Return whether ``threadwatch run`` stands further behind."""
    return any(
        os.path.basename(word) == "threadwatch" and following == "run"
        for word, following in zip(words[1:], words[2:])
    )


def _interpreter(words: "list[str]") -> "tuple[list[str], str | None]":
    """Return the options that an interpreter is given, and the script or directory that it is to run."""
    index = 1
    while index < len(words) and words[index].startswith("-") and words[index] != "-":
        word = words[index]
        if word.startswith("--"):
            index += 1
            continue
        for place, letter in enumerate(word[1:], start=2):
            if letter in "cm":
                return [*words[1:index], *([word[: place - 1]] if place > 2 else [])], None
            if letter in _VALUED:
                index += place == len(word)
                break
        index += 1
    return words[1:index], words[index] if index < len(words) else None


def _ignored(name: str, options: "list[str]") -> "str | None":
    """Return what an interpreter's options make it ignore."""
    letters = ""
    for option in options:
        if re.fullmatch("-[a-zA-Z]+", option):
            letters += re.split(f"[{_VALUED}]", option[1:])[0]
    if "S" in letters:
        return f"{name} -S reads no start-up file: leave out -S, or call threadwatch.publish() in the code"
    if letter := next((letter for letter in letters if letter in "EI"), None):
        return (
            f"{name} -{letter} does not look at PYTHONPATH: leave out -{letter}, or install "
            "prometheus-threadwatch where this interpreter finds it"
        )
    return None


def _publishes(command: "list[str]", environment: Mapping[str, str]) -> bool:
    """Start an interpreter in this way, and return whether it publishes."""
    try:
        done = subprocess.run(
            [*command, "-c", _PROBE],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.stdout.startswith("True")


def _elsewhere(name: str, words: "list[str]") -> "str | None":
    """Return the reason if a tool starts its command in an environment that is not ours."""
    if name in _ELSEWHERE and not (name == "systemd-run" and "--scope" in words):
        return f"{name} starts its command elsewhere, without this environment: {_BEHIND}"
    resets = sorted(_RESET_IF.get(name, frozenset()).intersection(words[1:]))
    if resets or (name in _RESET and not _kept_by_sudo(words)):
        why = " ".join([name, *resets[:1]])
        return f"{why} starts its command in another environment: {_BEHIND}"
    return None


def _env(words: "list[str]") -> "tuple[int, str | None]":
    """Return how many words are env(1)'s own, and the reason if it keeps our variables from the command."""
    index, trouble = 1, None
    while index < len(words):
        word = words[index]
        if word in ("-", "-i", "--ignore-environment"):
            trouble = f"env {word} clears the environment: {_BEHIND}"
        elif word in ("-uPYTHONPATH", "--unset=PYTHONPATH"):
            trouble = f"env removes PYTHONPATH: {_BEHIND}"
        elif word in ("-u", "--unset", "-C", "--chdir", "-a", "--argv0"):
            index += 1
            if word in ("-u", "--unset") and words[index : index + 1] == ["PYTHONPATH"]:
                trouble = f"env removes PYTHONPATH: {_BEHIND}"
        elif word.startswith("PYTHONPATH="):
            trouble = f"env gives PYTHONPATH another value: {_BEHIND}"
        elif word.startswith(("-S", "--split-string")):
            both = word in ("-S", "--split-string")
            text = (
                "".join(words[index + 1 : index + 2])
                if both
                else word[2:].partition("=")[2] or word[2:]
            )
            words[index : index + 1 + both] = shlex.split(text)
            continue
        elif not word.startswith("-") and "=" not in word:
            break
        index += 1
    return index, trouble


def _chroot(words: "list[str]") -> "tuple[int, str | None]":
    """Return how many words are chroot(8)'s own, and the reason if Python would not find us there."""
    index = 1
    while index < len(words) and words[index].startswith("-"):
        index += 1
    if index < len(words) and not os.path.isdir(words[index] + _HERE):
        return index + 1, (
            f"chroot: there is no {_HERE} in {words[index]}, where Python would look: install "
            "prometheus-threadwatch there"
        )
    return index + 1, None


def _kept_by_sudo(words: "list[str]") -> bool:
    return any(
        word.startswith("PYTHONPATH=")
        or (word.startswith("--preserve-env=") and "PYTHONPATH" in word)
        for word in words
    )


def _program(path: str) -> "str | None":
    """Return the obstacle that a program or a script itself is."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
        if head.startswith(b"\x7fELF"):
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
            if _PYINSTALLER in file.read():
                name = os.path.basename(path)
                return (
                    f"{name} is frozen by PyInstaller and does not look at PYTHONPATH: call "
                    "threadwatch.publish() in its code"
                )
    return _pex(path)


def _shebang(path: str) -> "list[str]":
    """Return the words by which the kernel starts a script: interpreter, one argument (execve(2))."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(b"#!"):
        return []
    return os.fsdecode(head[2:].partition(b"\n")[0]).split(None, 1)


def _pex(path: str) -> "str | None":
    """Return the obstacle if a script is a PEX, file or directory: a PEX starts Python anew, isolated."""
    directory = os.path.dirname(path) if os.path.basename(path) == "__main__.py" else path
    information = ""
    if os.path.isdir(directory):
        with suppress(OSError), open(os.path.join(directory, "PEX-INFO"), encoding="utf-8") as file:
            information = file.read()
    elif os.path.isfile(path):
        import zipfile  # noqa: PLC0415 - seldom needed

        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, suppress(KeyError):
                information = archive.read("PEX-INFO").decode("utf-8", "replace")
    if not information or "prometheus_threadwatch" in information:
        return None
    name = os.path.basename(directory)
    return (
        f"{name} is a PEX, which starts Python without PYTHONPATH: build it with "
        "prometheus-threadwatch in it, and it publishes"
    )
