"""One application: which thread, and why."""

from __future__ import annotations

from dashboards.events import events
from dashboards.grid import Grid
from dashboards.model import (
    APPLICATION,
    COLOURS,
    NOT_SEEN,
    Json,
    Query,
    dashboard,
    graph,
    link,
    of_row,
    of_series,
    stat,
    table,
    timeline,
    variables,
)
from dashboards.promql import (
    gil_utilisation,
    lifetime,
    published_share,
    rate,
    select,
    strongest_state,
    total,
)
from threadwatch.model.states import Kind, of_kind

_ONE = "application"
_DISK = 'state="disk"'
_HOST = of_row("instance")
_NO_LOOP = "no thread has a loop"
_BARS = 40
"""The most rows of the timeline."""
_IDLE = of_kind(Kind.IDLE)
_SEEN_IDLE = [state for state in _IDLE if state != "sleeping"]


_ALONE = (
    link(
        "${__field.labels.thread} alone",
        APPLICATION,
        group="${group:percentencode}",
        thread="${__field.labels.thread:percentencode}",
    ),
)


def _by_thread(metric: str, *matchers: str) -> str:
    return total("thread", rate(metric, _ONE, *matchers, thread=True))


def _by_task(metric: str) -> str:
    return total("task", rate(metric, _ONE, thread=True))


def _by_bound(metric: str) -> str:
    return total("le", rate(metric, _ONE, thread=True))


