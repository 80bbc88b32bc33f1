"""Writes a table: a memfd, mapped into this process, and the slots in it.

Rules, besides those of :mod:`threadwatch.publisher.publisher`:

* No locks. Data that several threads share is changed by single operations of built-in types, which
are atomic with and without the GIL (``deque.popleft``, ``dict.pop``, ``next(count)``), so that a
signal handler or a fork can come at any point.
* After set-up the descriptor is never written to or resized, only examined: its number may belong
to the application by now. Before it is closed, it must prove to be ours. Before Python 3.13 a
mapping keeps a duplicate of the descriptor and closes it with itself; then the duplicate is the
published descriptor.
* Exceptions of the application's signal handlers pass through, even an OSError (TimeoutError is
one). So a table is closed explicitly, never by a ``__del__``, which lets no exception out.
* The descriptor is never 0, 1 or 2: an application that has closed them expects that the next file
that it opens is its standard input. If few descriptors are left or allowed, we leave them all to
the application.
* Memory is taken in chunks, ahead of use, by a call that can fail. A plain first touch would kill
the process if memory is short (SIGBUS).

Standard library only; runs on CPython 3.9 and later.
"""

import os
import sys
from _collections import deque  # type: ignore[import-not-found]  # `collections` costs 1 ms to import
from _struct import Struct
from fcntl import fcntl
from itertools import count
from mmap import PAGESIZE, mmap
from time import CLOCK_BOOTTIME, clock_gettime_ns

from threadwatch import is_ours
from threadwatch.publisher import layout

_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_NOEXEC_SEAL = 1, 2, 8  # memfd_create(2)
_F_DUPFD_CLOEXEC, _F_ADD_SEALS = 1030, 1033  # fcntl(2)
_F_SEAL_SEAL, _F_SEAL_SHRINK, _F_SEAL_GROW, _F_SEAL_FUTURE_WRITE = 1, 2, 4, 16
_MADV_POPULATE_WRITE = 23  # madvise(2), since Linux 5.14
_EINVAL = 22
_STANDARD = (0, 1, 2)
_FEW = 63
"""If no higher number is allowed, the application may need each descriptor. The test takes no memory."""
_ASK_ALWAYS, _ASK_SELDOM, _ASK_THOROUGHLY = 64, 16, 64
_SIZE = layout.HEADER_SIZE + layout.CAPACITY * layout.SLOT_SIZE
_store_number = Struct("<Q").pack_into


class Record:
    """One thread in a table: the content of its slot.

    ``guarded``: its end will be noticed. ``owner``: the id() of its Thread object, if it is
    guarded.
    """

    __slots__ = (
        "cpu_ns",
        "end_serial",
        "ended_ns",
        "flags",
        "guarded",
        "ident",
        "index",
        "name",
        "owner",
        "born_ns",
        "serial",
        "start_ns",
        "state",
        "table",
        "tid",
    )

    def __init__(
        self, table: "Table", index: int, serial: int, tid: int, ident: int, born_ns: int
    ) -> None:
        self.table = table
        self.index = index
        self.serial = serial
        self.tid = tid
        self.ident = ident
        self.state = layout.LIVE
        self.flags = 0
        self.name = b""
        self.born_ns = born_ns
        self.ended_ns = 0
        self.cpu_ns = layout.CPU_UNKNOWN
        self.end_serial = 0
        self.start_ns = 0
        self.guarded = False
        self.owner = 0


