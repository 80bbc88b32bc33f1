"""Lists ways to grant what is missing: lines to copy, for the way in which threadwatch runs here. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from threadwatch.doctor.findings import Cause
from threadwatch.doctor.reasons import Remedy
from threadwatch.doctor.situation import CAPABILITIES, Situation

BOTH: Final = tuple(CAPABILITIES)
EVERYBODY: Final = Remedy("for all users", ("sysctl kernel.yama.ptrace_scope=0",))
"""Makes Yama hide nothing of a user's own processes."""
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
    return capabilities(situation, capabilities_for(cause))


def _modules(situation: Situation) -> Iterator[Remedy]:
    label = situation.label
    if label is not None and not label.startswith("unconfined"):
        option = "label=disable" if ":" in label else "apparmor=unconfined"
        yield Remedy("docker", (f"docker run --security-opt {option} …",))
    if not situation.host_users:
        yield Remedy("docker", ("docker run --userns=host …",))


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
        ways.append(Remedy("docker", (f"docker run --pid=host --user 0 {added} …",)))
    else:
        ways.append(
            Remedy(
                "Kubernetes",
                (
                    "hostPID: true",
                    f"securityContext: {{runAsUser: 0, capabilities: {{add: [{', '.join(short)}]}}}}",
                ),
            )
        )
    if not situation.container and situation.credentials.uids[1] != 0:
        ways.append(Remedy("by hand", ("sudo threadwatch …",)))
    return tuple(ways)


def more_files() -> tuple[Remedy, ...]:
    """Return ways to allow more open files."""
    return (
        Remedy("unit of systemd", ("LimitNOFILE=65536",)),
        Remedy("docker", ("docker run --ulimit nofile=65536 …",)),
    )
