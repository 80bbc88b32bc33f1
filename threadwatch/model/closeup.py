"""Defines what is read of one thread when a person asks for it, and not by polls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Examined:
    """One living thread, at one moment. Every text is printable."""

    syscall: str
    """The system call that it is blocked in, by name; or why that is unknown."""
    arguments: str
    """The arguments of the system call: ``(0x7, 0x0)``; empty if there are none. They hold addresses."""
    wchan: str
    """The kernel's function that it sleeps in (proc_pid_wchan(5)), or why that is unknown."""
    cpus: str
    """The CPUs that it may use: ``0-3,8``."""
    voluntary_switches: int | None
    involuntary_switches: int | None
    stack: tuple[str, ...]
    """The kernel's functions, the innermost first; empty while it runs."""
    stack_note: str
    """Why there is no stack; empty if there is one."""
