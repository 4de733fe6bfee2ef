/* SPDX-License-Identifier: Apache-2.0 */
/* What a tmpfs will cover, copied into it before anybody sees it (tmpcopyup).
 *
 * The image may hold anything and change meanwhile: no link is followed, nothing outside of the directory is
 * reached, and memory is taken as far as the size of the tmpfs goes.  Hard links become files of their own
 * (as with the peers). */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "helper.h"

/* Two descriptors and less than 3 KiB of stack a level. */
enum { DEPTH_MAX = 512, PIECE = 1 << 30, XATTR_MAX = 65536 };

/* Those that this file system, or we in our user namespace, may not set are left out. */
static bool copy_xattrs(int from, int to) {
    static char names[XATTR_MAX], value[XATTR_MAX];
    ssize_t length = flistxattr(from, names, sizeof names), size;
    bool done = true;

    for (const char *name = names; done && name < names + length; name += strlen(name) + 1)
        if ((size = fgetxattr(from, name, value, sizeof value)) >= 0)
            done = !fsetxattr(to, name, value, (size_t)size, 0) || errno == EOPNOTSUPP || errno == EPERM;
    return done;
}

static void copy_entry(int source, int made, const char *name, int depth) {
    static char target[PATH_MAX];
    int from = -1, to = -1, done;
    struct stat facts;

    must(fstatat(source, name, &facts, AT_SYMLINK_NOFOLLOW), "fstatat", name);
    if (S_ISLNK(facts.st_mode)) {
        done = (int)readlinkat(source, name, target, sizeof target - 1);
        target[done < 0 ? 0 : done] = '\0';
        done = symlinkat(target, made, name);
    } else {
        done = S_ISDIR(facts.st_mode) ? mkdirat(made, name, 0700)
                                      : mknodat(made, name, facts.st_mode, facts.st_rdev);
    }
    if (done == 0 && (S_ISDIR(facts.st_mode) || S_ISREG(facts.st_mode))) {
        /* nobody waits for what is a FIFO by now */
        from = open_beneath(source, name, O_RDONLY | O_NONBLOCK);
        to = open_beneath(made, name, S_ISDIR(facts.st_mode) ? O_RDONLY : O_WRONLY);
        if (from < 0 || to < 0)
            fail_errno("openat2", name);
        if (S_ISDIR(facts.st_mode))
            copy_directory(from, to, depth + 1);
        while (S_ISREG(facts.st_mode) && (done = (int)sendfile(to, from, NULL, PIECE)) > 0)
            continue;
    }
    /* a change of owner takes set-id bits and capabilities away: it comes first */
    if (done < 0 || fchownat(made, name, facts.st_uid, facts.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        !copy_xattrs(from, to) ||
        (!S_ISLNK(facts.st_mode) && fchmodat(made, name, facts.st_mode & 07777, 0) < 0) ||
        utimensat(made, name, (struct timespec[]){facts.st_atim, facts.st_mtim}, AT_SYMLINK_NOFOLLOW) < 0)
        fail_errno("copy", name);
    close_fd(from);
    close_fd(to);
}

void copy_directory(int from, int to, int depth) {
    _Alignas(struct dirent) char space[2048];
    const struct dirent *entry;
    long length;

    if (depth > DEPTH_MAX)
        fail(ENAMETOOLONG, "copy", "");
    while ((length = syscall(SYS_getdents64, from, space, sizeof space)) > 0)
        for (long at = 0; at < length; at += entry->d_reclen) {
            entry = (const struct dirent *)(const void *)(space + at);
            if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
                copy_entry(from, to, entry->d_name, depth);
        }
    must(length, "getdents64", "");
}
