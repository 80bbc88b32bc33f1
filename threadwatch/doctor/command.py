"""``threadwatch doctor`` says what is visible, what publishes, what permission hides, and how to grant it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

from threadwatch.config.parse import load_config
from threadwatch.discovery.discovery import Discovery
from threadwatch.doctor.advice import missing, notes
from threadwatch.doctor.examination import examine
from threadwatch.doctor.findings import Daemon, Finding
from threadwatch.doctor.folding import Folding, foldings
from threadwatch.doctor.handed import tables_of
from threadwatch.doctor.missing import Extent, Missing
from threadwatch.doctor.situation import CAPABILITIES, Situation, lacking, read_situation, user_name
from threadwatch.doctor.text import text
from threadwatch.errors import Denied, Gone, ReadError
from threadwatch.handover.inbox import Inbox
from threadwatch.labels.discretion import without_secrets
from threadwatch.procfs import ProcessDir, ProcFS, parse_cmdline
from threadwatch.procfs.credentials import Credentials, parse_credentials
from threadwatch.procfs.limits import parse_file_limits
from threadwatch.procfs.marks import Lock
from threadwatch.procfs.own import own_pid, raise_file_limit
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.reader import GuardedReader, owner_of
from threadwatch.targets.process import Process
from threadwatch.words.choose import Candidate, choose_pids
from threadwatch.words.style import Style

_DEADLINE_S = 1.0
"""How long one read of a process may make us wait, at least."""


def doctor(what: Sequence[str], *, as_json: bool, config_file: str | None, procfs: str) -> int:
    """Print what is visible and what is missing, for the processes that ``what`` names or for all.

    Return 0 if all is as it should be, else 1.

    :raises ConfigError: the configuration cannot be used.
    :raises Unusable: there is no procfs, or nothing fits ``what``.
    """
    config = load_config(config_file)
    root = ProcFS(procfs)
    situation = read_situation(root)
    raise_file_limit()
    errors: list[ReadError] = []
    guarded = GuardedReader(_DEADLINE_S)
    discovery = Discovery(root, config, guarded, errors, Inbox(0))
    discovery.always_watch(frozenset(int(word) for word in what if word.isdecimal()))
    try:
        discovery.scan(1)
        watched = {pid: one for pid, one in discovery.watched.items() if pid != own_pid(root.root)}
        running = daemons(watched.values())
        findings = examine(root, situation, guarded, choose(watched, what, situation), running)
        extent = Extent(
            everything=not what,
            watched=len(discovery.watched) + len(discovery.left_out),
            unreadable=_count(errors, "stat", "denied"),
            unknown=0 if what else count_unknown(root, guarded, discovery.watched),
            left_out=len(discovery.left_out),
        )
    finally:
        for one in discovery.watched.values():
            one.close()
        guarded.close()
    lacks = missing(situation, findings, running, extent)
    remarks = notes(situation, findings, running, extent)
    rules = foldings(findings)
    if as_json:
        document = _document(situation, running, findings, lacks, remarks, rules)
        json.dump(document, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        style = Style.of_stdout()
        for line in text(situation, running, findings, lacks, remarks, rules, style):
            print(line)
    return 1 if lacks else 0


def choose(
    watched: Mapping[int, Process], what: Sequence[str], situation: Situation
) -> list[Process]:
    """Return the processes that a word of ``what`` names by PID or application, and their descendants.

    :raises Unusable: a word names no process.
    """
    candidates = [
        Candidate(pid, one.facts.ppid, one.membership.group) for pid, one in watched.items()
    ]
    hint = f" (hidepid={situation.hidepid})" if situation.is_hidden_from else ""
    chosen = choose_pids(candidates, what, "doctor", hint) if what else set(watched)
    return sorted(
        (watched[pid] for pid in chosen), key=lambda one: (one.membership.group, one.key.pid)
    )


def daemons(processes: Iterable[Process]) -> tuple[Daemon, ...]:
    """Return the processes that run ``threadwatch serve``, by their command lines."""
    found = []
    for watched in processes:
        if _serves(watched.facts.cmdline):
            with suppress(Gone, ReadError):
                status = watched.dir.read("status", "status")
                most_files, _ = parse_file_limits(watched.dir.read("limits", "limits"))
                tables = tables_of(watched.dir)
                found.append(Daemon(watched.key.pid, parse_credentials(status), most_files, tables))
    return tuple(found)


def count_unknown(procfs: ProcFS, guarded: GuardedReader, watched: Collection[int]) -> int:
    """Return the number of other processes whose program is hidden: they may be Python."""
    unknown: list[int] = []

    def look(pid: int) -> None:
        try:
            with procfs.open_process(pid) as process:
                if not all(may_read(lock, process) for lock in ("exec", "memory")):
                    unknown.append(pid)
                # Kernel threads have no command line
                elif parse_cmdline(process.read_cmdline()):
                    process.exe()
        except Denied:
            unknown.append(pid)
        except (Gone, ReadError):
            return

    def may_read(lock: Lock, process: ProcessDir) -> bool:
        return guarded.may_read(HangRecords(), lock, lambda: owner_of(process), time.monotonic_ns())

    def go_on_without(pid: int, lock: Lock) -> None:
        unknown.append(pid)
        owner = -1
        with suppress(Gone, ReadError), procfs.open_process(pid) as process:
            owner = owner_of(process)
        guarded.give_up(HangRecords(), lock, owner, time.monotonic_ns())

    others = [pid for pid in procfs.pids() if pid not in watched]
    guarded.run_all(others, look, go_on_without, left_out=unknown.append)
    return len(unknown)


def _serves(cmdline: Sequence[str]) -> bool:
    words = [word.rpartition("/")[2] for word in cmdline[:8]]
    return ("threadwatch", "serve") in pairwise(words)


def _count(errors: Iterable[ReadError], source: str, reason: str) -> int:
    return sum((error.source, error.reason) == (source, reason) for error in errors)


def _document(
    situation: Situation,
    running: Sequence[Daemon],
    findings: Sequence[Finding],
    lacks: Sequence[Missing],
    remarks: Sequence[str],
    rules: Sequence[Folding],
) -> dict[str, object]:
    return {
        "ok": not lacks,
        "situation": {
            **_rights(situation.credentials),
            "procfs": situation.procfs,
            "mount_options": None if situation.options is None else list(situation.options),
            "hidepid": situation.hidepid,
            "subset_pid": situation.only_pids,
            "schedstat": situation.schedstat,
            "ptrace_scope": situation.ptrace_scope,
            "open_files": {"soft": situation.file_limit[0], "hard": situation.file_limit[1]},
            "pid_namespace": "host" if situation.host_pids else "container",
            "same_pid_namespace": situation.same_namespace,
            "user_namespace": "host" if situation.host_users else "own",
            "security_label": situation.label,
            "machine": situation.machine,
            "wait_reasons": situation.wait_reasons,
        },
        "daemons": [
            {"pid": one.pid, **_rights(one.credentials), "open_files": one.most_files}
            for one in running
        ],
        "processes": [_process(finding) for finding in findings],
        "missing": [
            {
                "kind": one.kind,
                "text": one.text,
                "pids": list(one.pids),
                "ways": [{"where": way.where, "lines": list(way.lines)} for way in one.ways],
            }
            for one in lacks
        ],
        "notes": list(remarks),
        "foldable": [
            {
                "application": one.application,
                "names": one.proposal.names,
                "examples": list(one.proposal.examples),
                "match": one.proposal.match,
                "name": one.proposal.name,
            }
            for one in rules
        ],
    }


def _rights(credentials: Credentials) -> dict[str, object]:
    lacks = lacking(credentials)
    return {
        "uid": credentials.uids[1],
        "user": user_name(credentials.uids[1]),
        "capabilities": {name: name not in lacks for name in CAPABILITIES},
    }


def _process(finding: Finding) -> dict[str, object]:
    return {
        "pid": finding.pid,
        "uid": finding.uid,
        "user": user_name(finding.uid),
        "application": finding.application,
        "cmdline": list(without_secrets(finding.cmdline)),
        "interpreter": finding.interpreter,
        "publishes": finding.publishes,
        "table": finding.table,
        "gil": finding.gil,
        "names": finding.names,
        "source": finding.source,
        "not_from_memory_because": finding.not_read,
        "loops": list(finding.loops.kinds),
        "no_loops_because": finding.loops.why_none,
        "no_loops_detail": finding.loops.detail,
        "handed_over": finding.handed_over,
        "held_by": list(finding.held_by),
        "states": finding.states,
        "memory": finding.memory,
        "hidden_because": finding.cause,
        "detail": finding.detail,
        "unpublished_because": None if finding.reason is None else finding.reason.kind,
        "nameless_threads": dict(finding.nameless),
    }
