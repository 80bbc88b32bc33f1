"""Reads the kernel's files and the targets' thread tables: one reader, and pure parsers beside it."""

from threadwatch.procfs.cgroup import Cgroup, parse_cgroup
from threadwatch.procfs.cgroup_tree import CgroupTree, Place
from threadwatch.procfs.cmdline import parse_cmdline
from threadwatch.procfs.comm import decode_comm
from threadwatch.procfs.cpu_stat import Throttled, parse_cpu_stat
from threadwatch.procfs.cputimer import CpuTimer
from threadwatch.procfs.fdinfo import FdInfo, parse_fdinfo
from threadwatch.procfs.handles import (
    MAX_FILE,
    MemoryFile,
    ProgramFile,
    TableFile,
    TaskFile,
    read_again,
    read_calls,
)
from threadwatch.procfs.idmap import parse_root
from threadwatch.procfs.io import Io, parse_io
from threadwatch.procfs.reader import MAX_CMDLINE, TABLE_LINK, ProcessDir
from threadwatch.procfs.root import ProcFS
from threadwatch.procfs.schedstat import parse_schedstat
from threadwatch.procfs.stat import Stat, Waited, is_kernel_thread, parse_stat, parse_waited
from threadwatch.procfs.status import Status, parse_status, parse_switches
from threadwatch.procfs.syscall import RUNNING, Syscall, parse_syscall
from threadwatch.procfs.tables import MAX_TABLES, find_some_tables, find_tables
from threadwatch.procfs.timens import ClockOffsets, parse_clock_offsets

__all__ = [
    "MAX_CMDLINE",
    "MAX_FILE",
    "MAX_TABLES",
    "RUNNING",
    "TABLE_LINK",
    "Cgroup",
    "CgroupTree",
    "ClockOffsets",
    "CpuTimer",
    "FdInfo",
    "Io",
    "MemoryFile",
    "Place",
    "ProcFS",
    "ProcessDir",
    "ProgramFile",
    "Stat",
    "Status",
    "Syscall",
    "TableFile",
    "TaskFile",
    "Throttled",
    "Waited",
    "decode_comm",
    "find_some_tables",
    "find_tables",
    "is_kernel_thread",
    "parse_cgroup",
    "parse_clock_offsets",
    "parse_cmdline",
    "parse_cpu_stat",
    "parse_fdinfo",
    "parse_io",
    "parse_root",
    "parse_schedstat",
    "parse_stat",
    "parse_status",
    "parse_switches",
    "parse_syscall",
    "parse_waited",
    "read_again",
    "read_calls",
]
