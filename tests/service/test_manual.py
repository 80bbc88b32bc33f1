"""What is installed beside the command: manual pages for man, completions for real shells."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from manual.__main__ import SHARE
from manual.commands import subparsers
from tests.harness import DEADLINE
from threadwatch.commands.arguments import parser

_PAGES = ("man1/threadwatch.1", "man5/threadwatch.yml.5")
_BASH = SHARE / "bash-completion/completions/threadwatch"
_FISH = SHARE / "fish/vendor_completions.d/threadwatch.fish"
_ZSH = SHARE / "zsh/site-functions"

# What a shell offers for a line, as words. An `=` separates words for bash, as COMP_WORDBREAKS says.
_CASES = (
    ("threadwatch do", "doctor"),
    ("threadwatch serve --log.f", "--log.format"),
    ("threadwatch serve --log.format j", "json"),
    ("threadwatch serve --log.format=j", "json"),
    ("threadwatch serve --config.file /etc/hostn", "/etc/hostname"),
    ("threadwatch serve --config.file=/etc/hostn", "/etc/hostname"),
    ("threadwatch check-config /etc/hostn", "/etc/hostname"),
    ("threadwatch run -- whoam", "whoami"),
)


def _run(*command: str, **options: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("page", _PAGES)
def test_pages_are_sound(page: str) -> None:
    """man shows each page without a warning, and mandoc finds nothing to warn of."""
    path = str(SHARE / "man" / page)
    done = subprocess.run(
        ["man", "--warnings", "--local-file", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"MANWIDTH": "80"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # a date would be another every day: the version says how old the page is
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []


def test_page_has_every_command_and_option() -> None:
    """threadwatch(1) has each command, each option with its help text, and the exit codes."""
    shown = re.sub(r"\s+", " ", _run("man", "-l", str(SHARE / "man" / _PAGES[0]), MANWIDTH="200"))
    for name, command in subparsers(parser()).items():
        assert f"threadwatch {name}" in shown
        for action in command._actions:
            for option in action.option_strings:
                assert option in shown or option in ("-h", "--help"), f"{name} {option}"
    for code in ("0 Success", "2 Wrong usage", "78 A bad configuration"):
        assert code in shown


@pytest.mark.parametrize(("line", "offered"), _CASES, ids=[line for line, _ in _CASES])
def test_bash_completes(line: str, offered: str) -> None:
    """bash offers what can come next: commands, options, their values, files, programs."""
    words = re.findall(r"=|[^=\s]+", line)
    listed = " ".join(f"'{word}'" for word in words)
    script = (
        f"source /usr/share/bash-completion/bash_completion; source '{_BASH}'; "
        f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=({listed}) COMP_CWORD={len(words) - 1}; "
        'COMPREPLY=(); _threadwatch; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert offered in _run("bash", "--norc", "-c", script).split()
    registered = _run("bash", "--norc", "-c", f"source '{_BASH}'; complete -p threadwatch")
    assert "-F _threadwatch threadwatch" in registered


@pytest.mark.parametrize(("line", "offered"), _CASES, ids=[line for line, _ in _CASES])
def test_fish_completes(line: str, offered: str, tmp_path: Path) -> None:
    """fish offers what can come next: commands, options, their values, files, programs."""
    out = _run(
        "fish",
        "--no-config",
        "-c",
        f"source '{_FISH}'; complete -C '{line}'",
        HOME=str(tmp_path),
        XDG_CONFIG_HOME=str(tmp_path),
    )
    candidates = {text.split("\t")[0].rpartition("=")[2] for text in out.splitlines()}
    assert offered in candidates


@contextmanager
def _zsh() -> Iterator[int]:
    """Run an interactive zsh with our completion; yield its terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="dumb")
        os.execvp("zsh", ["zsh", "-f", "-i"])  # noqa: S606  # a shell without start files is what is tested
    try:
        setup = (
            f"PS1='> '; fpath=({_ZSH} $fpath)",
            "autoload -U compinit; compinit -u -D; print rea''dy",
            "",
        )
        os.write(terminal, "\n".join(setup).encode())
        _read_until(terminal, "ready")
        yield terminal
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _read_until(terminal: int, wanted: str) -> str:
    seen = b""
    deadline = time.monotonic() + DEADLINE
    while wanted not in seen.decode(errors="replace"):
        left = deadline - time.monotonic()
        assert left > 0, seen
        if select.select([terminal], [], [], left)[0]:
            seen += os.read(terminal, 65536)
    return seen.decode(errors="replace")


def test_zsh_completes() -> None:
    """zsh completes commands, options, their values, files and programs as they are typed."""
    with _zsh() as terminal:
        for line, offered in _CASES:
            os.write(terminal, b"\x15" + line.encode() + b"\t")
            _read_until(terminal, offered)
