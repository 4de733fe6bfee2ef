/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal of the container. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

#include "helper.h"

enum { PTMX_MAJOR = 5, PTMX_MINOR = 2 };

/* The image may have put anything at /dev/pts: only a devpts is opened for more than a look (CVE-2025-52565).
 */
static int open_master(void) {
    int pts =
        must(open_in_root("/dev/pts", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS), "openat2", "/dev/pts");
    struct statfs file_system;
    struct stat facts;
    int master;

    must(fstatfs(pts, &file_system), "fstatfs", "/dev/pts");
    if ((unsigned long)file_system.f_type != DEVPTS_SUPER_MAGIC)
        fail(ENODEV, "check of devpts", "/dev/pts");
    /* of this devpts itself: what is mounted over it may never answer */
    master = must(open_in_kernel(pts, "ptmx", O_RDWR | O_NOCTTY), "openat2", "/dev/pts/ptmx");
    must(fstat(master, &facts), "fstat", "/dev/pts/ptmx");
    if (!S_ISCHR(facts.st_mode) || facts.st_rdev != makedev(PTMX_MAJOR, PTMX_MINOR))
        fail(ENODEV, "check of ptmx", "/dev/pts/ptmx");
    close_fd(pts);
    return master;
}

/* The other end comes from the master itself, not from a path that may name another file. */
static int open_peer(int master) {
    int unlock = 0;

    must(ioctl(master, TIOCSPTLCK, &unlock), "TIOCSPTLCK", "/dev/pts/ptmx");
    return must(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), "TIOCGPTPEER", "/dev/pts/ptmx");
}

/* A link in the place of /dev or /dev/console leads nowhere: neither is followed (CVE-2026-88264). */
static int make_console_file(void) {
    int dev = must(open_in_root("/dev", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS), "openat2", "/dev"), fd;
    struct stat facts;

    if (mknodat(dev, "console", S_IFREG | 0600, 0) < 0 && errno != EEXIST)
        fail_errno("mknodat", "/dev/console");
    fd = open_beneath(dev, "console", O_PATH);
    if (fd < 0 || fstat(fd, &facts) < 0)
        fail_errno("openat2", "/dev/console");
    if (S_ISDIR(facts.st_mode))
        fail(EISDIR, "openat2", "/dev/console");
    close_fd(dev);
    return fd;
}

static void bind_console(int peer) {
    int target = make_console_file(), bound = clone_tree(peer, "/dev/console", 0);

    move_onto(bound, target, "/dev/console");
    close_fd(bound);
    close_fd(target);
}

void run_make_console(const struct make_console_args *args) {
    struct winsize size = {.ws_col = (unsigned short)args->columns, .ws_row = (unsigned short)args->rows};
    int master = open_master(), peer = open_peer(master);

    if (args->columns && args->rows && ioctl(master, TIOCSWINSZ, &size) < 0)
        fail_errno("TIOCSWINSZ", "/dev/pts/ptmx");
    if (args->bind)
        bind_console(peer);
    fill_slot(args->console, master);
    fill_slot(args->terminal, peer);
}
