/* SPDX-License-Identifier: Apache-2.0 */
/* The cgroup on the host: opened for the clone, its device program, its end. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "helper.h"
#include "helper_kernel.h"

enum { EMPTY_WAIT_MS = 10000, BUSY_WAIT_MS = 1000, BUSY_STEP_MS = 5, LOG_SIZE = 1 << 18, LOG_TAIL = 2048 };

void run_open_cgroup(const struct open_cgroup_args *args) {
    int fd = open(args->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        fail_errno("open", args->path);
    fill_slot(args->cgroup, fd);
}

/* -- devices -- */

/* The kernel's reasons are in the last lines of its log. */
static _Noreturn void fail_verifier(struct kernel_bpf_load *load, int error) {
    char *log = mmap(NULL, LOG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t length;

    if (log == MAP_FAILED)
        fail(error, "bpf", "BPF_PROG_LOAD");
    load->log_level = 1;
    load->log_size = LOG_SIZE;
    load->log = (uint64_t)(uintptr_t)log;
    syscall(SYS_bpf, KERNEL_BPF_PROG_LOAD, load, sizeof *load);
    length = strnlen(log, LOG_SIZE - 1);
    fail(error, "bpf", length > LOG_TAIL ? log + length - LOG_TAIL : log);
}

void run_allow_devices(const struct allow_devices_args *args) {
    struct kernel_bpf_load load = {
        .type = KERNEL_BPF_PROG_TYPE_CGROUP_DEVICE,
        .instruction_count = args->program.length / 8,
        .instructions = (uint64_t)(uintptr_t)args->program.data,
        .license = (uint64_t)(uintptr_t)"Apache-2.0",
        .name = "ocirun_devices",
    };
    struct kernel_bpf_attach attach = {
        .target_fd = (uint32_t)slot_fd(args->cgroup),
        .type = KERNEL_BPF_CGROUP_DEVICE,
        .flags = KERNEL_BPF_F_ALLOW_MULTI,
    };
    int program = (int)syscall(SYS_bpf, KERNEL_BPF_PROG_LOAD, &load, sizeof load);

    if (program < 0)
        fail_verifier(&load, errno);
    attach.program_fd = (uint32_t)program;
    if (syscall(SYS_bpf, KERNEL_BPF_PROG_ATTACH, &attach, sizeof attach) < 0)
        fail_errno("bpf", "BPF_PROG_ATTACH");
    close_fd(program); /* the cgroup holds it now */
}

/* -- the end -- */

static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool is_populated(int events) {
    char text[128];
    ssize_t length = pread(events, text, sizeof text - 1, 0);

    if (length < 0)
        return errno != ENODEV; /* the cgroup was removed meanwhile */
    text[length] = '\0';
    return strstr(text, "populated 1") != NULL;
}

/* cgroup.events tells of a change by POLLPRI; zombies do not count. */
static void await_empty(int cgroup, const char *path) {
    struct pollfd events = {.fd = openat(cgroup, "cgroup.events", O_RDONLY | O_CLOEXEC), .events = POLLPRI};
    int64_t until = now_ms() + EMPTY_WAIT_MS;

    if (events.fd < 0 && errno != ENOENT)
        fail_errno("openat", path);
    while (events.fd >= 0 && is_populated(events.fd)) {
        int64_t left = until - now_ms();
        if (left <= 0)
            fail(ETIMEDOUT, "wait for the end of every process", path);
        poll(&events, 1, (int)left);
    }
    close_fd(events.fd);
}

void run_kill_cgroup(const struct kill_cgroup_args *args) {
    int cgroup = open(args->path, O_PATH | O_DIRECTORY | O_CLOEXEC), kill;

    if (cgroup < 0 && errno == ENOENT)
        return;
    if (cgroup < 0)
        fail_errno("open", args->path);
    /* The root cgroup alone has no cgroup.kill since Linux 5.14, and the root must not be killed: so there is
     * no other way tried. */
    kill = openat(cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (kill < 0)
        fail_errno("openat", "cgroup.kill");
    if (write(kill, "1", 1) < 0 && errno != ENODEV)
        fail_errno("write", "cgroup.kill");
    close_fd(kill);
    await_empty(cgroup, args->path);
    close_fd(cgroup);
}

/* rmdir says EBUSY for a moment after the last process is gone; the wait is shared by all of one removal. */
static bool remove_directory(int parent, const char *name, int64_t until) {
    const struct timespec pause = {.tv_nsec = BUSY_STEP_MS * 1000000};

    while (unlinkat(parent, name, AT_REMOVEDIR) < 0) {
        if (errno == ENOENT || errno == ENODEV)
            return true;
        if (errno != EBUSY || now_ms() >= until)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

/* The layout of linux_dirent64 (getdents64(2)). */
struct entry {
    uint64_t inode, offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

static bool first_child(int directory, char name[static NAME_MAX + 1]) {
    _Alignas(struct entry) char space[2048];
    long length;

    lseek(directory, 0, SEEK_SET);
    while ((length = syscall(SYS_getdents64, directory, space, sizeof space)) > 0) {
        const struct entry *entry;
        for (long at = 0; at < length; at += entry->size) {
            entry = (const struct entry *)(const void *)(space + at);
            if (entry->type != DT_DIR || !strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
                continue;
            name[0] = '\0';
            append(name, NAME_MAX + 1, entry->name);
            return true;
        }
    }
    return false;
}

/* Removes the first cgroup below top that has none below it; false when there is none left.  It starts from
 * the top each time: no container can nest its cgroups too deep for our stack or descriptors. */
static bool remove_leaf(int top, const char *path, int64_t until) {
    char name[NAME_MAX + 1], below[NAME_MAX + 1];
    int parent = dup(top), child;

    if (!first_child(parent, name)) {
        close_fd(parent);
        return false;
    }
    while ((child = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) >= 0) {
        bool leaf = !first_child(child, below);
        if (leaf) {
            close_fd(child);
            break;
        }
        close_fd(parent);
        parent = child;
        memcpy(name, below, sizeof name);
    }
    if (child < 0 && errno != ENOENT)
        fail_errno("openat", path);
    if (!remove_directory(parent, name, until))
        fail_errno("rmdir", path);
    close_fd(parent);
    return true;
}

/* The directories above were made for this container if nobody else uses them; who is first or last cannot be
 * told, so one that is in use is simply left. */
static void remove_parents(const char *path, uint32_t parents) {
    char above[PATH_MAX] = "";

    append(above, sizeof above, path);
    for (uint32_t i = 0; i < parents; i++) {
        char *slash = strrchr(above, '/');
        if (!slash || slash == above)
            return;
        *slash = '\0';
        if (rmdir(above) < 0 && errno != ENOENT)
            return;
    }
}

void run_remove_cgroup(const struct remove_cgroup_args *args) {
    int top = open(args->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t until = now_ms() + BUSY_WAIT_MS;

    if (top < 0 && errno != ENOENT)
        fail_errno("open", args->path);
    while (top >= 0 && remove_leaf(top, args->path, until))
        continue;
    close_fd(top);
    if (!remove_directory(AT_FDCWD, args->path, until))
        fail_errno("rmdir", args->path);
    remove_parents(args->path, args->parents);
}
