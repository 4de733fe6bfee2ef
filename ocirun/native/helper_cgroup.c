/* SPDX-License-Identifier: Apache-2.0 */
/* The cgroup on the host: opened for the clone, its device program, its end. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "helper.h"

enum { EMPTY_WAIT_MS = 10000, BUSY_WAIT_MS = 1000, BUSY_STEP_MS = 5, LOG_SIZE = 1 << 18, LOG_TAIL = 2048 };

/* -- devices -- */

#define PROGRAM "ocirun_devices"

static int bpf(enum bpf_cmd command, union bpf_attr *attr) {
    return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

/* The kernel's reasons are in the last lines of its log. */
static _Noreturn void fail_verifier(union bpf_attr *load, int error) {
    char *log = mmap(NULL, LOG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t length;

    if (log == MAP_FAILED)
        fail(error, "bpf", "BPF_PROG_LOAD");
    load->log_level = 1;
    load->log_size = LOG_SIZE;
    load->log_buf = (uint64_t)(uintptr_t)log;
    bpf(BPF_PROG_LOAD, load);
    length = strnlen(log, LOG_SIZE - 1);
    fail(error, "bpf", length > LOG_TAIL ? log + length - LOG_TAIL : log);
}

/* Our program that is on the cgroup already, -1 for none: an update replaces it, and so does the next
 * container in a cgroup that was kept; beside it, what only one of the two allows would be denied. */
static int program_before(int cgroup) {
    uint32_t ids[64]; /* BPF_CGROUP_MAX_PROGS */
    union bpf_attr on = {.query = {.target_fd = (uint32_t)cgroup,
                                   .attach_type = BPF_CGROUP_DEVICE,
                                   .prog_ids = (uint64_t)(uintptr_t)ids,
                                   .prog_cnt = sizeof ids / sizeof *ids}};

    if (bpf(BPF_PROG_QUERY, &on) < 0)
        return -1;
    for (uint32_t i = 0; i < on.query.prog_cnt; i++) {
        struct bpf_prog_info told = {0};
        int fd = bpf(BPF_PROG_GET_FD_BY_ID, &(union bpf_attr){.prog_id = ids[i]});
        union bpf_attr of = {.info = {(uint32_t)fd, sizeof told, (uint64_t)(uintptr_t)&told}};
        if (!bpf(BPF_OBJ_GET_INFO_BY_FD, &of) && !strcmp(told.name, PROGRAM))
            return fd;
        close_fd(fd);
    }
    return -1;
}

void run_allow_devices(const struct allow_devices_args *args) {
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                           .insn_cnt = args->program.length / sizeof(struct bpf_insn),
                           .insns = (uint64_t)(uintptr_t)args->program.data,
                           .license = (uint64_t)(uintptr_t)"Apache-2.0",
                           .prog_name = PROGRAM};
    int cgroup = slot_fd(args->cgroup), before = program_before(cgroup);
    int program = bpf(BPF_PROG_LOAD, &load);
    union bpf_attr attach = {.target_fd = (uint32_t)cgroup,
                             .attach_bpf_fd = (uint32_t)program,
                             .attach_type = BPF_CGROUP_DEVICE,
                             .attach_flags = BPF_F_ALLOW_MULTI | (before < 0 ? 0 : BPF_F_REPLACE),
                             .replace_bpf_fd = (uint32_t)before};

    if (program < 0)
        fail_verifier(&load, errno);
    must(bpf(BPF_PROG_ATTACH, &attach), "bpf", "BPF_PROG_ATTACH");
    close_fd(program); /* the cgroup holds it now */
    close_fd(before);
}

/* -- the end -- */

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
    must(cgroup, "open", args->path);
    /* The root cgroup alone has no cgroup.kill since Linux 5.14, and the root must not be killed: so there is
     * no other way tried. */
    kill = must(openat(cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC), "openat", "cgroup.kill");
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

static bool first_child(int directory, char name[static NAME_MAX + 1]) {
    _Alignas(struct dirent) char space[2048];
    long length;

    lseek(directory, 0, SEEK_SET);
    while ((length = syscall(SYS_getdents64, directory, space, sizeof space)) > 0) {
        const struct dirent *entry;
        for (long at = 0; at < length; at += entry->d_reclen) {
            entry = (const struct dirent *)(const void *)(space + at);
            if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
                continue;
            snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
            return true;
        }
    }
    return false;
}

/* Removes the first cgroup below top that has none below it; false when there is none left.  It starts from
 * the top each time: no container can nest its cgroups too deep for our stack or descriptors. */
static bool remove_leaf(int top, const char *path, int64_t until) {
    char name[NAME_MAX + 1], next[NAME_MAX + 1];
    int parent = -1, here = dup(top);

    while (here >= 0 && first_child(here, next)) {
        close_fd(parent);
        parent = here;
        memcpy(name, next, sizeof name);
        here = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (here < 0 && errno != ENOENT)
        fail_errno("openat", path);
    close_fd(here);
    if (parent >= 0 && !remove_directory(parent, name, until))
        fail_errno("rmdir", path);
    close_fd(parent);
    return parent >= 0;
}

void run_remove_cgroup(const struct remove_cgroup_args *args) {
    int top = open(args->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t until = now_ms() + BUSY_WAIT_MS;
    struct wire_strs parents = args->parents;

    if (top < 0 && errno != ENOENT)
        fail_errno("open", args->path);
    while (top >= 0 && remove_leaf(top, args->path, until))
        continue;
    close_fd(top);
    if (!remove_directory(AT_FDCWD, args->path, until))
        fail_errno("rmdir", args->path);
    /* these were made for this container if nobody else uses them; who is first or last cannot be told, so
     * one that is in use is simply left */
    while (parents.count && (rmdir(wire_next(&parents)) == 0 || errno == ENOENT))
        continue;
}
