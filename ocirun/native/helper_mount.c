/* SPDX-License-Identifier: Apache-2.0 */
/* The mounts of init: what stage opened is attached, the rest is made, all by descriptors. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper.h"
#include "helper_kernel.h"

/* The attributes of what hides a directory, and of nothing the config asks for. */
static const uint64_t nothing_allowed =
    KERNEL_MOUNT_ATTR_RDONLY | KERNEL_MOUNT_ATTR_NOSUID | KERNEL_MOUNT_ATTR_NODEV | KERNEL_MOUNT_ATTR_NOEXEC;

int clone_tree(int fd, const char *path, bool recursive) {
    unsigned flags = KERNEL_OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    int tree = (int)syscall(SYS_open_tree, fd, fd == AT_FDCWD ? path : "", flags);

    if (tree < 0)
        fail_errno("open_tree", path);
    return tree;
}

void set_attributes(int mount, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation,
                    const char *path) {
    struct kernel_mount_attr attr = {
        .set = set, .clear = clear, .propagation = propagation & ~(uint64_t)MS_REC};
    unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);

    /* the kernel takes a change of atime only together with clearing all of what was there */
    if ((set | clear) & KERNEL_MOUNT_ATTR_ATIME_MASK)
        attr.clear |= KERNEL_MOUNT_ATTR_ATIME_MASK;
    if (!(attr.set | attr.clear | attr.propagation))
        return;
    if (syscall(SYS_mount_setattr, mount, "", flags, &attr, sizeof attr) < 0)
        fail_errno("mount_setattr", path);
}

static bool mount_id(int fd, uint64_t *id) {
    struct kernel_statx facts;

    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, KERNEL_STATX_MNT_ID, &facts) < 0)
        return false;
    *id = facts.mount_id;
    return true;
}

void move_onto(int mount, int target, const char *path) {
    unsigned flags = KERNEL_MOVE_MOUNT_F_EMPTY_PATH | KERNEL_MOVE_MOUNT_T_EMPTY_PATH;

    if (syscall(SYS_move_mount, mount, "", target, "", flags) < 0)
        fail_errno("move_mount", path);
}

/* What the path names now must be the mount: had somebody renamed a directory on the way, it would lie
 * elsewhere in the root and something else would be used in its place (CVE-2023-27561 for /proc). */
static void check_mounted(int mount, const char *path, bool plain) {
    int fd = open_in_root(path, O_PATH, plain ? IN_ROOT_NO_SYMLINKS : 0);
    uint64_t wanted, found;

    if (fd < 0)
        fail_errno("openat2", path);
    if (!mount_id(mount, &wanted) || !mount_id(fd, &found))
        fail_errno("statx", path);
    if (wanted != found)
        fail(ESTALE, "check after mounting", path);
    close_fd(fd);
}

/* -- new file systems -- */

/* A file system under construction refused: the kernel says why in the log of its context. */
static _Noreturn void fail_context(int context, const char *operation, const char *target, const char *what) {
    char text[PATH_MAX + 1024], line[512];
    int error = errno;
    ssize_t length;

    text[0] = '\0';
    append(text, sizeof text, target);
    if (*what) {
        append(text, sizeof text, ": ");
        append(text, sizeof text, what);
    }
    while ((length = read(context, line, sizeof line - 1)) > 0) {
        line[line[length - 1] == '\n' ? length - 1 : length] = '\0';
        if (line[0] != 'e' || line[1] != ' ')
            continue;
        append(text, sizeof text, ": ");
        append(text, sizeof text, line + 2);
    }
    fail(error, operation, text);
}

static void set_option(int context, const char *option, const char *target) {
    const char *value = strchr(option, '=');
    char key[128];
    long done;

    if (!value) {
        done = syscall(SYS_fsconfig, context, KERNEL_FSCONFIG_SET_FLAG, option, NULL, 0);
    } else if ((size_t)(value - option) >= sizeof key) {
        done = -1;
        errno = EINVAL;
    } else {
        memcpy(key, option, (size_t)(value - option));
        key[value - option] = '\0';
        done = syscall(SYS_fsconfig, context, KERNEL_FSCONFIG_SET_STRING, key, value + 1, 0);
    }
    if (done < 0)
        fail_context(context, "fsconfig", target, option);
}

