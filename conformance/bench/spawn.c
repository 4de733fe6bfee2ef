/* Runs one command and writes what it cost to descriptor 3:
 *
 *     spawn TYPE CONFIG PROGRAM ARGUMENT...
 *
 * one line: nanoseconds from before vfork to after the wait, status of wait4, microseconds on a processor,
 * peak of resident memory in kB, page faults without I/O, and what the counter TYPE, CONFIG of
 * perf_event_open(2) counted in user mode, -1 where there is none.
 *
 * It is a program of its own, static and small, because execve(2) takes the peak of the memory that it gives
 * up into ru_maxrss of the new program, after a vfork the caller's: below Python every peak would be
 * Python's.  It is also why no clock sees Python. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A counter that stands still for us and runs for what we execute, and for all that descends from it. */
static int open_counter(unsigned type, unsigned long long config)
{
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = type;
    attr.config = config;
    attr.disabled = attr.enable_on_exec = attr.inherit = attr.exclude_kernel = attr.exclude_hv = 1;
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static long long nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long microseconds(struct timeval time)
{
    return time.tv_sec * 1000000LL + time.tv_usec;
}

int main(int argc, char **argv)
{
    if (argc < 4 || fcntl(3, F_SETFD, FD_CLOEXEC) != 0)
        return 2;
    int counter = open_counter((unsigned)atoi(argv[1]), strtoull(argv[2], NULL, 0));
    int status = 0;
    struct rusage usage;
    long long counted = -1;
    long long began = nanoseconds();
    pid_t child = vfork();
    if (child == 0) {
        execv(argv[3], argv + 3);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child)
        return 2;
    long long took = nanoseconds() - began;
    if (counter >= 0 && read(counter, &counted, sizeof counted) != sizeof counted)
        counted = -1;
    long long spent = microseconds(usage.ru_utime) + microseconds(usage.ru_stime);
    dprintf(3, "%lld %d %lld %ld %ld %lld\n", took, status, spent, usage.ru_maxrss, usage.ru_minflt, counted);
    return 0;
}
