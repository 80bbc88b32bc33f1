"""``threadwatch top`` on real programs, in a real terminal and in pipes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.harness import DEADLINE, reserved_port, run, threadwatch, until
from tests.serving import application, serving
from tests.terminal import terminal
from tests.testbed import CHECKOUT
from threadwatch.errors import Unusable
from threadwatch.top.daemon_source import DaemonSource

BUSY = """
def burn():
    import os
    os.nice(-19)  # of this thread alone: it is to have half of a CPU on a busy machine, too
    while True:
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            sum(range(1000))
        time.sleep(0.01)
threading.Thread(target=burn, name="burner", daemon=True).start()
threading.Thread(target=time.sleep, args=(600,), name="[red]no markup[/]", daemon=True).start()
"""


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``threadwatch top`` to its end, in a pipe."""
    return run("top", *arguments)


def in_pty(command: Sequence[str], **environment: str) -> tuple[int, str]:
    """Return a command that ends by itself, in a terminal; its status and what it has written there."""
    pid, terminal_fd = pty.fork()
    if not pid:
        os.chdir(CHECKOUT)
        os.execvpe(command[0], list(command), {**os.environ, **environment})  # noqa: S606  # as meant
    said = b""
    while select.select([terminal_fd], [], [], DEADLINE)[0]:
        try:
            said += os.read(terminal_fd, 1 << 16)
        except OSError:  # the other end is closed
            break
    os.close(terminal_fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()


def in_view(pid: int) -> tuple[int, int]:
    """Start the view of a process in a terminal of its own; return its PID, and the terminal."""
    command = threadwatch("top", "-d", "0.2", str(pid))
    view, terminal_fd = pty.fork()
    if not view:
        os.chdir(CHECKOUT)
        os.execvpe(command[0], list(command), {**os.environ, "TERM": "xterm-256color"})  # noqa: S606  # as meant
    os.set_inheritable(terminal_fd, False)  # the terminal is gone as soon as this process closes it
    fcntl.ioctl(terminal_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    return view, terminal_fd


def read_until(terminal_fd: int, wanted: bytes) -> None:
    """Read what a terminal is told, until that has ``wanted`` in it."""
    said = b""
    while wanted not in said:
        assert select.select([terminal_fd], [], [], DEADLINE)[0], said
        said += os.read(terminal_fd, 1 << 16)


def has_ended(pid: int) -> bool:
    """Tell whether a child has ended, and leave its exit status to be read."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def tids(pid: int) -> set[int]:
    """Return the threads of a process, as the kernel has them."""
    return set(map(int, os.listdir(f"/proc/{pid}/task")))


def listed(lines: Sequence[str]) -> dict[int, str]:
    """Return the threads and processes in the rows of a list: the rest of their lines by TID."""
    found = (re.match(r" {0,6}(\d+)  (.*)", line) for line in lines)
    return {int(match[1]): match[2] for match in found if match}


def test_batch_shows_what_the_kernel_has() -> None:
    """Two views as plain text: every TID of the process, by name, and its busy thread as such."""
    with application(code=BUSY) as target:
        done = top("-b", "-n", "2", "-d", "0.5", "shop")
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.split("\n\nthreadwatch  ")
        for text in (first, second):
            rows = listed(text.splitlines())
            assert tids(target.pid) <= set(rows)
            assert any("metrics-flush" in row and "sleep" in row for row in rows.values())
            assert any("[red]no markup[/]" in row for row in rows.values())
        (burner,) = (row for row in listed(second.splitlines()).values() if "burner" in row)
        assert float(re.findall(r"\d+\.\d", burner)[0]) > 5.0
        assert "\x1b" not in done.stdout
        once = top("--once", str(target.pid), "--flat", "--filter", "burner", "--sort", "time")
        assert len(listed(once.stdout.splitlines())) == 1


def test_batch_says_what_is_wrong() -> None:
    """What is not there ends top with 1 and one line; a wrong option with 2."""
    for arguments, status in (
        (("-b", "no-such-application"), 1),
        (("-b", "--url", "http://127.0.0.1:1"), 1),
        (("-b", "-d", "0"), 2),
        (("-b", "-n", "0"), 2),
        (("--sort", "beauty"), 2),
    ):
        done = top(*arguments)
        assert done.returncode == status, done.stderr
        assert done.stdout == ""
        *_, line = done.stderr.splitlines()
        assert arguments[-1].removeprefix("http://") in line


def test_batch_into_a_pipe_that_closes() -> None:
    """A reader that leaves early (top -b | head) ends top by SIGPIPE, and nothing is said."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        threadwatch("top", "-b", "-d", "0.1"), cwd=CHECKOUT, stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    assert process.communicate(timeout=DEADLINE)[1] == b""
    assert process.returncode == -signal.SIGPIPE


def test_without_a_terminal() -> None:
    """In a pipe, or in a terminal that can do nothing, top says what to do instead."""
    done = top()
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not a terminal: use -b" in done.stderr
    status, said = in_pty(threadwatch("top"), TERM="dumb")
    assert status == 1
    assert "TERM=dumb" in said
    assert "-b" in said


def test_without_textual() -> None:
    """Where textual is not installed, one line says what to install; plain text works all the same."""
    program = (
        "import sys; sys.modules['textual'] = None;"
        " from threadwatch.commands.main import main; sys.exit(main())"
    )
    status, said = in_pty([sys.executable, "-c", program, "top"], TERM="xterm")
    assert status == 1
    (line,) = said.splitlines()
    assert "pip install '.[top]' in a checkout of threadwatch" in line
    plain = subprocess.run(
        [sys.executable, "-c", program, "top", "--once"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert plain.returncode == 0, plain.stderr


def test_nothing_else_loads_textual() -> None:
    """No other command, nor top as plain text, imports textual or rich."""
    program = (
        "import sys, threadwatch.commands.main, threadwatch.commands.serve,"
        " threadwatch.commands.demo, threadwatch.doctor.command,"
        " threadwatch.commands.ps, threadwatch.top.command;"
        " print(sorted(m for m in sys.modules if m.split('.')[0] in ('textual', 'rich')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_a_terminal_shows_what_the_kernel_has(tmp_path: Path) -> None:
    """In tmux: every thread of a real program by TID and name, one in detail, and in another size."""
    with (
        application(code=BUSY) as target,
        terminal(tmp_path, *threadwatch("top", "-d", "0.5", str(target.pid))) as tmux,
    ):
        wanted = tids(target.pid)
        lines = tmux.until(
            lambda lines: wanted <= set(listed(lines)) and "WAIT" in lines[2], "all threads"
        )
        rows = listed(lines)
        burner = next(tid for tid, row in rows.items() if "burner" in row)
        assert any("metrics-flush" in row for row in rows.values())
        assert any("[red]no markup[/]" in row for row in rows.values())
        comm = Path(f"/proc/{target.pid}/task/{burner}/comm").read_text().strip()

        def share(lines: Sequence[str]) -> float:
            return float((re.findall(r"\d+\.\d", listed(lines).get(burner, "")) or ["0"])[0])

        tmux.until(lambda lines: share(lines) > 5.0, "the busy thread's CPU")
        assert "\x1b[38;" in "\n".join(tmux.screen("-e")), "there are colours"

        tmux.press("/")
        tmux.until(lambda lines: "part of a name" in lines[-1], "a place to write")
        tmux.press("metrics", "Enter")
        (tid,) = set(listed(tmux.until(lambda x: len(listed(x)) == 2, "filtered"))) - {target.pid}
        tmux.press("End", "Enter")
        stack = Path(f"/proc/{target.pid}/task/{tid}/stack").read_text()
        innermost = stack.split()[1].partition("+")[0]
        lines = tmux.until(
            lambda lines: any("kernel stack" in x and innermost in x for x in lines), "its stack"
        )
        assert lines[0].startswith("metrics-flush")
        assert any(re.search(r"system call +(clock_)?nanosleep\(|select", line) for line in lines)
        assert any(re.search(f"comm +{re.escape(comm)}", line) for line in lines)
        tmux.press("Escape")
        tmux.until(lambda lines: "CPU %" in lines[2], "the list again")
        tmux.press("Escape")
        tmux.until(lambda lines: wanted <= set(listed(lines)), "all threads again")

        tmux.resize(160, 40)
        tmux.until(lambda lines: "LAST CPU" in lines[2] and len(lines) == 40, "more columns")
        tmux.resize(40, 10)
        tmux.until(lambda lines: len(lines) == 10 and "Quit" in lines[9], "a small terminal")
        tmux.resize(100, 30)
        target.kill()
        target.wait()
        tmux.until(lambda lines: any("no longer there" in line for line in lines), "gone")
        assert tmux.ask("#{alternate_on}") == "1"
        tmux.press("q")
        tmux.until(lambda lines: "ended with 0" in lines, "its end")
        assert tmux.ask("#{alternate_on} #{mouse_any_flag} #{cursor_flag}") == "0 0 1"


def test_no_color_and_a_signal(tmp_path: Path) -> None:
    """With NO_COLOR there is no colour, but letters; SIGTERM leaves the terminal as it was."""
    with (
        application(code=BUSY),
        terminal(tmp_path, *threadwatch("top", "-d", "0.5", "shop"), NO_COLOR="1") as tmux,
    ):
        tmux.until(
            lambda lines: any(re.search("burner.* [RQG]{3}", line) for line in lines), "letters"
        )
        colored = re.findall(
            r"\x1b\[[0-9;]*(?:[34][0-7]|[34]8;[0-9;]+)m", "\n".join(tmux.screen("-e"))
        )
        assert not colored
        pid = int(tmux.ask("#{pane_pid}"))
        children = Path(f"/proc/{pid}/task/{pid}/children")
        os.kill(int(children.read_text().split()[0]), signal.SIGTERM)
        tmux.until(lambda lines: any("ended with" in line for line in lines), "its end")
        assert tmux.ask("#{alternate_on} #{mouse_any_flag} #{cursor_flag}") == "0 0 1"


def test_a_terminal_that_goes_away() -> None:
    """Each of nine views whose terminal is closed ends, on any of its screens, with the code of SIGHUP."""
    screens = {b"": b"", b"\x1b[B\r": b"kernel stack", b"?": b"Keys"}
    with application(code=BUSY) as target:
        views = [(*in_view(target.pid), *screen) for screen in screens.items() for _ in range(3)]
        for _, terminal_fd, keys, shown in views:
            read_until(terminal_fd, b"burner")
            os.write(terminal_fd, keys)
            read_until(terminal_fd, shown)
        for pid, terminal_fd, _, _ in views:
            os.close(terminal_fd)
            until(partial(has_ended, pid), "the end of the view")
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP


def test_another_host_by_its_daemon(tmp_path: Path) -> None:
    """--url shows what a daemon sees, and no more: names, states, figures; nothing of /proc is read."""
    with application(code=BUSY) as target, serving(tmp_path) as daemon:
        done = top("-b", "-n", "2", "-d", "0.2", "--url", daemon.url, "shop")
        assert done.returncode == 0, done.stderr
        rows = listed(done.stdout.splitlines())
        assert tids(target.pid) <= set(rows)
        (burner,) = (row for row in rows.values() if "burner" in row)
        assert float(re.findall(r"\d+\.\d", burner)[0]) > 5.0
        wrong = top("--once", "--url", f"{daemon.url}/metrics")
        assert wrong.returncode == 1
        assert "is no threadwatch daemon" in wrong.stderr


def test_a_daemon_that_goes_and_comes_back(tmp_path: Path) -> None:
    """While the daemon is away each poll says so; when it is back, views come again."""
    stop = select.select

    def wait(seconds: float) -> bool:
        stop([], [], [], seconds)
        return False

    with reserved_port() as port:
        source = DaemonSource(f"http://127.0.0.1:{port}", interval=0.2)
        for directory in ("first", "second"):
            (tmp_path / directory).mkdir()
            with serving(tmp_path / directory, port=port):
                until(lambda: _answers(source), "the daemon answers")
                view = source.next(wait)
                assert view is not None
                assert view.details
            with pytest.raises(Unusable, match="cannot be reached: Connection refused"):
                source.next(wait)


def _answers(source: DaemonSource) -> bool:
    try:
        source.check()
    except Unusable:
        return False
    return True
