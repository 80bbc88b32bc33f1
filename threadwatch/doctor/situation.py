"""Reads the facts that decide how much a process can see of others: its rights, its procfs, the kernel.

They are those of the process that asks. A daemon's situation is the same only if it has the same
user, capabilities and mounts: so ``doctor`` shows the rights of a running daemon, too.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from threadwatch.discovery.user_names import UserNames
from threadwatch.errors import Malformed
from threadwatch.procfs import ProcFS, parse_cgroup
from threadwatch.procfs.credentials import Credentials, parse_credentials
from threadwatch.procfs.mountinfo import parse_mountinfo
from threadwatch.procfs.own import has_schedstat, own_link, read_own, read_setting
from threadwatch.waits.syscalls import ways

CAPABILITIES: Final = {"CAP_SYS_PTRACE": 1 << 19, "CAP_DAC_READ_SEARCH": 1 << 2}
"""The capabilities that open other users' processes, as bits of a :class:`Credentials`'s sets
(linux/capability.h)."""
_CAP_DAC_OVERRIDE = 1 << 1

_HIDEPID = {"0": "off", "1": "noaccess", "2": "invisible", "4": "ptraceable"}
"""Before Linux 5.8 the mount option has numbers as values (proc(5))."""
_HOST_PIDS = "pid:[4026531836]"
_HOST_USERS = "user:[4026531837]"
_HOST_CGROUPS = "cgroup:[4026531835]"
"""The first namespaces of a kernel have fixed numbers (include/linux/proc_ns.h)."""
_IN_KUBERNETES = "KUBERNETES_SERVICE_HOST"


@dataclass(frozen=True, slots=True)
class Situation:
    """The rights and the surroundings of a process."""

    credentials: Credentials
    groups: frozenset[int]
    """Its group and its supplementary groups."""
    procfs: str
    """The path of the targets' procfs."""
    options: tuple[str, ...] | None
    """The mount options of that; None: it is no mount of its own."""
    same_namespace: bool
    """Whether it shows the PIDs that system calls take; otherwise CPU clocks cannot be read."""
    schedstat: bool
    """Whether the kernel counts CPU time in ns; otherwise in ticks of 10 ms."""
    ptrace_scope: int | None
    """Yama's setting (Documentation/admin-guide/LSM/Yama.rst); None: there is no Yama, or it is hidden."""
    file_limit: tuple[int, int]
    """RLIMIT_NOFILE, soft and hard."""
    host_pids: bool
    """Whether it is in the host's PID namespace, not in a container's."""
    host_users: bool
    """Whether its capabilities count on the whole host, not only in a user namespace of its own."""
    container: bool
    """Whether it runs in a container, as far as that can be told."""
    kubernetes: bool
    machine: str
    """uname(2)'s name for the processor."""
    wait_reasons: bool
    """Whether the numbers of the machine's system calls are known."""
    label: str | None
    """Its label of a security module (AppArmor, SELinux); None without one."""
    podman: bool = False
    """Whether podman has started its container."""

    @property
    def shares_pids(self) -> bool:
        """Return whether its PID namespace is a container's, and what it sees is in that."""
        return not self.host_pids and self.same_namespace

    @property
    def engine(self) -> str:
        """Return the command that starts a container as this one, or as one would here."""
        return "podman" if self.podman else "docker"

    @property
    def lacks(self) -> frozenset[str]:
        """Return those of :data:`CAPABILITIES` that are not in force."""
        return lacking(self.credentials)

    @property
    def hidepid(self) -> str:
        """Return how the procfs hides processes that we may not trace: ``off``, ``invisible`` or the like."""
        value = _option(self.options or (), "hidepid") or "off"
        return _HIDEPID.get(value, value)

    @property
    def only_pids(self) -> bool:
        """Return whether the procfs shows only processes: no ``/proc/sys``, no ``/proc/loadavg``."""
        return "subset=pid" in (self.options or ())

    @property
    def is_hidden_from(self) -> bool:
        """Return whether it hides others' processes from us (has_pid_permissions(), fs/proc/base.c)."""
        if self.hidepid == "off" or "CAP_SYS_PTRACE" not in self.lacks:
            return False
        trusted = _option(self.options or (), "gid") or "0"
        return self.hidepid == "ptraceable" or trusted not in map(str, self.groups)


def lacking(credentials: Credentials) -> frozenset[str]:
    """Return the :data:`CAPABILITIES` that a process lacks, counting those that include them."""
    effective = credentials.effective
    if effective & _CAP_DAC_OVERRIDE:
        effective |= CAPABILITIES["CAP_DAC_READ_SEARCH"]
    return frozenset(name for name, bit in CAPABILITIES.items() if not effective & bit)


def read_situation(procfs: ProcFS) -> Situation:
    """Return the situation of this process.

    :raises Malformed: the kernel's text cannot be parsed.
    """
    credentials = parse_credentials(read_own("status"))
    machine = os.uname().machine
    host_pids = own_link("ns/pid") == _HOST_PIDS
    return Situation(
        credentials=credentials,
        groups=frozenset((os.getegid(), *os.getgroups())),
        procfs=procfs.root,
        options=_mount_options(procfs.root),
        same_namespace=procfs.same_namespace,
        schedstat=has_schedstat(),
        ptrace_scope=_number(read_setting(procfs.root, "sys/kernel/yama/ptrace_scope")),
        file_limit=resource.getrlimit(resource.RLIMIT_NOFILE),
        host_pids=host_pids,
        host_users=own_link("ns/user") == _HOST_USERS,
        container=not host_pids or _is_contained(),
        kubernetes=_IN_KUBERNETES in os.environ,
        machine=machine,
        wait_reasons=bool(ways(machine)),
        label=read_own("attr/current").rstrip(b"\0\n").decode("utf-8", "replace") or None,
        podman=os.environ.get("container") == "podman",  # noqa: SIM112 - that is its name
    )


def _mount_options(root: str) -> tuple[str, ...] | None:
    mount = parse_mountinfo(read_own("mountinfo"), os.path.realpath(root))
    return None if mount is None else tuple(dict.fromkeys(mount.options))


def _is_contained() -> bool:
    """Return whether this is a container, in a process that is in the host's PID namespace.

    Marks such as /.dockerenv do not count: a virtual machine can be made from an image, too.
    """
    if _IN_KUBERNETES in os.environ or own_link("ns/cgroup") != _HOST_CGROUPS:
        return True
    with suppress(Malformed):
        return parse_cgroup(read_own("cgroup")).container is not None
    return False


def _option(options: Iterable[str], name: str) -> str | None:
    for option in options:
        key, _, value = option.partition("=")
        if key == name:
            return value
    return None


def _number(data: bytes) -> int | None:
    text = data.strip()
    return int(text) if text.isdigit() and len(text) < 10 else None


_users = UserNames(wait_s=1.0)


def user_name(uid: int) -> str:
    """Return the user's name; or the number if it has none, or if the name service does not answer."""
    return _users.name(uid)
