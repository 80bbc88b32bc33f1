/* Threads of C that work, call back, and rest, by turns, as drivers and message clients do.
   The callback is Python's, which comes in by PyGILState_Ensure and leaves by PyGILState_Release. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct visitor {
    void (*call)(int);
    int id, visits;
    long burn_us, rest_us;
};

static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;

static long used_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static void *run(void *argument)
{
    struct visitor visitor = *(struct visitor *)argument;
    free(argument);
    for (int visit = 0; visit < visitor.visits; visit++) {
        long end = used_us() + visitor.burn_us;
        while (used_us() < end)
            ;
        if (visitor.call) {
            pthread_rwlock_rdlock(&gate);
            visitor.call(visitor.id);
            pthread_rwlock_unlock(&gate);
        }
        if (visitor.rest_us)
            usleep(visitor.rest_us);
    }
    return NULL;
}

/* Start such a thread; `call` may be NULL. 0, or an errno. */
int visitor_start(void (*call)(int), int id, int visits, long burn_us, long rest_us)
{
    struct visitor *visitor = malloc(sizeof *visitor);
    pthread_attr_t detached;
    pthread_t thread;
    if (!visitor)
        return 12;
    *visitor = (struct visitor){call, id, visits, burn_us, rest_us};
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    return pthread_create(&thread, &detached, run, visitor);
}

/* Wait until none of them is calling, and let none begin. Up to CPython 3.10, a child that is forked while one
   makes its thread state waits for ever for the lock of those. */
void visitor_pause(void)
{
    pthread_rwlock_wrlock(&gate);
}

/* Let them call again; in a forked child, where none of them is left, others. */
void visitor_resume(int in_child)
{
    if (in_child)
        gate = (pthread_rwlock_t)PTHREAD_RWLOCK_INITIALIZER;
    else
        pthread_rwlock_unlock(&gate);
}
