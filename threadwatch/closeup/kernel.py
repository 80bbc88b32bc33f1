"""Reads what the kernel tells of one thread at a moment: system call, kernel stack, CPUs, switches."""

from __future__ import annotations

import os
import re

from threadwatch.errors import Denied, Gone, Malformed, ReadError
from threadwatch.model.closeup import Examined
from threadwatch.model.keys import ThreadKey
from threadwatch.procfs import ProcessDir, ProcFS, parse_stat, parse_status, parse_syscall
from threadwatch.waits.syscalls import names
from threadwatch.words.text import printable

_FRAME = re.compile(r"\[<[0-9a-fx]+>\] ")
_MOST_FRAMES = 64


def examine(procfs: ProcFS, key: ThreadKey) -> Examined:
    """Read what the kernel tells of one thread.

    :raises Gone: it has ended.
    :raises ReadError: not even its status can be read.
    """
    process_key, tid, start_ticks = key
    with procfs.open_process(process_key.pid) as process:
        if parse_stat(process.read_task(tid, "stat")).start_ticks != start_ticks:
            raise Gone("its TID is another thread's by now")
        status_text = process.read_task(tid, "status")
        status = parse_status(status_text)
        allowed = re.search(rb"^Cpus_allowed_list:\t([0-9,-]+)$", status_text, re.MULTILINE)
        stack, note = _stack(process, tid)
        syscall, arguments = _syscall(process, tid)
        return Examined(
            syscall=syscall,
            arguments=arguments,
            wchan=_wchan(process, tid),
            cpus=allowed[1].decode("ascii") if allowed else "",
            voluntary_switches=status.voluntary_switches,
            involuntary_switches=status.involuntary_switches,
            stack=stack,
            stack_note=note,
        )


def parse_stack(data: bytes) -> tuple[str, ...]:
    """Return the functions of ``/proc/PID/task/TID/stack`` (proc_pid_stack(5)), without addresses."""
    lines = data.decode("utf-8", "replace").splitlines()
    return tuple(printable(_FRAME.sub("", line)) for line in lines[:_MOST_FRAMES])


def _stack(process: ProcessDir, tid: int) -> tuple[tuple[str, ...], str]:
    try:
        frames = parse_stack(process.read_task(tid, "stack"))
    except Denied:
        return (), "hidden: needs root, or CAP_SYS_ADMIN"
    except ReadError as error:
        return (), f"cannot be read ({error.reason})"
    return frames, "" if frames else "none: it runs"


def _wchan(process: ProcessDir, tid: int) -> str:
    try:
        wchan = process.read_task(tid, "wchan").decode("utf-8", "replace")
    except ReadError as error:
        return f"cannot be read ({error.reason})"
    return printable(wchan) if wchan not in {"", "0"} else "none, or hidden"


def _syscall(process: ProcessDir, tid: int) -> tuple[str, str]:
    """Return the name of the system call, or why there is none, and its arguments."""
    try:
        call = parse_syscall(process.read_task(tid, "syscall"))
    except Malformed:
        return "cannot be read (malformed)", ""
    except ReadError as error:
        if error.reason == "denied":
            return "hidden: needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH", ""
        return f"cannot be read ({error.reason})", ""
    if call is None:
        return "none: it runs", ""
    if call.number < 0:
        return "none: blocked outside of system calls", ""
    name = names(os.uname().machine).get(call.number, f"number {call.number}")
    return name, f"({', '.join(map(hex, call.args))})"
