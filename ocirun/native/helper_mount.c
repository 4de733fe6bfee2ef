/* SPDX-License-Identifier: Apache-2.0 */
/* The mounts of init: what stage opened is attached, the rest is made, all by descriptors. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"
#include "helper_kernel.h"

/* Bits of what a new mount keeps of the directory below it. */
enum { KEEP_MODE = 1, KEEP_FILES = 2 };

/* What becomes of a symbolic link where a tree is attached. */
enum { LINK_ITSELF = 1, LINK_COPIED = 2 };

/* The attributes of what hides a directory, and of nothing the config asks for. */
static const uint64_t nothing_allowed =
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

int clone_tree(int fd, const char *path, unsigned flags) {
    flags |= OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH;
    return must(syscall(SYS_open_tree, fd, fd == AT_FDCWD ? path : "", flags), "open_tree", path);
}

void set_attributes(int mount, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation,
                    const char *path) {
    struct mount_attr attr = {
        .attr_set = set, .attr_clr = clear, .propagation = propagation & ~(uint64_t)MS_REC};
    unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);

    /* the kernel takes a change of atime only together with clearing all of what was there */
    if ((set | clear) & MOUNT_ATTR__ATIME)
        attr.attr_clr |= MOUNT_ATTR__ATIME;
    if (attr.attr_set | attr.attr_clr | attr.propagation)
        must(syscall(SYS_mount_setattr, mount, "", flags, &attr, sizeof attr), "mount_setattr", path);
}

static void set_all(int mount, uint64_t set, uint64_t clear, uint64_t rset, uint64_t rclear,
                    struct wire_u32s propagation, const char *path) {
    set_attributes(mount, false, set, clear, 0, path);
    set_attributes(mount, true, rset, rclear, 0, path);
    for (uint32_t i = 0; i < propagation.count; i++)
        set_attributes(mount, propagation.values[i] & MS_REC, 0, 0, propagation.values[i], path);
}

/* What a descriptor stands for; it is -1, with errno, when path could not be opened. */
static struct kernel_statx locate(int fd, const char *path) {
    struct kernel_statx place;

    must(fd, "openat2", path);
    must(syscall(SYS_statx, fd, "", AT_EMPTY_PATH, KERNEL_STATX_WANTED, &place), "statx", path);
    return place;
}

/* A link of the image may lead to the root itself: what is mounted over that, the container's root would not
 * show, and "/.." would. */
static void check_target(int target, const char *path) {
    struct kernel_statx place = locate(target, path), root = locate(helper.root, path);

    if (place.mount_id == root.mount_id && place.inode == root.inode)
        fail(EBUSY, "check of the target", path);
}

void move_onto(int mount, int target, const char *path) {
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;

    must(syscall(SYS_move_mount, mount, "", target, "", flags), "move_mount", path);
}

/* What the path names now must be the mount: had somebody renamed a directory on the way, it would lie
 * elsewhere in the root and something else would be used in its place (CVE-2023-27561 for /proc). */
static void check_mounted(int mount, const char *path, uint64_t flags, uint64_t resolve) {
    int fd = open_in_root(path, O_PATH | flags, resolve);

    if (fd < 0 || locate(mount, path).mount_id != locate(fd, path).mount_id)
        fail(ESTALE, "check after mounting", path);
    close_fd(fd);
}

/* -- new file systems -- */

/* A file system under construction refused: the kernel says why in the log of its context, where that is. */
static _Noreturn void fail_context(int context, const char *operation, const char *target, const char *what) {
    char text[PATH_MAX + 1024] = "", line[512];
    int error = errno;
    ssize_t length;

    append(text, sizeof text, target);
    append(text, sizeof text, *what ? ": " : "");
    append(text, sizeof text, what);
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
    char key[256] = ""; /* no longer one has a meaning */

    append(key, value && value - option < 255 ? (size_t)(value - option) + 1 : sizeof key, option);
    if (syscall(SYS_fsconfig, context, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key,
                value ? value + 1 : NULL, 0) < 0)
        fail_context(context, "fsconfig", target, option);
}

