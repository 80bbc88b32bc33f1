"""Decodes a thread's comm: field 2 of ``/proc/PID/task/TID/stat`` (proc_pid_comm(5))."""

from __future__ import annotations


def decode_comm(raw: bytes) -> str:
    """Return the kernel's name of a thread as text.

    comm is up to 15 bytes of any kind, and the kernel cuts a longer name between bytes, not
    characters. Bytes that are not UTF-8 become U+FFFD. Control characters stay: the outputs escape
    them.
    """
    return raw.decode("utf-8", "replace")
