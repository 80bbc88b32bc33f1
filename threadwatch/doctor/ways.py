"""Lists ways to grant what is missing: lines to copy, for the way in which threadwatch runs here. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from threadwatch.doctor.findings import Cause
from threadwatch.doctor.reasons import Remedy
from threadwatch.doctor.situation import CAPABILITIES, Situation

BOTH: Final = tuple(CAPABILITIES)
EVERYBODY: Final = Remedy("for all users", ("sysctl kernel.yama.ptrace_scope=0",))
"""Makes Yama hide nothing of a user's own processes."""
_DROP_INS: Final = "/etc/systemd/system/threadwatch.service.d"
_HANDED_OVER: Final = Remedy(
    "for names alone, without a capability",
    (f"install -D -m 644 -t {_DROP_INS} systemd/drop-ins/no-capabilities.conf",),
)
"""Has the daemon receive the tables of processes that start from then on."""
_PTRACE: Final = ("CAP_SYS_PTRACE",)


def capabilities_for(cause: Cause) -> tuple[str, ...]:
    """Return the capabilities that open what is hidden for that cause."""
    return BOTH if cause in ("other user", "not dumpable") else _PTRACE


def ways_for(situation: Situation, cause: Cause) -> tuple[Remedy, ...]:
    """Return ways to open what is hidden for that cause."""
    if cause == "yama":
        if situation.ptrace_scope == 3:
            return (Remedy("in /etc/sysctl.d", ("kernel.yama.ptrace_scope = 1",)),)
        return (*capabilities(situation, _PTRACE), EVERYBODY)
    if cause == "refused":
        return tuple(_modules(situation))
    granted = capabilities(situation, capabilities_for(cause))
    if cause == "other user" and not situation.container:
        return (*granted, _HANDED_OVER)
    return granted


def _modules(situation: Situation) -> Iterator[Remedy]:
    label = situation.label
    engine = situation.engine
    if label is not None and not label.startswith("unconfined"):
        selinux = ":" in label
        if situation.kubernetes:
            option = (
                "seLinuxOptions: {type: spc_t}"
                if selinux
                else "appArmorProfile: {type: Unconfined}"
            )
            yield Remedy("Kubernetes", (f"securityContext: {{{option}}}",))
        else:
            option = "label=disable" if selinux else "apparmor=unconfined"
            yield Remedy(engine, (f"{engine} run --security-opt {option} …",))
    if not situation.host_users:
        if situation.kubernetes:
            yield Remedy("Kubernetes", ("hostUsers: true",))
        else:
            yield Remedy(engine, (f"{engine} run --userns=host …",))


def beside(situation: Situation, users: Collection[tuple[int, int | None]]) -> Iterator[Remedy]:
    """Yield the way that needs no capability: to be what the targets are, in a container beside them.

    ``users``: the targets' users and groups.
    """
    if len(users) != 1 or not situation.shares_pids:
        return
    [(uid, gid)] = users
    if gid is None:
        return
    if situation.kubernetes:
        lines = (
            "shareProcessNamespace: true",
            f"securityContext: {{runAsUser: {uid}, runAsGroup: {gid}}}",
        )
        yield Remedy("Kubernetes, without a capability", lines)
    else:
        engine = situation.engine
        line = f"{engine} run --pid=container:NAME --user {uid}:{gid} …"
        yield Remedy(f"{engine}, without a capability", (line,))


def capabilities(situation: Situation, needed: Sequence[str]) -> tuple[Remedy, ...]:
    """Return ways to get these capabilities, and to keep those of the two that are there."""
    names = [name for name in BOTH if name in needed or name not in situation.lacks]
    short = [name.removeprefix("CAP_") for name in names]
    ways = []
    if not situation.container:
        line = " ".join(names)
        ways.append(
            Remedy(
                "unit of systemd",
                (f"AmbientCapabilities={line}", f"CapabilityBoundingSet={line}"),
            )
        )
    if not situation.kubernetes:
        added = " ".join(f"--cap-add {name}" for name in short)
        shared = "" if situation.shares_pids else "--pid=host "
        engine = situation.engine
        ways.append(Remedy(engine, (f"{engine} run {shared}--user 0 {added} …",)))
    else:
        context = f"securityContext: {{runAsUser: 0, capabilities: {{add: [{', '.join(short)}]}}}}"
        pids = () if situation.shares_pids else ("hostPID: true",)
        ways.append(Remedy("Kubernetes", (*pids, context)))
    if not situation.container and situation.credentials.uids[1] != 0:
        ways.append(Remedy("by hand", ("sudo threadwatch …",)))
    return tuple(ways)


def more_files() -> tuple[Remedy, ...]:
    """Return ways to allow more open files."""
    return (
        Remedy("unit of systemd", ("LimitNOFILE=65536",)),
        Remedy("docker", ("docker run --ulimit nofile=65536 …",)),
    )
