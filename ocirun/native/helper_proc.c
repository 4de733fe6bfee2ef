/* SPDX-License-Identifier: Apache-2.0 */
/* What is written to /proc: always through a procfs of our own, which nobody can have mounted anything over
 * (CVE-2019-16884, CVE-2025-52881: a write that was to set a label went where the image wanted it). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "helper.h"
#include "helper_kernel.h"

/* "PID", and "/file" behind it. */
static void pid_path(pid_t pid, const char *file, char path[static NAME_MAX]) {
    snprintf(path, NAME_MAX, "%d%s", (int)pid, file);
}

/* The host's /proc, where we may not make a procfs (a host that is a container itself): it must be the root
 * of a real one, and what is mounted below it is refused when it is written to. */
static int open_mounted_proc(void) {
    int fd = must(open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "open", "/proc");
    char self[NAME_MAX], us[NAME_MAX];
    struct statfs kind;
    struct stat facts;

    if (fstatfs(fd, &kind) < 0 || fstat(fd, &facts) < 0)
        fail_errno("fstatfs", "/proc");
    if (kind.f_type != PROC_SUPER_MAGIC || facts.st_ino != KERNEL_PROC_ROOT_INO)
        fail(EXDEV, "check of procfs", "/proc");
    /* one of another pid namespace would write to somebody else */
    ssize_t length = readlinkat(fd, "self", self, sizeof self);
    pid_path(getpid(), "", us);
    if (length < 0 || (size_t)length != strlen(us) || memcmp(self, us, (size_t)length))
        fail(EXDEV, "check of procfs", "/proc/self");
    return fd;
}

void run_open_proc(const struct open_proc_args *args) {
    int context = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC), mount = -1;

    if (context >= 0 && syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
    fill_slot(args->proc, mount < 0 ? open_mounted_proc() : mount);
    close_fd(context);
}

void write_proc(uint32_t proc, const char *path, const char *text, const char *what) {
    int fd = must(open_in_kernel(slot_fd(proc), path, O_WRONLY | O_NOCTTY), "openat2", what);
    size_t length = strlen(text);

    if ((size_t)must(write(fd, text, length), "write", what) != length)
        fail(EIO, "write", what);
    close_fd(fd);
}

void write_own(uint32_t proc, const char *file, const char *text) {
    char path[NAME_MAX];

    own_path(proc, file, path);
    write_proc(proc, path, text, file);
}

void own_path(uint32_t proc, const char *file, char path[static NAME_MAX]) {
    path[must(readlinkat(slot_fd(proc), "self", path, NAME_MAX - 1), "readlinkat", "/proc/self")] = '\0';
    append(path, NAME_MAX, "/");
    append(path, NAME_MAX, file);
}

void run_set_id_maps(const struct set_id_maps_args *args) {
    helper.uid_map = args->uids;
    helper.gid_map = args->gids;
    helper.proc = args->proc;
}

void write_id_maps(uint32_t proc, pid_t pid, const char *uids, const char *gids) {
    char path[NAME_MAX];

    pid_path(pid, "/uid_map", path);
    write_proc(proc, path, uids, "uid_map");
    pid_path(pid, "/gid_map", path);
    write_proc(proc, path, gids, "gid_map");
}

int open_namespace_of(uint32_t proc, pid_t pid, const char *name) {
    char path[NAME_MAX];
    int directory, fd;

    if (pid)
        pid_path(pid, "/ns", path);
    else
        own_path(proc, "ns", path);
    directory = open_in_kernel(slot_fd(proc), path, O_PATH | O_DIRECTORY);
    fd = must(openat(directory, name, O_RDONLY | O_CLOEXEC), "openat", name);
    close_fd(directory);
    return fd;
}