static int open_context(const char *fstype, const char *target) {
    int context = (int)syscall(SYS_fsopen, fstype, FSOPEN_CLOEXEC);

    if (context < 0)
        fail_context(context, "fsopen", target, fstype);
    return context;
}

/* The detached mount of a finished context, which it closes. */
static int finish_context(int context, uint64_t attributes, const char *target) {
    int mount;

    if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        fail_context(context, "fsconfig", target, "");
    mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
    if (mount < 0)
        fail_context(context, "fsmount", target, "");
    close_fd(context);
    return mount;
}

/* mount(2) takes longer texts than fsconfig(2), and flags that has no word for; but it attaches what it
 * makes.  So a child does it that has our descriptors and a mount namespace of its own: on the root there,
 * where only "/.." sees it, for the texts may name what is below any other place. */
static int mount_aside(const char *fstype, const char *source, uint32_t flags, const char *data,
                       uint64_t attributes, const char *target) {
    const struct clone_args aside = {.flags = CLONE_FILES | CLONE_NEWNS, .exit_signal = SIGCHLD};
    int made = open("/", O_PATH | O_CLOEXEC), status, tree;
    pid_t child = (pid_t)syscall(SYS_clone3, &aside, sizeof aside);

    if (child == 0) {
        if (syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            syscall(SYS_mount, source, "/", fstype, flags, data) < 0)
            fail_errno("mount", target);
        tree = clone_tree(AT_FDCWD, "/..", 0);
        set_attributes(tree, false, attributes, 0, 0, target);
        leave(dup3(tree, made, O_CLOEXEC) < 0 || close(tree) < 0);
    }
    if (child < 0 || made < 0 || waitpid(child, &status, 0) < 0)
        fail_errno("clone3", target);
    if (status) /* it told */
        leave(1);
    return made;
}

