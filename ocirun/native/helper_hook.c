/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks that init runs: createContainer before the root is switched, startContainer before the program. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"
#include "helper_kernel.h"

/* How much of what a hook printed the host is told, the end of it, and how many pieces are read when it has
 * ended: one that it left in the background may print for ever. */
enum { TAIL = 4096, LAST_PIECES = 16 };

static struct {
    uint32_t number;
    int process, output;
    pid_t pid;
    char tail[TAIL + 1];
    size_t length;
} hook;

/* The host hears as it hears of every step, after await_start through the proof as of a failed execve:
 * status is that of wait4(2), -1 where it did not end in time; error says that operation failed. */
static _Noreturn void fail_hook(int error, int status, const char *operation) {
    int32_t numbers[] = {(int32_t)hook.number, error, status};
    size_t named = strlen(operation) + 1;
    char text[1 + sizeof numbers + 32 + TAIL] = "H";

    for (size_t i = 0; i < hook.length; i++)
        if (!hook.tail[i])
            hook.tail[i] = '?';
    hook.tail[hook.length] = '\0';
    if (helper.control >= 0) {
        report(REPORT_FAILED, error, (uint32_t)status, operation, hook.tail, NULL, 0);
        leave(1);
    }
    memcpy(text + 1, numbers, sizeof numbers);
    memcpy(text + 1 + sizeof numbers, operation, named);
    memcpy(text + 1 + sizeof numbers + named, hook.tail, hook.length);
    leave(write(slot_fd(helper.proof), text, 1 + sizeof numbers + named + hook.length) < 0 ? 126 : 1);
}

/* It is there whole, so that nobody waits for the hook to read it.  The pid is the one that the container
 * sees (runtime.md#state): only init knows it. */
static int write_state(const struct wire_bytes *state) {
    char pid[32];
    int length = snprintf(pid, sizeof pid, "{\"pid\": %d, ", (int)getpid());
    int fd = (int)syscall(SYS_memfd_create, "ocirun-state", MFD_CLOEXEC | KERNEL_MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) /* older than Linux 6.3 */
        fd = (int)syscall(SYS_memfd_create, "ocirun-state", MFD_CLOEXEC);
    if (fd < 0)
        fail_hook(errno, 0, "memfd_create");
    if (write(fd, pid, (size_t)length) != length ||
        write(fd, state->data, state->length) != (ssize_t)state->length || lseek(fd, 0, SEEK_SET) < 0)
        fail_hook(errno, 0, "write");
    return fd;
}

/* The child: nothing of ours but its 0, 1 and 2 lives through its execve, the preserved descriptors neither.
 * One of the container's root has the umask of the program already. */
static _Noreturn void become(const struct run_hook_inside_args *args, int state, int out, int *refused) {
    char **room = helper.pointers;
    char **argv = make_vector(&room, args->args, NULL);
    char **envp = make_vector(&room, args->env, NULL);

    setpgid(0, 0);
    reset_signals();
    if (helper.control >= 0)
        umask(helper.umask);
    if (dup2(state, 0) == 0 && dup2(out, 1) == 1 && dup2(out, 2) == 2 &&
        syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        execve(args->path, argv, envp);
    *refused = errno;
    leave(127);
}

/* Takes a piece of what it printed; false at the end of it. */
static bool take_output(void) {
    char piece[1024];
    ssize_t got = read(hook.output, piece, sizeof piece);
    size_t room, drop;

    if (got <= 0)
        return false;
    room = TAIL - (size_t)got;
    drop = hook.length > room ? hook.length - room : 0;
    memmove(hook.tail, hook.tail + drop, hook.length - drop);
    memcpy(hook.tail + hook.length - drop, piece, (size_t)got);
    hook.length += (size_t)got - drop;
    return true;
}

/* Reads until it has ended; false when its time, in milliseconds from now_ms on, is over before. */
static bool follow(int64_t until) {
    struct pollfd both[] = {{hook.process, POLLIN, 0}, {hook.output, POLLIN, 0}};

    do {
        int64_t left = until ? until - now_ms() : -1;
        int count = poll(both, 2, until && left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left);

        if (count < 0 && errno != EINTR)
            fail_hook(errno, 0, "poll");
        if (count == 0 && until && now_ms() >= until)
            return false;
        if (count > 0 && both[1].revents && !take_output())
            both[1].fd = -1;
    } while (!both[0].revents);
    return true;
}

static void take_the_rest(void) {
    struct pollfd output = {hook.output, POLLIN, 0};

    for (int i = 0; i < LAST_PIECES && poll(&output, 1, 0) > 0 && take_output(); i++)
        continue;
}

void run_run_hook_inside(const struct run_hook_inside_args *args) {
    int state, output[2], status, *refused;

    hook.number = args->number;
    hook.length = 0;
    state = write_state(&args->state);
    /* what the child has to tell when nothing was executed */
    refused = mmap(NULL, sizeof *refused, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (refused == MAP_FAILED || pipe2(output, O_CLOEXEC) < 0)
        fail_hook(errno, 0, "pipe2");
    signal(SIGCHLD, SIG_DFL); /* ignored by our caller, it would take the status of the child from us */
    hook.pid = (pid_t)syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, &hook.process, NULL, NULL);
    if (hook.pid < 0)
        fail_hook(errno, 0, "clone");
    if (!hook.pid)
        become(args, state, output[1], refused);
    close_fd(output[1]);
    hook.output = output[0];
    if (!follow(args->timeout ? now_ms() + (int64_t)args->timeout * 1000 : 0)) {
        kill(-hook.pid, SIGKILL);
        take_the_rest();
        fail_hook(0, -1, "");
    }
    take_the_rest();
    if (wait4(hook.pid, &status, __WALL, NULL) < 0)
        fail_hook(errno, 0, "wait4");
    if (*refused || status)
        fail_hook(*refused, status, "execve");
    munmap(refused, sizeof *refused);
    close_fd(state);
    close_fd(hook.output);
    close_fd(hook.process);
}
