/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces that exist: opened and joined by stage; and the root of a user namespace that init becomes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "helper.h"

void run_open_namespace(const struct open_namespace_args *args) {
    int fd = must(open(args->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), "open", args->path);
    struct statfs facts;

    must(fstatfs(fd, &facts), "fstatfs", args->path);
    if (facts.f_type != NSFS_MAGIC || ioctl(fd, NS_GET_NSTYPE) != (int)args->kind)
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
    must(setns(fd, (int)args->kind), "setns", "");
}

void run_join_namespaces(const struct join_namespaces_args *args) {
    int init = slot_fd(args->init), flags = (int)args->namespaces;
    int done = setns(init, flags);

    if (done < 0 && errno == EINVAL && flags & CLONE_NEWUSER) /* it may be ours */
        done = setns(init, flags & ~CLONE_NEWUSER);
    must(done, "setns", "");
    helper.root = must(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), "open", "/");
}

/* Init itself enters the one that is for its children: its clocks count from the offsets at once.  The file
 * of the offsets belongs to the host's root, so this comes before become_root. */
void run_make_time_namespace(const struct make_time_namespace_args *args) {
    char path[NAME_MAX];
    int fd;

    must(unshare(CLONE_NEWTIME), "unshare", "time");
    own_path(args->proc, "timens_offsets", path);
    if (*args->offsets)
        write_proc(args->proc, path, args->offsets, "timens_offsets");
    fd = open_namespace_of(args->proc, 0, "time_for_children");
    must(setns(fd, CLONE_NEWTIME), "setns", "time");
    close_fd(fd);
}
