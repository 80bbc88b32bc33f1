"""A thread's comm: ``/proc/PID/task/TID/comm``, field 2 of stat (proc_pid_comm(5))."""

from __future__ import annotations


def decode_comm(raw: bytes) -> str:
    """The kernel's name of a thread as text, without the newline that the comm file ends with.

    comm is up to 15 bytes that anybody may choose, and the kernel cuts a longer name between
    bytes, not characters: what is not UTF-8 becomes U+FFFD. Control characters stay as they are;
    escaping them is for whoever shows the name.
    """
    return raw.removesuffix(b"\n").decode("utf-8", "replace")
