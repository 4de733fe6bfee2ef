/* SPDX-License-Identifier: Apache-2.0 */
/* What the stage does outside, while it still has the caller's privileges and paths. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "helper.h"
#include "helper_kernel.h"

void run_hide_process(void) {
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        fail_errno("prctl", "PR_SET_DUMPABLE");
}

/* O_RDWR: it never blocks, and neither end of the FIFO is ever without the other. */
static int make_fifo(int directory, const char *name) {
    int fd;

    if (mkfifoat(directory, name, 0600) < 0)
        fail_errno("mkfifoat", name);
    fd = openat(directory, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        fail_errno("openat", name);
    return fd;
}

void run_open_handshake(const struct open_handshake_args *args) {
    int directory = open(args->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (directory < 0)
        fail_errno("open", args->directory);
    fill_slot(args->gate, make_fifo(directory, "gate"));
    fill_slot(args->proof, make_fifo(directory, "proof"));
    close_fd(directory);
}

/* A clone of a shared mount is its peer: what is mounted on it inside, by us or by a container that may
 * mount, would appear on the host.  So it follows the host from now on, and tells it nothing. */
static int clone_for_init(int fd, const char *path, bool recursive) {
    int tree = clone_tree(fd, path, recursive);

    set_attributes(tree, recursive, 0, 0, MS_SLAVE, path);
    return tree;
}

void run_open_tree(const struct open_tree_args *args) {
    fill_slot(args->tree, clone_for_init(AT_FDCWD, args->path, args->recursive));
}

/* The device is checked and cloned through one descriptor: what init binds is what was checked
 * (CVE-2025-31133). */
void run_open_device(const struct open_device_args *args) {
    int fd = open(args->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat facts;

    if (fd < 0)
        fail_errno("open", args->path);
    if (fstat(fd, &facts) < 0)
        fail_errno("fstat", args->path);
    if (!S_ISCHR(facts.st_mode) || facts.st_rdev != makedev(args->major, args->minor))
        fail(ENODEV, "check of the device", args->path);
    fill_slot(args->device, clone_for_init(fd, args->path, false));
    close_fd(fd);
}

/* Takes its pid and pidfd to the host.  Init waits for the pipe to close, so that the host hears of it first
 * and from nobody else; a stage that is killed before it told closes the pipe without a byte, and init ends
 * too. */
static _Noreturn void announce(pid_t pid, int pidfd, int told) {
    report(REPORT_BORN, 0, (uint32_t)pid, "", "", &pidfd, 1);
    if (helper.uid_map)
        write_id_maps(pid);
    if (write(told, "", 1) != 1)
        _exit(1);
    _exit(0);
}

static void await_announcement(int told) {
    ssize_t got;
    char byte;

    while ((got = read(told, &byte, 1)) < 0 && errno == EINTR)
        continue;
    if (got != 1)
        _exit(1);
    close_fd(told);
}

void run_clone_init(const struct clone_init_args *args) {
    int pidfd = -1, told[2];
    /* exit_signal stays 0: with CLONE_PARENT the kernel wants it so, and init gets the stage's own */
    struct kernel_clone_args clone = {
        .flags = args->namespaces | KERNEL_CLONE_PARENT | KERNEL_CLONE_PIDFD | KERNEL_CLONE_INTO_CGROUP,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .cgroup = (uint64_t)slot_fd(args->cgroup),
    };
    long pid;

    if (pipe2(told, O_CLOEXEC) < 0)
        fail_errno("pipe2", "");
    pid = syscall(SYS_clone3, &clone, sizeof clone);
    if (pid < 0)
        fail_errno("clone3", "");
    if (pid > 0)
        announce((pid_t)pid, pidfd, told[1]);
    close_fd(told[1]);
    await_announcement(told[0]);
}
