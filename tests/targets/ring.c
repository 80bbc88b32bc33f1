/* Writes down when a thread waits in an epoll, and what Python has it write down, into one ring: for loops that
   are written in C. To be loaded by LD_PRELOAD. See tests/targets/loops.py. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SELECTS = 1, BACK = 2 };

static __thread uint64_t (*ring)[2];
static __thread size_t at, most;

/* Have this thread write into that memory. */
void ring_begin(void *memory, size_t pairs)
{
    ring = memory;
    most = pairs;
    at = 0;
}

/* Write down what begins now; return how much there is. */
size_t ring_note(uint64_t number)
{
    if (ring && at < most) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        ring[at][0] = now.tv_sec * 1000000000ull + now.tv_nsec;
        ring[at++][1] = number;
    }
    return at;
}

int epoll_pwait(int epoll, struct epoll_event *events, int count, int timeout, const sigset_t *mask)
{
    ring_note(SELECTS);
    int found = syscall(SYS_epoll_pwait, epoll, events, count, timeout, mask, 8);
    int error = errno;
    ring_note(BACK);
    errno = error;
    return found;
}

int epoll_wait(int epoll, struct epoll_event *events, int count, int timeout)
{
    return epoll_pwait(epoll, events, count, timeout, NULL);
}
