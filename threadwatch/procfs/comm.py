"""A thread's comm: field 2 of ``/proc/PID/task/TID/stat`` (proc_pid_comm(5))."""

from __future__ import annotations


def decode_comm(raw: bytes) -> str:
    """The kernel's name of a thread as text.

    comm is up to 15 bytes that anybody may choose, and the kernel cuts a longer name between
    bytes, not characters: what is not UTF-8 becomes U+FFFD. Control characters stay as they are;
    escaping them is for whoever shows the name.
    """
    return raw.decode("utf-8", "replace")
