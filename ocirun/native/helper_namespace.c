/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces that exist: opened and joined by stage; and the root of a user namespace that init becomes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "helper.h"
#include "helper_kernel.h"

void run_open_namespace(const struct open_namespace_args *args) {
    int fd = open(args->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct statfs facts;

    if (fd < 0)
        fail_errno("open", args->path);
    if (fstatfs(fd, &facts) < 0)
        fail_errno("fstatfs", args->path);
    if (facts.f_type != KERNEL_NSFS_MAGIC || ioctl(fd, KERNEL_NS_GET_NSTYPE) != (int)args->kind)
        fail(EINVAL, "check of the type", args->path);
    fill_slot(args->namespace, fd);
}

static bool is_namespace(int fd, const char *path) {
    struct stat one, other;

    return stat(path, &one) == 0 && fstat(fd, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

void run_join_namespace(const struct join_namespace_args *args) {
    int fd = slot_fd(args->namespace);

    /* the kernel refuses to enter the user namespace that one is in */
    if (args->kind == CLONE_NEWUSER && is_namespace(fd, "/proc/self/ns/user"))
        return;
    /* the root is switched for all who are in there: never for the host */
    if (args->kind == CLONE_NEWNS &&
        (is_namespace(fd, "/proc/self/ns/mnt") || is_namespace(fd, "/proc/1/ns/mnt")))
        fail(EBUSY, "check of the mount namespace", "");
    if (setns(fd, (int)args->kind) < 0)
        fail_errno("setns", "");
}

void run_join_namespaces(const struct join_namespaces_args *args) {
    int init = slot_fd(args->init), flags = (int)args->namespaces;
    int done = setns(init, flags);

    if (done < 0 && errno == EINVAL && flags & CLONE_NEWUSER) /* it may be ours */
        done = setns(init, flags & ~CLONE_NEWUSER);
    if (done < 0)
        fail_errno("setns", "");
    helper.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (helper.root < 0)
        fail_errno("open", "/");
}

void run_join_cgroup_namespace(const struct join_cgroup_namespace_args *args) {
    if (setns(slot_fd(args->init), CLONE_NEWCGROUP) < 0)
        fail_errno("setns", "cgroup");
}

/* Init itself enters the one that is for its children: its clocks count from the offsets at once.  The file
 * of the offsets belongs to the host's root, so this comes before become_root. */
void run_make_time_namespace(const struct make_time_namespace_args *args) {
    char path[NAME_MAX];
    int directory, fd;

    if (unshare(KERNEL_CLONE_NEWTIME) < 0)
        fail_errno("unshare", "time");
    own_path(args->proc, "timens_offsets", path);
    if (*args->offsets)
        write_proc(args->proc, path, args->offsets, "timens_offsets");
    own_path(args->proc, "ns", path);
    directory = open_in_proc(slot_fd(args->proc), path, O_PATH | O_DIRECTORY);
    fd = directory < 0 ? -1 : openat(directory, "time_for_children", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail_errno("openat", "time_for_children");
    if (setns(fd, KERNEL_CLONE_NEWTIME) < 0)
        fail_errno("setns", "time");
    close_fd(directory);
    close_fd(fd);
}

void run_become_root(const struct become_root_args *args) {
    if (syscall(SYS_setresgid, 0, 0, 0) < 0)
        fail_errno("setresgid", "");
    if (syscall(SYS_setresuid, 0, 0, 0) < 0)
        fail_errno("setresuid", "");
    if (args->namespaces && unshare((int)args->namespaces) < 0)
        fail_errno("unshare", "");
    run_hide_process(); /* a change of ids may have undone it (fs.suid_dumpable) */
}