static int open_context(const char *fstype, const char *target) {
    int context = (int)syscall(SYS_fsopen, fstype, KERNEL_FSOPEN_CLOEXEC);

    if (context < 0) {
        char text[PATH_MAX + 256] = "";
        int error = errno;
        append(text, sizeof text, target);
        append(text, sizeof text, ": ");
        append(text, sizeof text, fstype);
        fail(error, "fsopen", text);
    }
    return context;
}

/* The detached mount of a finished context, which it closes. */
static int finish_context(int context, uint64_t attributes, const char *target) {
    int mount;

    if (syscall(SYS_fsconfig, context, KERNEL_FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        fail_context(context, "fsconfig", target, "");
    mount = (int)syscall(SYS_fsmount, context, KERNEL_FSMOUNT_CLOEXEC, attributes);
    if (mount < 0)
        fail_context(context, "fsmount", target, "");
    close_fd(context);
    return mount;
}

/* A tmpfs is born with mode 1777; over a directory that was there it takes the mode of that (as the peers
 * do), unless an option, which comes later, says another. */
static void keep_mode(int context, const struct mount_args *args, int target) {
    char option[] = "mode=0000";
    struct stat facts;

    if (strcmp(args->fstype, "tmpfs") != 0)
        return;
    if (fstat(target, &facts) < 0)
        fail_errno("fstat", args->target);
    for (int digit = 0; digit < 4; digit++)
        option[sizeof option - 2 - digit] = (char)('0' + (facts.st_mode >> 3 * digit & 7));
    set_option(context, option, args->target);
}

static int make_mount(int context, const char *source, struct wire_strs options, uint64_t attributes,
                      const char *target) {
    if (*source && syscall(SYS_fsconfig, context, KERNEL_FSCONFIG_SET_STRING, "source", source, 0) < 0)
        fail_context(context, "fsconfig", target, source);
    while (options.count)
        set_option(context, wire_next(&options), target);
    return finish_context(context, attributes, target);
}

void run_open_filesystem(const struct open_filesystem_args *args) {
    int context = open_context(args->fstype, args->source);

    fill_slot(args->tree, make_mount(context, args->source, args->options, args->set, args->source));
}

void run_mount(const struct mount_args *args) {
    int context = open_context(args->fstype, args->target), mount;
    int target = open_in_root(args->target, O_PATH | O_DIRECTORY, args->plain ? IN_ROOT_NO_SYMLINKS : 0);

    if (target >= 0)
        keep_mode(context, args, target);
    else
        target = make_in_root(args->target, S_IFDIR, 0755, args->plain);
    if (target < 0)
        fail_errno("openat2", args->target);
    mount = make_mount(context, args->source, args->options, args->set, args->target);
    set_attributes(mount, args->propagation & MS_REC, 0, 0, args->propagation, args->target);
    move_onto(mount, target, args->target);
    check_mounted(mount, args->target, args->plain);
    close_fd(target);
    close_fd(mount);
}

/* -- what stage opened -- */

void run_attach(const struct attach_args *args) {
    int tree = slot_fd(args->tree), target;
    struct stat facts;
    bool directory;

    if (fstat(tree, &facts) < 0)
        fail_errno("fstat", args->target);
    directory = S_ISDIR(facts.st_mode);
    set_attributes(tree, false, args->set, args->clear, 0, args->target);
    set_attributes(tree, true, args->rset, args->rclear, 0, args->target);
    set_attributes(tree, args->propagation & MS_REC, 0, 0, args->propagation, args->target);
    target = make_in_root(args->target, directory ? S_IFDIR : S_IFREG, directory ? 0755 : 0644, false);
    if (target < 0)
        fail_errno("openat2", args->target);
    if (!directory && fstat(target, &facts) == 0 && S_ISDIR(facts.st_mode))
        fail(EISDIR, "attach", args->target);
    move_onto(tree, target, args->target);
    check_mounted(tree, args->target, false);
    close_fd(target);
    close_slot(args->tree);
}

void run_set_propagation(const struct set_propagation_args *args) {
    if (mount(NULL, "/", NULL, args->flags, NULL) < 0)
        fail_errno("mount", "/");
}

void run_attach_root(const struct attach_root_args *args) {
    int root = slot_fd(args->root);
    struct stat facts;

    if (fstat(root, &facts) < 0)
        fail_errno("fstat", "root");
    if (!S_ISDIR(facts.st_mode))
        fail(ENOTDIR, "fstat", "root");
    set_attributes(root, false, args->set, args->clear, 0, "root");
    set_attributes(root, true, args->rset, args->rclear, 0, "root");
    /* It covers "/" for those who look it up anew; we go on through the descriptor. */
    if (syscall(SYS_move_mount, root, "", AT_FDCWD, "/", KERNEL_MOVE_MOUNT_F_EMPTY_PATH) < 0)
        fail_errno("move_mount", "root");
    helper.root = root;
    helper.slots[args->root] = -1;
}

/* In an initramfs the old root cannot be let go of, and whoever may chroot gets there.  A procfs that is seen
 * whole would allow a user namespace of the container to mount another one without our masks. */
static void stay_in_root(int old) {
    static const char *const names[] = {"proc", "sys"};

    if (fchdir(old) < 0)
        fail_errno("fchdir", "the old root");
    for (int i = 0; i < 2; i++) {
        while (!umount2(names[i], MNT_DETACH | UMOUNT_NOFOLLOW))
            continue;
        if (errno != EINVAL && errno != ENOENT)
            fail_errno("umount2", names[i]);
    }
    if (fchdir(helper.root) < 0)
        fail_errno("fchdir", "root");
    if (chroot(".") < 0)
        fail_errno("chroot", "root");
}

static void swap_roots(int old) {
    if (fchdir(helper.root) < 0)
        fail_errno("fchdir", "root");
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        fail_errno("pivot_root", ".");
    /* The old root now lies on the new one.  Its unmounting must not travel to the host, so it follows the
     * host's tree but no longer tells it anything. */
    if (fchdir(old) < 0)
        fail_errno("fchdir", "the old root");
    if (mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL) < 0)
        fail_errno("mount", "the old root");
    if (umount2(".", MNT_DETACH) < 0)
        fail_errno("umount2", "the old root");
}

void run_pivot_root(const struct pivot_root_args *args) {
    int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (old < 0)
        fail_errno("open", "/");
    if (args->stay)
        stay_in_root(old);
    else
        swap_roots(old);
    if (chdir("/") < 0)
        fail_errno("chdir", "/");
    close_fd(old);
}

void run_set_root_readonly(void) {
    set_attributes(helper.root, false, KERNEL_MOUNT_ATTR_RDONLY, 0, 0, "/");
}

void run_set_readonly(const struct set_readonly_args *args) {
    int fd = open_in_root(args->path, O_PATH, 0);

    if (fd < 0)
        fail_errno("openat2", args->path);
    set_attributes(fd, false, KERNEL_MOUNT_ATTR_RDONLY, 0, 0, args->path);
    close_fd(fd);
}

/* -- hidden and read-only paths -- */

/* O_PATH descriptor, or -1 when nothing is there, which is fine. */
static int open_if_there(const char *path) {
    int fd = open_in_root(path, O_PATH, 0);

    if (fd < 0 && errno != ENOENT && errno != ENOTDIR)
        fail_errno("openat2", path);
    return fd;
}

void run_readonly_path(const struct readonly_path_args *args) {
    int there = open_if_there(args->path), copy;

    if (there < 0)
        return;
    copy = clone_tree(there, args->path, true);
    set_attributes(copy, true, KERNEL_MOUNT_ATTR_RDONLY, 0, 0, args->path);
    move_onto(copy, there, args->path);
    close_fd(copy);
    close_fd(there);
}

/* The same mount hides many paths: the first time it is attached itself, then clones of it (a clone needs its
 * original to be attached in our mount namespace). */
static void hide_behind(int cover, bool *attached, int there, const char *path) {
    int mount = *attached ? clone_tree(cover, path, false) : cover;

    move_onto(mount, there, path);
    if (mount != cover)
        close_fd(mount);
    *attached = true;
}

static int make_empty(const char *path) {
    int context = open_context("tmpfs", path);

    set_option(context, "nr_blocks=1", path);
    set_option(context, "nr_inodes=1", path);
    set_option(context, "mode=755", path);
    return finish_context(context, nothing_allowed, path);
}

void run_mask_path(const struct mask_path_args *args) {
    static int empty = -1;
    static bool empty_attached, null_attached;
    int there = open_if_there(args->path);
    struct stat facts;

    if (there < 0)
        return;
    if (fstat(there, &facts) < 0)
        fail_errno("fstat", args->path);
    if (S_ISDIR(facts.st_mode)) {
        if (empty < 0)
            empty = make_empty(args->path);
        hide_behind(empty, &empty_attached, there, args->path);
    } else {
        hide_behind(slot_fd(args->null), &null_attached, there, args->path);
    }
    close_fd(there);
}
