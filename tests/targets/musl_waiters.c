/* Threads that wait for the two conditions of a GIL, for another condition, and for a semaphore on their own stack.
 *
 * The struct is that of CPython (pycore_gil.h), without the Python: what matters is where musl has its waiters.
 * Prints the address of the struct, then a line for each thread, its TID and what it waits for; ends with its
 * standard input.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct {
    unsigned long interval;
    void *last_holder;
    int locked;
    unsigned long switch_number;
    pthread_cond_t cond;
    pthread_mutex_t mutex;
    pthread_cond_t switch_cond;
    pthread_mutex_t switch_mutex;
} gil;
static pthread_cond_t other;
static pthread_mutex_t others = PTHREAD_MUTEX_INITIALIZER;

struct wait {
    const char *what;
    pthread_cond_t *cond;
    pthread_mutex_t *mutex;
};

static void *run(void *argument)
{
    struct wait *wait = argument;
    if (!wait->cond) {
        sem_t semaphore;
        sem_init(&semaphore, 0, 0);
        printf("%ld %s\n", syscall(SYS_gettid), wait->what);
        for (;;) sem_wait(&semaphore);
    }
    pthread_mutex_lock(wait->mutex);
    printf("%ld %s\n", syscall(SYS_gettid), wait->what);
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1000;
        pthread_cond_timedwait(wait->cond, wait->mutex, &until);
    }
    return NULL;
}

int main(void)
{
    static struct wait waits[] = {
        {"gil", &gil.cond, &gil.mutex},
        {"gil", &gil.cond, &gil.mutex},
        {"gil", &gil.cond, &gil.mutex},
        {"gil", &gil.switch_cond, &gil.switch_mutex},
        {"lock", &other, &others},
        {"lock", NULL, NULL},
    };
    pthread_condattr_t attributes;
    pthread_t thread;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&gil.cond, &attributes);
    pthread_cond_init(&gil.switch_cond, &attributes);
    pthread_cond_init(&other, &attributes);
    pthread_mutex_init(&gil.mutex, NULL);
    pthread_mutex_init(&gil.switch_mutex, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%p\n", (void *)&gil);
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        pthread_create(&thread, NULL, run, &waits[i]);
    getchar();
    return 0;
}
