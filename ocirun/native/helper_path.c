/* SPDX-License-Identifier: Apache-2.0 */
/* Paths in the root file system: resolved once, by the kernel, to a descriptor that is then acted on.
 *
 * Whoever wrote the image, or runs in another container with a shared volume, may change any component at any
 * time (CVE-2021-30465, CVE-2024-45310).  So openat2 keeps every resolution below the root, what is made is
 * made one component at a time below a descriptor, and no path is looked up again to act on what it named
 * before. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper.h"

enum { LINKS_MAX = 40, RACES_MAX = 128 };

static int refuse(int error) {
    errno = error;
    return -1;
}

static int open_how(int directory, const char *path, uint64_t flags, uint64_t resolve) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve | RESOLVE_NO_MAGICLINKS};
    int fd, tries = 0;

    /* EAGAIN: something was renamed meanwhile and the kernel could not tell whether we left the root. */
    do
        fd = (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
    while (fd < 0 && (errno == EAGAIN || errno == EINTR) && ++tries < RACES_MAX);
    return fd;
}

int open_within(int root, const char *path, uint64_t flags, uint64_t resolve) {
    return open_how(root, *path ? path : ".", flags, resolve | RESOLVE_IN_ROOT);
}

int open_in_root(const char *path, uint64_t flags, uint64_t resolve) {
    return open_within(helper.root, path, flags, resolve);
}

int open_beneath(int directory, const char *name, uint64_t flags) {
    return open_how(directory, name, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

int open_in_kernel(int proc, const char *path, uint64_t flags) {
    return open_how(proc, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

/* Where the last component of the first length bytes of path begins; trailing slashes are not part of it, and
 * length is cut to its end. */
static size_t last_component(const char *path, size_t *length) {
    size_t start;

    while (*length > 0 && path[*length - 1] == '/')
        --*length;
    for (start = *length; start > 0 && path[start - 1] != '/'; start--)
        continue;
    return start;
}

/* The deepest directory of path that exists, and in rest where what is missing below it begins. */
static int open_existing(char *path, uint64_t resolve, size_t *rest) {
    size_t length = strlen(path);
    int fd;

    do {
        *rest = last_component(path, &length);
        char kept = path[*rest];
        path[*rest] = '\0';
        fd = open_in_root(path, O_PATH | O_DIRECTORY, resolve);
        path[*rest] = kept;
        length = *rest;
    } while (fd < 0 && errno == ENOENT && length > 0);
    return fd;
}

/* A dangling link stands where start..end of path should be made: puts its target into the path instead, so
 * that the next round makes what the link points to, in the root like everything else. */
static bool splice_link(int directory, char *path, size_t start, size_t end) {
    char name[NAME_MAX + 1], target[PATH_MAX], rest[PATH_MAX];
    ssize_t length;

    *(char *)mempcpy(name, path + start, end - start) = '\0';
    length = readlinkat(directory, name, target, sizeof target - 1);
    if (length < 0)
        return false;
    target[length] = '\0';
    strcpy(rest, path + end);
    if (target[0] == '/')
        start = 0;
    if (start + (size_t)length + strlen(rest) >= PATH_MAX)
        return !refuse(ENAMETOOLONG);
    strcpy(path + start, target);
    strcpy(path + start + length, rest);
    return true;
}

static int make_one(int directory, const char *name, mode_t kind, mode_t mode) {
    /* mknod follows no link and takes no file that is there: what O_EXCL | O_NOFOLLOW would do */
    int done = S_ISDIR(kind) ? mkdirat(directory, name, mode) : mknodat(directory, name, S_IFREG | mode, 0);

    if (done < 0 && errno != EEXIST)
        return -1;
    return open_beneath(directory, name, O_PATH | (S_ISDIR(kind) ? O_DIRECTORY : 0));
}

/* Makes what is missing of path from rest on, below directory, which it closes.  Gives -1 with linked set
 * when a dangling link stood in the way and has been put into path. */
static int make_rest(int directory, char *path, size_t rest, mode_t kind, mode_t mode, bool *linked) {
    char name[NAME_MAX + 1];
    int fd = directory;

    for (size_t end; fd >= 0 && path[rest]; rest = end + strspn(path + end, "/")) {
        end = rest + strcspn(path + rest, "/");
        bool last = path[end + strspn(path + end, "/")] == '\0';
        if (end - rest > NAME_MAX) {
            close_fd(directory);
            return refuse(ENAMETOOLONG);
        }
        *(char *)mempcpy(name, path + rest, end - rest) = '\0';
        fd = make_one(directory, name, last ? kind : S_IFDIR, last ? mode : 0755);
        if (fd < 0) {
            int error = errno;
            *linked = (error == ELOOP || error == ENOTDIR) && splice_link(directory, path, rest, end);
            if (!*linked && errno == EINVAL) /* not a link */
                errno = error;
        }
        int saved = errno;
        close_fd(directory);
        errno = saved;
        directory = fd;
    }
    return fd;
}

int make_in_root(const char *path, mode_t kind, mode_t mode, bool plain) {
    char work[PATH_MAX];
    uint64_t resolve = plain ? RESOLVE_NO_SYMLINKS : 0;
    uint64_t flags = O_PATH | (S_ISDIR(kind) ? O_DIRECTORY : 0);

    if (strlen(path) >= sizeof work)
        return refuse(ENAMETOOLONG);
    strcpy(work, path);
    for (int links = 0; links < LINKS_MAX; links++) {
        bool linked = false;
        size_t rest;
        int fd = open_in_root(work, flags, resolve);
        if (fd >= 0 || errno != ENOENT)
            return fd;
        fd = open_existing(work, resolve, &rest);
        if (fd >= 0)
            fd = make_rest(fd, work, rest, kind, mode, &linked);
        if (fd >= 0 || !linked)
            return fd;
        if (plain)
            break;
    }
    return refuse(ELOOP);
}

int make_parent(const char *path, const char **name, bool plain) {
    char parent[PATH_MAX];
    size_t length = strlen(path), start = last_component(path, &length);

    /* the name must end the path, as it is used as it stands */
    if (length == 0 || path[length] || !strcmp(path + start, ".") || !strcmp(path + start, ".."))
        return refuse(EINVAL);
    if (start >= sizeof parent)
        return refuse(ENAMETOOLONG);
    *(char *)mempcpy(parent, path, start) = '\0';
    *name = path + start;
    return make_in_root(parent, S_IFDIR, 0755, plain);
}
