"""Lists the metric families that the daemon exposes: names, types, units, labels and HELP texts.

Users build dashboards and alerts on names, types and labels: they change with a major release only.
``docs/metrics.md`` explains each family, and a test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client.core import Metric

FamilyType = Literal["counter", "gauge", "histogram", "info"]

_SUFFIXES: Final = {"counter": "_total", "gauge": "", "histogram": "", "info": "_info"}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family."""

    name: str
    """The name in a query: with ``_total`` or ``_info`` where the type asks for it."""
    type: FamilyType
    help: str
    labels: tuple[str, ...] = ()
    """Every label that a sample of this family can have, except ``le`` of a histogram."""
    unit: str = ""
    """Base unit: the name's last part before the suffix. Shown as UNIT in OpenMetrics."""

    def metric(self) -> Metric:
        """Return a new, empty family in prometheus_client's terms, whose names are without suffix."""
        return Metric(self.name.removesuffix(_SUFFIXES[self.type]), self.help, self.type, self.unit)


_SERIES: Final = ("group", "thread", "pid", "tid")
"""Labels of a thread series; pid and tid only where the group's ``per`` asks for them."""

THREAD_CPU: Final = Family(
    "threadwatch_thread_cpu_seconds_total",
    "counter",
    "CPU time used by threads of this name, ended ones included, in seconds. From the kernel's"
    " nanosecond clocks, read every poll_interval; its division into user and system is the"
    " kernel's estimate. CPU time of no known thread is charged to the thread (unattributed).",
    (*_SERIES, "mode"),
    "seconds",
)
THREAD_RUNQUEUE: Final = Family(
    "threadwatch_thread_runqueue_wait_seconds_total",
    "counter",
    "Time that threads of this name were ready to run and waited for a free CPU, in seconds."
    " From the kernel's nanosecond clocks (schedstat), read every poll_interval.",
    _SERIES,
    "seconds",
)
THREAD_TIMESLICES: Final = Family(
    "threadwatch_thread_timeslices_total",
    "counter",
    "How many times threads of this name were given a CPU, as the kernel counts (schedstat),"
    " read every poll_interval.",
    _SERIES,
)
THREAD_SWITCHES: Final = Family(
    "threadwatch_thread_context_switches_total",
    "counter",
    "Context switches of threads of this name, as the kernel counts, read every poll_interval:"
    " voluntary ones to wait for something, involuntary ones because others were to run.",
    (*_SERIES, "kind"),
)
THREAD_FAULTS: Final = Family(
    "threadwatch_thread_page_faults_total",
    "counter",
    "Page faults of threads of this name, as the kernel counts, read every poll_interval: minor"
    " ones were served from memory, major ones had to read from a disk.",
    (*_SERIES, "kind"),
)
THREAD_IO: Final = Family(
    "threadwatch_thread_io_bytes_total",
    "counter",
    "Data that threads of this name caused to be read from and written to storage, in bytes, as the"
    " kernel counts, read every poll_interval. Only where the configuration collects io and permissions"
    " allow it.",
    (*_SERIES, "direction"),
    "bytes",
)
THREAD_STATE: Final = Family(
    "threadwatch_thread_state_seconds_total",
    "counter",
    "Time that threads of this name spent in each state, summed over them, in seconds. running and"
    " runnable are the kernel's clocks since a thread was first seen, read every poll_interval; the"
    " rest is divided by samples of what threads wait for (waits.rate per second).",
    (*_SERIES, "state"),
    "seconds",
)
THREADS: Final = Family(
    "threadwatch_threads",
    "gauge",
    "Threads of this name in each state when last polled (every poll_interval); 0 for a state"
    " that was seen before.",
    (*_SERIES, "state"),
)
GIL_HELD: Final = Family(
    "threadwatch_gil_held_seconds_total",
    "counter",
    "Time that threads of this name held the GIL, whether or not they ran, in seconds. From samples"
    " (waits.rate per second), read every poll_interval; only of processes whose GIL can be seen.",
    _SERIES,
    "seconds",
)
GIL_WAIT: Final = Family(
    "threadwatch_gil_wait_seconds_total",
    "counter",
    "Time that threads of this name waited for the GIL, in seconds. From samples (waits.rate per"
    " second), read every poll_interval; only of processes whose GIL can be seen.",
    _SERIES,
    "seconds",
)
THREADS_STARTED: Final = Family(
    "threadwatch_threads_started_total",
    "counter",
    "Threads of this name that were found running or have started since. Without a publisher in"
    " the process, those that lived between two polls only (every poll_interval) are missing.",
    _SERIES,
)
THREADS_ENDED: Final = Family(
    "threadwatch_threads_ended_total",
    "counter",
    "Threads of this name that have ended. Without a publisher in the process, those that lived"
    " between two polls only (every poll_interval) are missing.",
    _SERIES,
)
TASK_CPU: Final = Family(
    "threadwatch_task_cpu_seconds_total",
    "counter",
    "CPU time of threads that run a loop, by the task that used it, in seconds. The sum over task is the"
    " kernel's clock of the threads since their loop was first seen, read every poll_interval; its division"
    " among tasks is from samples (tasks.rate per second).",
    (*_SERIES, "task"),
    "seconds",
)
LOOP_HELD: Final = Family(
    "threadwatch_loop_held_seconds_total",
    "counter",
    "Time in which a task had the loop of its thread, running or blocked, in seconds. From samples"
    " (tasks.rate per second), read every poll_interval.",
    (*_SERIES, "task"),
    "seconds",
)
LOOP_BLOCKED: Final = Family(
    "threadwatch_loop_blocked_seconds_total",
    "counter",
    "Time in which a loop had not come back to its selector for longer than tasks.blocked_after, by the task"
    " that had the loop, in seconds. From samples (tasks.rate per second), read every poll_interval.",
    (*_SERIES, "task"),
    "seconds",
)
LOOP_LAG: Final = Family(
    "threadwatch_loop_lag_seconds",
    "histogram",
    "How long an event that came at a random moment had to wait for the loop at least, in seconds: 0 if the"
    " loop waited for events. One observation for each sample (tasks.rate per second) of a process that is"
    " awake, read every poll_interval.",
    _SERIES,
    "seconds",
)
LOOP_LAG_MAX: Final = Family(
    "threadwatch_loop_lag_max_seconds",
    "gauge",
    "The largest of those waits in the last minute, in seconds. From samples (tasks.rate per second), read"
    " every poll_interval.",
    _SERIES,
    "seconds",
)
LOOP_READY: Final = Family(
    "threadwatch_loop_ready",
    "gauge",
    "Callbacks that were ready to run in the loops of threads of this name, steps of tasks included, when"
    " last looked at (tasks.rate per second) before the poll (every poll_interval). What has a loop is not"
    " among them.",
    _SERIES,
)
TASKS: Final = Family(
    "threadwatch_tasks",
    "gauge",
    "Living tasks of this name, by state: ready (they run, or can run) or waiting, when last"
    " counted: every 10 s, more rarely if there are many, and shown at the next poll (every poll_interval).",
    (*_SERIES, "task", "state"),
)
LOOP_INFO: Final = Family(
    "threadwatch_loop_info",
    "info",
    "One series with the value 1 for each kind of loop that threads of this name ran when last"
    " polled (every poll_interval): asyncio, uvloop, trio or gevent.",
    (*_SERIES, "kind"),
)
GROUP_CPU: Final = Family(
    "threadwatch_group_cpu_seconds_total",
    "counter",
    "CPU time used by the group's processes, ended threads and processes included, in seconds."
    " From the kernel's nanosecond process clocks, read every poll_interval.",
    ("group",),
    "seconds",
)
GROUP_ENDED_CHILDREN: Final = Family(
    "threadwatch_group_ended_children_cpu_seconds_total",
    "counter",
    "CPU time without a name that child processes of the group used between polls (every poll_interval)"
    " and their ends, in seconds: part of the group's, and of its (unattributed). From the kernel's clocks"
    " of ended children, in steps of 10 ms.",
    ("group",),
    "seconds",
)
GROUP_THROTTLED: Final = Family(
    "threadwatch_group_throttled_seconds_total",
    "counter",
    "Time for which limits of CPU time kept the group's processes from CPUs, summed over CPUs, in"
    " seconds. From the cgroups in which they run, with all that runs there, read every 5 s (or"
    " poll_interval).",
    ("group",),
    "seconds",
)
GROUP_INFO: Final = Family(
    "threadwatch_group_info",
    "info",
    "One series with the value 1 for each kind of Python that processes of the group run, where"
    " thread names are known, when last polled (every poll_interval). build is default or"
    " free-threaded; gil: they run with one (on) or without (off).",
    ("group", "implementation", "version", "build", "gil"),
)
GROUP_CONTAINER_INFO: Final = Family(
    "threadwatch_group_container_info",
    "info",
    "One series with the value 1 for each place where processes of the group run, when last polled"
    " (every poll_interval): the innermost container's id, the pod's uid and the systemd unit, each"
    " empty if there is none. Beyond 200 places of a group the rest are one, (other).",
    ("group", "container_id", "pod_uid", "unit"),
)
GROUP_PROCESSES: Final = Family(
    "threadwatch_group_processes",
    "gauge",
    "Processes in the group when last polled (every poll_interval).",
    ("group",),
)
GROUP_SOURCES: Final = Family(
    "threadwatch_group_processes_by_source",
    "gauge",
    "Processes in the group by where their thread names come from, when last polled (every"
    " poll_interval): published by them, read from their memory, or comm for the kernel's.",
    ("group", "source"),
)
GROUP_PUBLISHED: Final = Family(
    "threadwatch_group_published_processes",
    "gauge",
    "Processes in the group that publish their thread names, when last polled (every"
    " poll_interval).",
    ("group",),
)
SERIES_DROPPED: Final = Family(
    "threadwatch_series_dropped_total",
    "counter",
    "Threads whose name found no place under the group's cap, so that they were counted under (other).",
    ("group",),
)
FOLDABLE_NAMES: Final = Family(
    "threadwatch_group_foldable_names",
    "gauge",
    "Thread names with series in the group, when last polled (every poll_interval), that differ only in"
    " numbers and hexadecimal strings, ten or more of a kind: a name rule would make one of each kind.",
    ("group",),
)
THREAD_INFO: Final = Family(
    "threadwatch_thread_info",
    "info",
    "One series with the value 1 for each thread seen when last polled (every poll_interval):"
    " joins series to PIDs, TIDs and exact names. source says where the name comes from:"
    " published, memory, or comm for the kernel's.",
    ("group", "thread", "pid", "tid", "name", "comm", "source"),
)
BUILD_INFO: Final = Family(
    "threadwatch_build_info",
    "info",
    "The value 1, labelled by the version and source revision of threadwatch and by the Python"
    " that runs it.",
    ("version", "revision", "pythonversion", "implementation"),
)
POLLS: Final = Family(
    "threadwatch_polls_total",
    "counter",
    "Polls completed: one every poll_interval, unless one takes longer than that.",
)
POLLS_SKIPPED: Final = Family(
    "threadwatch_polls_skipped_total",
    "counter",
    "Polls left out because the one before took longer than poll_interval, or threadwatch got no CPU.",
)
POLL_CPU: Final = Family(
    "threadwatch_poll_cpu_seconds_total",
    "counter",
    "CPU time that threadwatch itself used for its polls, in seconds.",
    unit="seconds",
)
SAMPLES: Final = Family(
    "threadwatch_wait_samples_total",
    "counter",
    "How many times a process was sampled to see why its threads wait and which one holds its GIL.",
)
SAMPLE_CPU: Final = Family(
    "threadwatch_wait_sample_cpu_seconds_total",
    "counter",
    "CPU time that threadwatch itself used for samples of processes, in seconds.",
    unit="seconds",
)
POLL_DURATION: Final = Family(
    "threadwatch_poll_duration_seconds",
    "histogram",
    "How long polls took, in seconds of real time.",
    unit="seconds",
)
LAST_POLL: Final = Family(
    "threadwatch_last_poll_timestamp_seconds",
    "gauge",
    "When the last completed poll ended, in seconds since the Unix epoch: the moment that the"
    " values of this scrape are from.",
    unit="seconds",
)
READ_ERRORS: Final = Family(
    "threadwatch_read_errors_total",
    "counter",
    "Files of the kernel, published tables or memory that could not be read, by source and reason. A"
    " process or thread that has ended is no error.",
    ("source", "reason"),
)
HANDED_OVER: Final = Family(
    "threadwatch_tables_handed_over_total",
    "counter",
    "Thread tables that processes have sent to the daemon's socket, by what has come of them. Absent without"
    " a socket.",
    ("result",),
)
RELOAD_SUCCESSFUL: Final = Family(
    "threadwatch_config_last_reload_successful",
    "gauge",
    "1 if the configuration was good when it was last read, 0 if an older one is still in use.",
)
RELOAD_TIME: Final = Family(
    "threadwatch_config_last_reload_success_timestamp_seconds",
    "gauge",
    "When the configuration in use was read, in seconds since the Unix epoch.",
    unit="seconds",
)

