"""Terminals for tests: a tmux server of our own, with one window; or just what a command writes to one."""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.harness import DEADLINE, until
from tests.testbed import CHECKOUT


class Terminal:
    """One window of tmux, in which a command runs; the shell's status is shown when that has ended."""

    def __init__(
        self,
        directory: Path,
        command: Sequence[str],
        columns: int,
        lines: int,
        environment: Mapping[str, str],
    ) -> None:
        assert shutil.which("tmux"), "there is no tmux: run tests/setup-testbed as root"
        # the path of a socket may have 107 bytes only, and pytest's directories have long names
        self._socket = os.path.relpath(directory / "tmux", CHECKOUT)
        config = directory / "tmux.conf"
        config.write_text("set -g default-terminal tmux-256color\nset -sg escape-time 0\n")
        told = [f"{name}={value}" for name, value in environment.items()]
        line = f"{shlex.join(['env', *told, *command])}; echo ended with $?; exec sleep 600"
        self._tmux(
            "-f", str(config), "new-session", "-d", "-x", str(columns), "-y", str(lines), line
        )

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-S", self._socket, *arguments],
            cwd=CHECKOUT,
            env={k: v for k, v in os.environ.items() if k not in {"TMUX", "NO_COLOR"}},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    def screen(self, *options: str) -> list[str]:
        """Return the lines that can be seen."""
        return self._tmux("capture-pane", "-p", *options).splitlines()

    def press(self, *keys: str) -> None:
        """Press keys, named as tmux names them; one after the other."""
        for key in keys:
            self._tmux("send-keys", key)

    def resize(self, columns: int, lines: int) -> None:
        """Make the window another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def ask(self, form: str) -> str:
        """Return what tmux knows: ``#{alternate_on}``, ``#{pane_pid}``."""
        return self._tmux("display-message", "-p", form).strip()

    def until(self, what: Callable[[list[str]], object], why: str) -> list[str]:
        """Return the screen, once it is as wanted."""
        lines: list[str] = []

        def fits() -> object:
            lines[:] = self.screen()
            return what(lines)

        try:
            until(fits, why)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(lines)) from None
        return lines

    def close(self) -> None:
        """End it, and what runs in it."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")


@contextlib.contextmanager
def terminal(
    directory: Path, *command: str, columns: int = 100, lines: int = 30, **environment: str
) -> Iterator[Terminal]:
    """Yield a terminal in which ``command`` runs meanwhile."""
    made = Terminal(directory, command, columns, lines, environment)
    try:
        yield made
    finally:
        made.close()


def written_to_a_terminal(command: Sequence[str], **environment: str) -> tuple[int, str]:
    """Return a command's exit code, and what it has written to a terminal of 80 columns, as its stdout."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        stdout=secondary,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **environment},
    )
    os.close(secondary)
    output = b""
    with contextlib.suppress(OSError):  # how a terminal says: no writer is left
        while chunk := os.read(primary, 65536):
            output += chunk
    os.close(primary)
    return process.wait(DEADLINE), output.decode().replace("\r\n", "\n")
