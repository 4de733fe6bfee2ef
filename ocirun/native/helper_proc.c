/* SPDX-License-Identifier: Apache-2.0 */
/* What is written to /proc: always through a procfs of our own, which nobody can have mounted anything over
 * (CVE-2019-16884, CVE-2025-52881: a write that was to set a label went where the image wanted it). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "helper.h"
#include "helper_kernel.h"

/* "PID", and "/file" behind it. */
static void pid_path(pid_t pid, const char *file, char path[static NAME_MAX]) {
    char digits[16], *first = digits + sizeof digits - 1;

    *first = '\0';
    do
        *--first = (char)('0' + pid % 10);
    while (pid /= 10);
    path[0] = '\0';
    append(path, NAME_MAX, first);
    append(path, NAME_MAX, file);
}

/* The host's /proc, where we may not make a procfs (a host that is a container itself): it must be the root
 * of a real one, and what is mounted below it is refused when it is written to. */
static int open_mounted_proc(void) {
    int fd = open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    char self[NAME_MAX], us[NAME_MAX];
    struct statfs kind;
    struct stat facts;

    if (fd < 0)
        fail_errno("open", "/proc");
    if (fstatfs(fd, &kind) < 0 || fstat(fd, &facts) < 0)
        fail_errno("fstatfs", "/proc");
    if (kind.f_type != KERNEL_PROC_SUPER_MAGIC || facts.st_ino != KERNEL_PROC_ROOT_INO)
        fail(EXDEV, "check of procfs", "/proc");
    /* one of another pid namespace would write to somebody else */
    ssize_t length = readlinkat(fd, "self", self, sizeof self);
    pid_path(getpid(), "", us);
    if (length < 0 || (size_t)length != strlen(us) || memcmp(self, us, (size_t)length))
        fail(EXDEV, "check of procfs", "/proc/self");
    return fd;
}

void run_open_proc(const struct open_proc_args *args) {
    int context = (int)syscall(SYS_fsopen, "proc", KERNEL_FSOPEN_CLOEXEC), mount = -1;

    if (context >= 0 && syscall(SYS_fsconfig, context, KERNEL_FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        mount = (int)syscall(SYS_fsmount, context, KERNEL_FSMOUNT_CLOEXEC, 0);
    fill_slot(args->proc, mount < 0 ? open_mounted_proc() : mount);
    close_fd(context);
}

void write_proc(uint32_t proc, const char *path, const char *text, const char *what) {
    int fd = open_in_proc(slot_fd(proc), path, O_WRONLY | O_NOCTTY);
    size_t length = strlen(text);
    ssize_t done;

    if (fd < 0)
        fail_errno("openat2", what);
    done = write(fd, text, length);
    if (done < 0)
        fail_errno("write", what);
    if ((size_t)done != length)
        fail(EIO, "write", what);
    close_fd(fd);
}

void own_path(uint32_t proc, const char *file, char path[static NAME_MAX]) {
    ssize_t length = readlinkat(slot_fd(proc), "self", path, NAME_MAX - 1);

    if (length < 0)
        fail_errno("readlinkat", "/proc/self");
    path[length] = '\0';
    append(path, NAME_MAX, "/");
    append(path, NAME_MAX, file);
}

void run_set_oom_score(const struct set_oom_score_args *args) {
    char path[NAME_MAX];

    own_path(args->proc, "oom_score_adj", path);
    write_proc(args->proc, path, args->score, "oom_score_adj");
}

void run_set_sysctl(const struct set_sysctl_args *args) {
    write_proc(args->proc, args->path, args->value, args->path);
}

void run_set_id_maps(const struct set_id_maps_args *args) {
    helper.uid_map = args->uids;
    helper.gid_map = args->gids;
    helper.proc = args->proc;
}

void write_id_maps(pid_t pid) {
    char path[NAME_MAX];

    pid_path(pid, "/uid_map", path);
    write_proc(helper.proc, path, helper.uid_map, "uid_map");
    pid_path(pid, "/gid_map", path);
    write_proc(helper.proc, path, helper.gid_map, "gid_map");
}
