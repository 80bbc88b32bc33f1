"""Asks one thread of another process to run a script, as PEP 768 has it, or takes the request back.

While something is written, the thread is held, so that its thread state is where it was found, and nothing
that the thread does itself comes in between. What other threads may do is to set a bit of the word that is
called the eval breaker. So one byte of that word is written, right after it has been read: a bit that another
thread sets can be lost in these microseconds alone. A request for the GIL is made again by itself, and for
signals the script looks itself.
"""

from __future__ import annotations

from struct import Struct

from threadwatch.attach.interpreter import Interpreter, Thread
from threadwatch.attach.memory import Memory
from threadwatch.attach.stop import held
from threadwatch.errors import Malformed, Unusable

_INT = Struct("<i")
_PLEASE_STOP = 1 << 5
"""``_PY_EVAL_PLEASE_STOP_BIT`` of CPython 3.14 and 3.15 (pycore_ceval.h): what ``sys.remote_exec`` sets."""


class Requests:
    """The request to the threads of one interpreter."""

    def __init__(self, memory: Memory, interpreter: Interpreter, path: bytes) -> None:
        self._memory = memory
        self._interpreter = interpreter
        offsets = interpreter.offsets
        self._path = path + b"\0"
        if len(self._path) > offsets.path_size:
            raise Unusable(f"the path {path!r} is longer than {offsets.path_size - 1} bytes")

    def ask(self, tid: int, thread: Thread) -> None:
        """Have the thread run the script when the thread next runs bytecode. ``tid``: as we see it.

        :raises Malformed: something does not fit; nothing has been written.
        :raises Unusable: it has another request already, or runs no scripts; nothing has been written.
        :raises Gone: the thread has ended.
        :raises Denied: it cannot be held.
        """
        offsets, memory, state = self._interpreter.offsets, self._memory, thread.state
        with held(tid):
            self.check(thread)
            breaker = state + offsets.breaker
            memory.write(state + offsets.path, self._path)
            memory.write(state + offsets.pending, _INT.pack(1))
            memory.write(breaker, bytes([memory.read(breaker, 1)[0] | _PLEASE_STOP]))

    def check(self, thread: Thread) -> None:
        """Check that the thread can be asked. Raises as :meth:`ask` does."""
        self._interpreter.check(thread)
        if self._interpreter.is_ending() or not self._interpreter.runs_scripts():
            raise Unusable("its interpreter does not run scripts any more")
        if self._pending(thread) and not self._is_ours(thread):
            raise Unusable(
                "another debugger has asked it to run something, and it has not yet: try again afterwards"
            )

    def take_back(self, tid: int, thread: Thread) -> bool:
        """Keep the thread from running the script; return False if it has begun to.

        Raises as :meth:`ask` does.
        """
        with held(tid):
            self._interpreter.check(thread)
            if not self._pending(thread) or not self._is_ours(thread):
                return False
            pending = thread.state + self._interpreter.offsets.pending
            self._memory.write(pending, _INT.pack(0))
            return True

    def is_pending(self, thread: Thread) -> bool:
        """Return whether the thread has yet to begin with our script."""
        return self._pending(thread) and self._is_ours(thread)

    def _pending(self, thread: Thread) -> bool:
        at = thread.state + self._interpreter.offsets.pending
        value: int = _INT.unpack(self._memory.read(at, 4))[0]
        if value not in (0, 1):
            raise Malformed("interpreter", f"the thread has {value} scripts to run, not 0 or 1")
        return value == 1

    def _is_ours(self, thread: Thread) -> bool:
        at = thread.state + self._interpreter.offsets.path
        return self._memory.read(at, len(self._path)) == self._path