def _in_words(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def build() -> Json:
    """Return the dashboard."""
    grid = Grid()
    grid.line(
        4,
        stat(
            "Processes",
            "Processes of the application, on all chosen hosts. 0: it has gone.",
            Query(f"sum({select('threadwatch_group_processes', _ONE)})"),
            colours=((None, "red"), (1, "text")),
        ),
        stat(
            "Threads",
            "Threads in them, of all names.",
            Query(f"sum({select('threadwatch_threads', _ONE)})"),
        ),
        stat(
            "CPUs used",
            "CPU time per second of its processes: 1 is one CPU, all the time.",
            Query(f"sum({rate('threadwatch_group_cpu_seconds_total', _ONE)})"),
            decimals=2,
        ),
        stat(
            "GIL held",
            "How much of the time the GIL is held: at 100 % no thread more can run Python. The mean "
            "over its processes (with per: process, the busiest), and the highest of the chosen hosts.",
            Query(f"max({gil_utilisation(_ONE)})"),
            unit="percentunit",
            decimals=0,
            colours=((None, "green"), (0.7, "orange"), (0.9, "red")),
            nothing=NOT_SEEN,
        ),
        stat(
            "Wait for GIL",
            "How many of its threads wait for the GIL at once, on average.",
            Query(f"sum({rate('threadwatch_gil_wait_seconds_total', _ONE)})"),
            decimals=2,
            nothing=NOT_SEEN,
            colours=((None, "green"), (1, "orange"), (4, "red")),
        ),
        stat(
            "Wait for CPU",
            "How many of its threads are ready to run, but have no CPU, on average.",
            Query(f"sum({rate('threadwatch_thread_runqueue_wait_seconds_total', _ONE)})"),
            decimals=2,
            colours=((None, "green"), (1, "orange"), (4, "red")),
        ),
        stat(
            "Wait for disk",
            "How many of its threads are in uninterruptible sleep (D), on average.",
            Query(
                f"sum({rate('threadwatch_thread_state_seconds_total', _ONE, _DISK)})"
                f" or 0 * sum({rate('threadwatch_thread_state_seconds_total', _ONE)})"
            ),
            decimals=2,
            colours=((None, "green"), (0.5, "orange"), (1, "red")),
        ),
        stat(
            "Published",
            "The share of its processes that publish the names of their threads.",
            Query(published_share(_ONE)),
            unit="percentunit",
            colours=((None, "orange"), (0.9, "green")),
        ),
    )
    grid.heading("Which thread")
    grid.line(
        10,
        (
            graph(
                "CPU by thread",
                "CPUs that the threads of each name use. (unattributed) has no known thread, (other) "
                "is what is over the group's cap of names.",
                Query(_by_thread("threadwatch_thread_cpu_seconds_total"), "{{thread}}"),
                unit="short",
                stacked=True,
                links=_ALONE,
                wide=True,
            ),
            16,
        ),
        (
            graph(
                "CPU in user and in system mode",
                "In system mode the kernel works for the thread: reading, writing, getting memory. "
                "The division is the kernel's estimate, the sum is exact.",
                Query(
                    total("mode", rate("threadwatch_thread_cpu_seconds_total", _ONE, thread=True)),
                    "{{mode}}",
                ),
                unit="short",
                stacked=True,
                colours={"user": "green", "system": "orange"},
            ),
            8,
        ),
    )
    grid.heading("And why")
    grid.line(
        12,
        timeline(
            "What each thread mostly does",
            "One bar per thread name: the state that took most of the time of its threads. What "
            "took less is not shown here: see the panel below. Orange is waiting for the GIL, light blue "
            f"waiting for a CPU. Of more than {_BARS} names, those that used most CPU time in the range.",
            Query(strongest_state("thread", _ONE, _BARS), "{{thread}}"),
        ),
    )
    grid.line(
        11,
        (
            graph(
                "Where the time goes",
                "How many of the chosen threads are in each state, on average; together they are "
                "all of them. Choose one thread above to see what it alone does.",
                Query(
                    total(
                        "state", rate("threadwatch_thread_state_seconds_total", _ONE, thread=True)
                    ),
                    "{{state}}",
                ),
                unit="short",
                decimals=1,
                stacked=True,
                colours=COLOURS,
                wide=True,
            ),
            12,
        ),
        (
            graph(
                "Where the time goes of threads that are not idle",
                f"The same without {_in_words(_SEEN_IDLE)}, which idle threads are "
                "in: what is left runs, or wants to and cannot.",
                Query(
                    total(
                        "state",
                        rate(
                            "threadwatch_thread_state_seconds_total",
                            _ONE,
                            f'state!~"{"|".join(_IDLE)}"',
                            thread=True,
                        ),
                    ),
                    "{{state}}",
                ),
                unit="short",
                decimals=1,
                stacked=True,
                colours=COLOURS,
                wide=True,
            ),
            12,
        ),
    )
    grid.line(
        9,
        graph(
            "GIL held by thread",
            "The share of the time that threads of each name hold the GIL: the hog is on top. Empty "
            "where the GIL cannot be seen.",
            Query(_by_thread("threadwatch_gil_held_seconds_total"), "{{thread}}"),
            unit="short",
            stacked=True,
            links=_ALONE,
            nothing=NOT_SEEN,
        ),
        graph(
            "GIL waited for by thread",
            "How many threads of each name wait for the GIL, on average: these starve. Empty where "
            "the GIL cannot be seen.",
            Query(_by_thread("threadwatch_gil_wait_seconds_total"), "{{thread}}"),
            unit="short",
            links=_ALONE,
            nothing=NOT_SEEN,
        ),
        graph(
            "Ready, but no CPU",
            "How many threads of each name are ready to run while every CPU they may use is taken, or "
            "the quota of their cgroup is used up. Not the wait for the GIL. (throttled): how many CPUs "
            "that quota withholds; where it is 0, other programs have the CPUs.",
            Query(_by_thread("threadwatch_thread_runqueue_wait_seconds_total"), "{{thread}}"),
            Query(f"sum({rate('threadwatch_group_throttled_seconds_total', _ONE)})", "(throttled)"),
            unit="short",
            links=_ALONE,
        ),
    )
    grid.heading("Which task (asyncio, uvloop, trio, gevent)", collapsed=True)
    grid.line(
        10,
        graph(
            "Which task uses the CPU",
            "CPUs that the tasks of loops use (asyncio, uvloop, trio, gevent), by name; together what the "
            "chosen threads with a loop use. Empty where no thread has one, or memory may not be read.",
            Query(_by_task("threadwatch_task_cpu_seconds_total"), "{{task}}"),
            unit="short",
            stacked=True,
            nothing=_NO_LOOP,
        ),
        graph(
            "Which task holds the loop",
            "The share of the time in which each task has its loop, running or blocked: all others wait "
            "meanwhile. Stacked, it is the utilization of the loop; of several loops, their sum.",
            Query(_by_task("threadwatch_loop_held_seconds_total"), "{{task}}"),
            unit="short",
            stacked=True,
            nothing=_NO_LOOP,
        ),
    )
    grid.line(
        9,
        graph(
            "How late is the loop",
            "How long an event that comes at a random moment waits until its loop asks for events: half of "
            "them less than the first line, 1 of 100 more than the second. The third is the longest time "
            "of the last minute that was seen.",
            *(
                Query(
                    f"histogram_quantile({quantile}, {_by_bound('threadwatch_loop_lag_seconds_bucket')})",
                    legend,
                )
                for quantile, legend in ((0.5, "median"), (0.99, "99 %"))
            ),
            Query(
                f"max({select('threadwatch_loop_lag_max_seconds', _ONE, thread=True)})", "longest"
            ),
            unit="s",
            nothing=_NO_LOOP,
        ),
        graph(
            "Which task blocks its loop",
            "The share of the time in which the loop had not asked for events for longer than "
            "tasks.blocked_after (100 ms), by the task that had it then.",
            Query(_by_task("threadwatch_loop_blocked_seconds_total"), "{{task}}"),
            unit="short",
            nothing=_NO_LOOP,
        ),
        graph(
            "What waits for the loop",
            "Callbacks and steps of tasks that are ready to run, one after the other, in the loops of the "
            "chosen threads. Where it is never 0, the loop cannot keep up.",
            Query(
                total("thread", select("threadwatch_loop_ready", _ONE, thread=True)), "{{thread}}"
            ),
            unit="short",
            links=_ALONE,
            nothing=_NO_LOOP,
        ),
        graph(
            "Living tasks",
            "Tasks by name, counted every 10 s. A line that only rises is a leak.",
            Query(total("task", select("threadwatch_tasks", _ONE, thread=True)), "{{task}}"),
            unit="short",
            decimals=0,
            nothing=_NO_LOOP,
        ),
    )
    grid.heading("Births and deaths")
    grid.line(
        8,
        graph(
            "Threads of all names",
            "All threads together, and how many names they have. Where both only rise, threads leak "
            "that have a name each, which no line beside this one shows. Foldable are names that "
            "differ only in numbers and hexadecimal strings: threadwatch doctor says by which rule.",
            Query(f"sum({select('threadwatch_threads', _ONE)})", "threads"),
            Query(f"count(count by (thread) ({select('threadwatch_threads', _ONE)}))", "names"),
            Query(f"sum({select('threadwatch_group_foldable_names', _ONE)})", "names to be folded"),
            unit="short",
            decimals=0,
        ),
        graph(
            "Processes over time",
            "Processes of the application, how many publish, and where their threads' names come from.",
            Query(f"sum({select('threadwatch_group_processes', _ONE)})", "processes"),
            Query(f"sum({select('threadwatch_group_published_processes', _ONE)})", "publishing"),
            Query(
                f"sum by (source) ({select('threadwatch_group_processes_by_source', _ONE)})",
                "names: {{source}}",
            ),
            unit="short",
            decimals=0,
        ),
    )
    grid.line(
        9,
        graph(
            "Threads by name",
            "How many threads there are of each name. A line that only rises is a leak.",
            Query(total("thread", select("threadwatch_threads", _ONE, thread=True)), "{{thread}}"),
            unit="short",
            decimals=0,
            links=_ALONE,
            wide=True,
        ),
        graph(
            "Started and ended",
            "Threads started per second, upwards, and ended per second, downwards. Each costs about "
            "0.1 ms. The first one of a new name is not in a rate.",
            Query(_by_thread("threadwatch_threads_started_total"), "{{thread}} started"),
            Query(_by_thread("threadwatch_threads_ended_total"), "{{thread}} ended"),
            unit="cps",
            below_zero=".* ended$",
            links=_ALONE,
            wide=True,
        ),
    )
    grid.heading("The kernel's counts", collapsed=True)
    grid.line(
        9,
        graph(
            "How long a thread runs at once",
            "CPU time per time slice. Much below 1 ms means that switching costs more than it should: "
            "threads that hand each other small work, or fight for the GIL.",
            Query(
                f"{_by_thread('threadwatch_thread_cpu_seconds_total')}\n"
                f"  / ({_by_thread('threadwatch_thread_timeslices_total')} > 0)",
                "{{thread}}",
            ),
            unit="s",
            links=_ALONE,
            wide=True,
        ),
        graph(
            "Page faults",
            "Minor ones found the page in memory, major ones waited for a disk.",
            Query(
                total(
                    "thread, kind",
                    rate("threadwatch_thread_page_faults_total", _ONE, thread=True),
                ),
                "{{thread}} {{kind}}",
            ),
            unit="cps",
            wide=True,
        ),
    )
    grid.line(
        9,
        graph(
            "Context switches",
            "Voluntary ones to wait for something, involuntary ones because others were to run. Only "
            "where the configuration has collect: [context_switches].",
            Query(
                total(
                    "thread, kind",
                    rate("threadwatch_thread_context_switches_total", _ONE, thread=True),
                ),
                "{{thread}} {{kind}}",
            ),
            unit="cps",
            links=_ALONE,
            nothing="needs collect: [context_switches]",
            wide=True,
        ),
        graph(
            "Storage",
            "Read from storage, upwards, and written to it, downwards. Only where the configuration has "
            "collect: [io], and permission to trace the process.",
            Query(
                total(
                    "thread, direction",
                    rate("threadwatch_thread_io_bytes_total", _ONE, thread=True),
                ),
                "{{thread}} {{direction}}",
            ),
            unit="Bps",
            below_zero=".* write$",
            links=_ALONE,
            nothing="needs collect: [io]",
            wide=True,
        ),
    )
    grid.line(
        8,
        graph(
            "Threads alive, on average",
            "From the time that all states took together: unlike a count now and then, it sees short "
            "lives in proportion to their length.",
            Query(lifetime("thread", _ONE, thread=True), "{{thread}}"),
            unit="short",
            links=_ALONE,
            wide=True,
        ),
    )
    grid.heading("Single processes and threads", collapsed=True)
    grid.line(
        9,
        graph(
            "CPU by process",
            "CPUs that each process uses. Only where the configuration has per: process, or per: thread.",
            Query(
                total(
                    "instance, pid", rate("threadwatch_thread_cpu_seconds_total", _ONE, 'pid!=""')
                ),
                "{{pid}} on {{instance}}",
            ),
            unit="short",
            stacked=True,
            links=of_series("instance"),
            nothing="needs per: process",
            wide=True,
        ),
    )
    grid.line(
        9,
        table(
            "Single threads",
            "PID and TID of each thread, to look for in ps, top -H, py-spy or a core dump. Only where "
            "the configuration has thread_info: true.",
            Query(select("threadwatch_thread_info", _ONE, thread=True)),
            labels=("instance", "pid", "tid", "name", "comm", "source", "thread"),
            hide=("job", "group"),
            links=_HOST,
            nothing="needs thread_info: true",
        ),
    )
    grid.heading("What it is")
    grid.line(
        6,
        (
            table(
                "Python",
                "The kinds of Python that publishing processes run, and whether they have a GIL.",
                Query(select("threadwatch_group_info", _ONE)),
                labels=("instance", "implementation", "version", "build", "gil"),
                hide=("job", "group"),
                links=_HOST,
            ),
            10,
        ),
        (
            table(
                "Where it runs",
                "The containers, pods and systemd units of its processes.",
                Query(select("threadwatch_group_container_info", _ONE)),
                labels=("instance", "container_id", "pod_uid", "unit"),
                hide=("job", "group"),
                links=_HOST,
            ),
            8,
        ),
        (
            table(
                "Loops",
                "The kinds of loops that its threads run: asyncio, uvloop, trio or gevent.",
                Query(select("threadwatch_loop_info", _ONE, thread=True)),
                labels=("instance", "thread", "kind"),
                hide=("job", "group"),
                links=_HOST,
                nothing=_NO_LOOP,
            ),
            6,
        ),
    )
    return dashboard(
        APPLICATION,
        "threadwatch / Application",
        "One application: which of its threads, and what it runs on or waits for.",
        variables(groups="one", thread=True),
        grid,
        events("application"),
    )