class Table:
    """A published table. Raises OSError, or ValueError from mmap, if it cannot be made.

    ``gil``: the result of :func:`threadwatch.publisher.gil.find`.
    """

    def __init__(
        self,
        *,
        flags: int,
        interpreter: int,
        implementation: str,
        hexversion: int,
        gil: "tuple[int, int, int, int]" = (0, 0, 0, 0),
    ) -> None:
        self.pid = os.getpid()
        self.records: dict[int, Record] = {}
        """The living threads, by ident: a TID can be stale in the threading module after a fork."""
        self._fresh = count()
        self._births = count(1)
        self._deaths = count(1)
        self._generations = count(1)
        self._ended: deque[tuple[int, int]] = deque()
        self._overflow = 0
        self._limit = 0
        self.closed = True  # there is nothing to close yet
        try:
            self._open()
            self._extend(0)
            self._extend(layout.CHUNK)
            gil_address, gil_size, ident_offset, native_offset = gil
            self._map[: layout.STATIC_SIZE + layout.CRC.size] = layout.pack_static(
                flags=flags,
                pid=self.pid,
                start_ticks=_own_start_ticks(),
                hexversion=hexversion,
                interpreter=interpreter,
                created_ns=clock_gettime_ns(CLOCK_BOOTTIME),
                implementation=implementation.encode("ascii", "replace")[:16],
                gil_address=gil_address,
                gil_size=gil_size,
                ident_offset=ident_offset,
                native_offset=native_offset,
            )
        except BaseException:  # no /proc, or an exception of a signal handler
            self.close()
            raise

    def _open(self) -> None:
        descriptors = [_create_memfd()]
        try:
            while descriptors[-1] in _STANDARD:
                descriptors.append(os.dup(descriptors[-1]))
            descriptor = descriptors[-1]
            _leave_some(descriptor)
            os.ftruncate(descriptor, _SIZE)
            os.set_blocking(descriptor, False)  # see descriptor_lost()
            self._identity = _identity(descriptor)
            if sys.version_info >= (3, 13):
                self._map, self._map_has_descriptor = mmap(descriptor, _SIZE, trackfd=False), -1
                _seal(descriptor)
                self.descriptor = descriptors.pop()
            else:
                # The mapping's own descriptor takes the lowest free number. Daemons search for
                # tables among the lowest, so the original descriptor makes room.
                descriptors.append(fcntl(descriptor, _F_DUPFD_CLOEXEC, descriptor + 1))
                descriptors.remove(descriptor)
                os.close(descriptor)
                self._map, self.descriptor = _map(descriptors[-1])
                self._map_has_descriptor = self.descriptor
                _seal(self.descriptor)
            self.closed = False
        finally:
            for number in descriptors:
                os.close(number)

    def add(
        self, tid: int, ident: int, name: str, flags: int = 0, start_ns: int = 0
    ) -> "Record | None":
        """Add a thread and return its record; None if the table is full: the thread has no name then.

        ``start_ns``: the CPU time that it has used so far, if that was for its start.
        """
        now_ns = clock_gettime_ns(CLOCK_BOOTTIME)
        index = self._take_slot(now_ns)
        if index < 0:
            self._overflow += 1
            self._changed()
            return None
        record = Record(self, index, next(self._births), tid, ident, now_ns)
        record.name, cut = layout.encode_name(name)
        record.flags = flags | cut
        record.start_ns = min(start_ns, layout.MAX_START_NS)
        self.records[ident] = record
        self.write(record)
        return record

    def rename(self, record: Record, name: str) -> None:
        """Change the thread's name."""
        record.name, cut = layout.encode_name(name)
        record.flags = record.flags & ~layout.CUT | cut
        self.write(record)

    def take(self, record: Record) -> None:
        """Take over a thread of another table, which is being replaced by this one."""
        index = self._take_slot(clock_gettime_ns(CLOCK_BOOTTIME))
        if index < 0:
            self._overflow += 1
            self._changed()
        elif record.state == layout.LIVE:
            record.index = index
            record.serial = next(self._births)
            record.table = self
            self.records[record.ident] = record
            self.write(record)

    def end(self, record: Record, cpu_ns: int) -> None:
        """Record the end of a thread that used ``cpu_ns`` in its whole life (or CPU_UNKNOWN)."""
        if record.state == layout.ENDED:
            return
        record.ended_ns = clock_gettime_ns(CLOCK_BOOTTIME)
        record.cpu_ns = cpu_ns
        record.end_serial = next(self._deaths)
        record.state = layout.ENDED
        if self.records.get(record.ident) is record:
            self.records.pop(record.ident, None)
        self.write(record)
        self._ended.append((record.index, record.ended_ns))

    def descriptor_lost(self, births: int) -> bool:
        """Return whether the application has closed our descriptor: then no daemon can find the table.

        Call it at each birth, with the number of the birth (0: check in any case, and thoroughly).
        If births are many, most calls return without a check. The quick check does not release the
        GIL: our descriptor is non-blocking, which means nothing for a memfd, and another file with
        its number hardly ever is. The thorough check recognizes even that.
        """
        if births > _ASK_ALWAYS and births % _ASK_SELDOM:
            return False
        try:
            if os.get_blocking(self.descriptor):
                return True
            return births % _ASK_THOROUGHLY == 0 and _identity(self.descriptor) != self._identity
        except OSError as error:
            if not is_ours(error):
                raise
            return True

    def close(self) -> None:
        """Close the table; in a forked child, only the child's share of it.

        May be called again: if a signal handler has raised meanwhile, the next call goes on.
        """
        if self.closed:
            return
        self.records.clear()  # they refer to the table, and would keep it until a cyclic collection
        if not self._map.closed:
            self._close()
        self.closed = True

    def _close(self) -> None:
        if self.pid == os.getpid():
            # A reader that still holds the table must not believe its content any more.
            high_byte = layout.FLAGS_OFFSET + 1
            self._map[high_byte : high_byte + 1] = bytes([layout.CLOSED >> 8])
        try:
            ours = _identity(self.descriptor) == self._identity
        except OSError as error:
            if not is_ours(error):
                raise
            ours = False
        if self._map_has_descriptor < 0:
            # Other threads may be in the middle of a store: the last of them frees the mapping.
            if ours:
                os.close(self.descriptor)
        elif ours:
            self._map.close()
        else:
            # Closing the mapping would close the file that has the number now. At exit, a module's
            # variables are freed while the application's files still have to be written; this list
            # is freed after all that.
            os.register_at_fork(after_in_child=self._map.__len__)

    def _take_slot(self, now_ns: int) -> int:
        ended = self._ended
        try:
            if ended and (
                len(ended) > layout.RETAIN_SLOTS or now_ns - ended[0][1] > layout.RETAIN_NS
            ):
                return int(ended.popleft()[0])
        except IndexError:
            pass  # another thread was faster
        index = next(self._fresh)
        if index % layout.CHUNK == 0:
            self._extend(index + layout.CHUNK)
        if index < self._limit:
            return index
        try:
            return int(ended.popleft()[0])  # sooner than promised, but a living thread comes first
        except IndexError:
            return -1

    def _extend(self, first: int) -> None:
        """Take the memory of the chunk that begins at slot ``first``, if there is any."""
        if first >= layout.CAPACITY or first != self._limit:
            return
        start = layout.HEADER_SIZE + first * layout.SLOT_SIZE
        end = start + layout.CHUNK * layout.SLOT_SIZE
        start -= start % PAGESIZE
        try:
            self._map.madvise(_MADV_POPULATE_WRITE, start, end - start)
        except OSError as error:
            if not is_ours(error):
                raise
            if error.errno != _EINVAL:  # an older kernel does not need it
                return
        self._limit = first + layout.CHUNK

    def write(self, record: Record) -> None:
        """Write a record into its slot, in the table to which the record belongs by now."""
        offset = layout.HEADER_SIZE + record.index * layout.SLOT_SIZE
        while True:
            state = record.state
            slot = layout.pack_slot(
                state,
                record.flags,
                record.serial,
                record.tid,
                record.ident,
                record.born_ns,
                record.ended_ns,
                record.cpu_ns,
                record.end_serial,
                record.name,
                record.start_ns,
            )
            self._map[offset : offset + len(slot)] = slot
            if record.state == state:  # else the thread ended while another one renamed it
                break
        self._changed()
        if record.table is not self:  # another thread has moved it meanwhile
            record.table.write(record)

    def _changed(self) -> None:
        _store_number(self._map, layout.DYNAMIC_OFFSET, next(self._generations))
        if self._overflow:
            _store_number(self._map, layout.DYNAMIC_OFFSET + 8, self._overflow)