static int make_mount(const char *fstype, const char *source, uint32_t flags, struct wire_strs options,
                      uint64_t attributes, const char *target) {
    int context;

    if (flags)
        return mount_aside(fstype, source, flags, options.count ? wire_next(&options) : "", attributes,
                           target);
    context = open_context(fstype, target);
    if (*source && syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", source, 0) < 0)
        fail_context(context, "fsconfig", target, source);
    while (options.count)
        set_option(context, wire_next(&options), target);
    return finish_context(context, attributes, target);
}

void run_open_filesystem(const struct open_filesystem_args *args) {
    fill_slot(args->tree,
              make_mount(args->fstype, args->source, args->flags, args->options, args->set, args->source));
}

void run_mount(const struct mount_args *args) {
    uint64_t later = args->keep ? args->set & MOUNT_ATTR_RDONLY : 0, now = args->set & ~later;
    int mount = make_mount(args->fstype, args->source, args->flags, args->options, now, args->target);
    uint64_t resolve = args->plain ? RESOLVE_NO_SYMLINKS : 0;
    int target = open_in_root(args->target, O_PATH | O_DIRECTORY, resolve);

    if (target < 0)
        target = make_in_root(args->target, S_IFDIR, 0755, args->plain);
    else if (args->keep & KEEP_MODE && fchmodat(mount, ".", locate(target, args->target).mode & 07777, 0) < 0)
        fail_errno("fchmodat", args->target);
    check_target(target, args->target);
    if (args->keep & KEEP_FILES)
        copy_directory(open_beneath(target, ".", O_RDONLY | O_DIRECTORY), mount, 0);
    set_all(mount, later, 0, 0, 0, args->propagation, args->target);
    move_onto(mount, target, args->target);
    check_mounted(mount, args->target, 0, resolve);
    close_fd(target);
    close_fd(mount);
}

/* What is mounted there already, changed: the file system too, unless only this mount of it is meant.  Of
 * what goes because nobody named it stays what is locked (as with the peers). */
void run_remount(const struct remount_args *args) {
    int target = open_in_root(args->target, O_PATH, 0), context;
    struct wire_strs options = args->options;

    check_target(target, args->target);
    if (!args->bind) {
        context =
            must(syscall(SYS_fspick, target, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH), "fspick", args->target);
        while (options.count)
            set_option(context, wire_next(&options), args->target);
        if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
            fail_context(context, "fsconfig", args->target, "");
        close_fd(context);
    }
    for (uint64_t bit = 1; bit <= args->drop; bit <<= 1) {
        struct mount_attr attr = {.attr_clr = args->drop & bit};
        if (syscall(SYS_mount_setattr, target, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0 && errno != EPERM)
            fail_errno("mount_setattr", args->target);
    }
    set_all(target, args->set, args->clear, args->rset, args->rclear, args->propagation, args->target);
    close_fd(target);
}

/* -- what stage opened -- */

/* Where nothing is followed the target has to be there: between a look and the making of it somebody might
 * put a link. */
static void attach(const struct attach_args *args, int tree, mode_t kind) {
    bool directory = S_ISDIR(kind), itself = args->link == LINK_ITSELF;
    int target =
        itself ? open_in_root(args->target, O_PATH | O_NOFOLLOW, 0)
               : make_in_root(args->target, directory ? S_IFDIR : S_IFREG, directory ? 0755 : 0644, false);

    check_target(target, args->target);
    if (!directory && S_ISDIR(locate(target, args->target).mode))
        fail(EISDIR, "attach", args->target);
    move_onto(tree, target, args->target);
    check_mounted(tree, args->target, itself || S_ISLNK(kind) ? O_NOFOLLOW : 0, 0);
    close_fd(target);
}

void run_attach(const struct attach_args *args) {
    int tree = slot_fd(args->tree);
    mode_t kind = locate(tree, args->target).mode;
    char link[PATH_MAX] = "";

    if (S_ISLNK(kind) && args->link == LINK_COPIED) {
        must(readlinkat(tree, "", link, sizeof link - 1), "readlinkat", args->target);
        make_link(link, args->target, false);
    } else {
        set_all(tree, args->set, args->clear, args->rset, args->rclear, args->propagation, args->target);
        attach(args, tree, kind);
    }
    close_slot(args->tree);
}

void run_attach_root(const struct attach_root_args *args) {
    int root = slot_fd(args->root);

    if (!S_ISDIR(locate(root, "root").mode))
        fail(ENOTDIR, "statx", "root");
    set_all(root, args->set, args->clear, args->rset, args->rclear, args->propagation, "root");
    /* A root that is covered goes first: the unmounting of the old root would find it in its way, and leave
     * the host's tree in the container. */
    if (helper.root >= 0)
        must(syscall(SYS_umount2, "/", KERNEL_MNT_DETACH), "umount2", "root");
    /* It covers "/" for those who look it up anew; we go on through the descriptor. */
    must(syscall(SYS_move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "move_mount", "root");
    helper.root = root;
    helper.slots[args->root] = -1;
}

/* In an initramfs the old root cannot be let go of, and whoever may chroot gets there.  A procfs that is seen
 * whole would allow a user namespace of the container to mount another one without our masks. */
static void stay_in_root(int old) {
    static const char *const names[] = {"proc", "sys"};

    must(fchdir(old), "fchdir", "the old root");
    for (int i = 0; i < 2; i++) {
        while (!syscall(SYS_umount2, names[i], KERNEL_MNT_DETACH | KERNEL_UMOUNT_NOFOLLOW))
            continue;
        if (errno != EINVAL && errno != ENOENT)
            fail_errno("umount2", names[i]);
    }
    must(fchdir(helper.root), "fchdir", "root");
    must(chroot("."), "chroot", "root");
}

static void swap_roots(int old) {
    must(fchdir(helper.root), "fchdir", "root");
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root", ".");
    /* The old root now lies on the new one.  Its unmounting must not travel to the host, so it follows the
     * host's tree but no longer tells it anything. */
    must(fchdir(old), "fchdir", "the old root");
    must(syscall(SYS_mount, NULL, ".", NULL, MS_SLAVE | MS_REC, NULL), "mount", "the old root");
    must(syscall(SYS_umount2, ".", KERNEL_MNT_DETACH), "umount2", "the old root");
}

void run_pivot_root(const struct pivot_root_args *args) {
    int old = must(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), "open", "/");

    if (args->stay)
        stay_in_root(old);
    else
        swap_roots(old);
    must(chdir("/"), "chdir", "/");
    close_fd(old);
}

void run_set_root_readonly(void) {
    set_attributes(helper.root, false, MOUNT_ATTR_RDONLY, 0, 0, "/");
}

void run_set_readonly(const struct set_readonly_args *args) {
    int fd = must(open_in_root(args->path, O_PATH, 0), "openat2", args->path);

    set_attributes(fd, false, MOUNT_ATTR_RDONLY, 0, 0, args->path);
    close_fd(fd);
}

/* Who is inside may have put a link on the way, to what protects the host from him (/proc/sys), or renamed
 * what was mounted on: so no link is followed, and umount2 looks up no more than a name in a directory that
 * is open. */
void run_unmount(const struct unmount_args *args) {
    int directory = open_in_root(args->directory, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);

    must(directory, "openat2", args->directory);
    must(fchdir(directory), "fchdir", args->directory);
    must(syscall(SYS_umount2, args->name, KERNEL_MNT_DETACH | KERNEL_UMOUNT_NOFOLLOW), "umount2", args->name);
    close_fd(directory);
}

/* -- hidden and read-only paths -- */

/* O_PATH descriptor, or -1 when nothing is there, which is fine; the root is refused, for nobody would see
 * what is laid over it.  below is the mount point of the procfs or sysfs that path belongs to, or "": there
 * it is looked for and nowhere else.  Had somebody who shares the root exchanged that directory for one of
 * his own, all would be laid over his and the real one stay bare. */
static int open_if_there(const char *path, const char *below) {
    int base = must(open_in_root(below, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS), "openat2", below), fd;
    struct statfs kind;

    must(fstatfs(base, &kind), "fstatfs", below);
    if (*below && kind.f_type != PROC_SUPER_MAGIC && kind.f_type != SYSFS_MAGIC)
        fail(ESTALE, "check of the file system", below);
    fd = open_within(base, path + strlen(below), O_PATH, 0);
    if (fd >= 0)
        check_target(fd, path);
    else if (errno != ENOENT && errno != ENOTDIR)
        fail_errno("openat2", path);
    close_fd(base);
    return fd;
}

void run_readonly_path(const struct readonly_path_args *args) {
    int there = open_if_there(args->path, args->below), copy;

    if (there < 0)
        return;
    copy = clone_tree(there, args->path, AT_RECURSIVE);
    set_attributes(copy, true, MOUNT_ATTR_RDONLY, 0, 0, args->path);
    move_onto(copy, there, args->path);
    close_fd(copy);
    close_fd(there);
}

/* The same mount hides many paths: the first time it is attached itself, then clones of it (a clone needs its
 * original to be attached in our mount namespace). */
static void hide_behind(int cover, bool *attached, int there, const char *path) {
    int mount = *attached ? clone_tree(cover, path, 0) : cover;

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
    static bool attached[2];
    int there = open_if_there(args->path, args->below), directory;

    if (there < 0)
        return;
    directory = S_ISDIR(locate(there, args->path).mode);
    if (directory && empty < 0)
        empty = make_empty(args->path);
    hide_behind(directory ? empty : slot_fd(args->null), &attached[directory], there, args->path);
    close_fd(there);
}
