/* SPDX-License-Identifier: Apache-2.0 */
/* What init makes in the root file system besides mounts: devices, links, directories. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "helper.h"

/* A node that is there is kept when it is the same device; its owner and mode are then the image's affair. */
static void check_device(int parent, const char *name, mode_t kind, dev_t device, const char *path) {
    struct stat facts;

    must(fstatat(parent, name, &facts, AT_SYMLINK_NOFOLLOW), "fstatat", path);
    if ((facts.st_mode & S_IFMT) != kind || (kind != S_IFIFO && facts.st_rdev != device))
        fail(EEXIST, "mknodat", path);
}

void run_make_device(const struct make_device_args *args) {
    dev_t device = makedev(args->major, args->minor);
    mode_t kind = args->kind & S_IFMT;
    const char *name;
    int parent;

    if (kind != S_IFCHR && kind != S_IFBLK && kind != S_IFIFO)
        fail(EINVAL, "mknodat", args->path);
    parent = must(make_parent(args->path, &name, true), "openat2", args->path);
    /* the umask is 0, so the mode is what was asked for */
    if (mknodat(parent, name, kind | (args->mode & 07777), device) == 0) {
        must(fchownat(parent, name, args->uid, args->gid, AT_SYMLINK_NOFOLLOW), "fchownat", args->path);
    } else if (errno == EEXIST) {
        check_device(parent, name, kind, device, args->path);
    } else {
        fail_errno("mknodat", args->path);
    }
    close_fd(parent);
}

/* Whether a link to target is there already; another link or a device is taken away where it may be, nothing
 * else is. */
static bool same_link(int parent, const char *name, const char *target, const char *path, bool replace) {
    char found[PATH_MAX];
    ssize_t length = readlinkat(parent, name, found, sizeof found);
    struct stat facts;

    if (length >= 0 && (size_t)length == strlen(target) && !memcmp(found, target, (size_t)length))
        return true;
    must(fstatat(parent, name, &facts, AT_SYMLINK_NOFOLLOW), "fstatat", path);
    if (!replace || (!S_ISLNK(facts.st_mode) && !S_ISCHR(facts.st_mode)))
        fail(EEXIST, "symlinkat", path);
    must(unlinkat(parent, name, 0), "unlinkat", path);
    return false;
}

void make_link(const char *target, const char *path, bool plain) {
    const char *name;
    int parent = must(make_parent(path, &name, plain), "openat2", path);

    if (symlinkat(target, parent, name) < 0) {
        if (errno != EEXIST)
            fail_errno("symlinkat", path);
        if (!same_link(parent, name, target, path, plain))
            must(symlinkat(target, parent, name), "symlinkat", path);
    }
    close_fd(parent);
}

/* An image whose /dev is a link must not send devices and links, and what they replace, elsewhere
 * (CVE-2026-41579). */
void run_make_symlink(const struct make_symlink_args *args) {
    make_link(args->target, args->path, true);
}

void run_make_directory(const struct make_directory_args *args) {
    close_fd(must(make_in_root(args->path, S_IFDIR, args->mode & 07777, false), "mkdirat", args->path));
}