def _create_memfd() -> int:
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        return os.memfd_create(layout.NAME, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != _EINVAL:  # before Linux 6.3
            raise
        return os.memfd_create(layout.NAME, flags)


def _leave_some(descriptor: int) -> None:
    """Raise OSError if the application would have few descriptors, or none, besides ours."""
    try:
        os.close(fcntl(descriptor, _F_DUPFD_CLOEXEC, _FEW))
    except OSError as error:
        if error.errno != _EINVAL:
            raise
        raise OSError(f"fewer than {_FEW + 1} open files are allowed") from None


def _map(descriptor: int) -> "tuple[mmap, int]":
    """Return the mapping, and the number of the descriptor that it keeps, before CPython 3.13."""
    # The kernel gives it the lowest free number, unless another thread opens a file in between.
    guess = os.dup(descriptor)
    os.close(guess)
    mapping = mmap(descriptor, _SIZE)
    if _identity(guess) != _identity(descriptor):
        raise OSError("another thread took the descriptor")
    return mapping, guess


def _seal(descriptor: int) -> None:
    """Fix the size for good, and forbid writing through the descriptor (our mapping can still write)."""
    seals = _F_SEAL_SHRINK | _F_SEAL_GROW
    try:
        fcntl(descriptor, _F_ADD_SEALS, seals | _F_SEAL_SEAL | _F_SEAL_FUTURE_WRITE)
    except OSError as error:
        if error.errno != _EINVAL:
            raise
        fcntl(descriptor, _F_ADD_SEALS, seals | _F_SEAL_SEAL)


def _identity(descriptor: int) -> "tuple[int, int]":
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _own_start_ticks() -> int:
    """Return field 22 of ``/proc/self/stat`` (proc_pid_stat(5)): the start time, in ticks since boot."""
    descriptor = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        stat = os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
    return int(stat[stat.rindex(b")") + 2 :].split()[19])