HOST_CPUS: Final = Family(
    "threadwatch_host_cpus",
    "gauge",
    "CPUs of the host that are online.",
)
PROCESS_CPU: Final = Family(
    "process_cpu_seconds_total",
    "counter",
    "CPU time used by threadwatch itself, user and system, in seconds.",
    unit="seconds",
)
PROCESS_START: Final = Family(
    "process_start_time_seconds",
    "gauge",
    "When threadwatch itself was started, in seconds since the Unix epoch.",
    unit="seconds",
)
PROCESS_RESIDENT: Final = Family(
    "process_resident_memory_bytes",
    "gauge",
    "Physical memory of threadwatch itself, in bytes.",
    unit="bytes",
)
PROCESS_VIRTUAL: Final = Family(
    "process_virtual_memory_bytes",
    "gauge",
    "Virtual memory of threadwatch itself, in bytes.",
    unit="bytes",
)
PROCESS_OPEN_FDS: Final = Family(
    "process_open_fds", "gauge", "File descriptors that threadwatch itself has open."
)
PROCESS_MAX_FDS: Final = Family(
    "process_max_fds",
    "gauge",
    "File descriptors that threadwatch itself may have open (the soft limit).",
)

FAMILIES: Final = (
    THREAD_CPU,
    THREAD_RUNQUEUE,
    THREAD_TIMESLICES,
    THREAD_SWITCHES,
    THREAD_FAULTS,
    THREAD_IO,
    THREAD_STATE,
    THREADS,
    GIL_HELD,
    GIL_WAIT,
    THREADS_STARTED,
    THREADS_ENDED,
    TASK_CPU,
    LOOP_HELD,
    LOOP_BLOCKED,
    LOOP_LAG,
    LOOP_LAG_MAX,
    LOOP_READY,
    TASKS,
    LOOP_INFO,
    GROUP_CPU,
    GROUP_ENDED_CHILDREN,
    GROUP_THROTTLED,
    GROUP_INFO,
    GROUP_CONTAINER_INFO,
    GROUP_PROCESSES,
    GROUP_SOURCES,
    GROUP_PUBLISHED,
    SERIES_DROPPED,
    FOLDABLE_NAMES,
    THREAD_INFO,
    BUILD_INFO,
    POLLS,
    POLLS_SKIPPED,
    POLL_CPU,
    SAMPLES,
    SAMPLE_CPU,
    POLL_DURATION,
    LAST_POLL,
    READ_ERRORS,
    HANDED_OVER,
    RELOAD_SUCCESSFUL,
    RELOAD_TIME,
    HOST_CPUS,
    PROCESS_CPU,
    PROCESS_START,
    PROCESS_RESIDENT,
    PROCESS_VIRTUAL,
    PROCESS_OPEN_FDS,
    PROCESS_MAX_FDS,
)
"""All families, in the order in which they are exposed."""
