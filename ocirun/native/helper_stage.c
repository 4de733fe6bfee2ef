/* SPDX-License-Identifier: Apache-2.0 */
/* What the stage does outside, while it still has the caller's privileges and paths. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"

/* O_RDWR: it never blocks, and neither end of the FIFO is ever without the other. */
static int make_fifo(int directory, const char *name) {
    must(mkfifoat(directory, name, 0600), "mkfifoat", name);
    return must(openat(directory, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC), "openat", name);
}

void run_open_handshake(const struct open_handshake_args *args) {
    int directory = must(open(args->directory, O_PATH | O_DIRECTORY | O_CLOEXEC), "open", args->directory);

    fill_slot(args->gate, make_fifo(directory, "gate"));
    fill_slot(args->proof, make_fifo(directory, "proof"));
    close_fd(directory);
}

/* The mount namespace of the caller, and one in which all that its mounts forbid is locked. */
static int outside = -1, view;

static int clone_source(const struct open_tree_args *args) {
    unsigned flags = (args->recursive ? AT_RECURSIVE : 0) | (args->nofollow ? AT_SYMLINK_NOFOLLOW : 0);

    return (int)syscall(SYS_open_tree, AT_FDCWD, args->path, flags | OPEN_TREE_CLONE | O_CLOEXEC);
}

/* In the view there is no mount without those below it, as they may hide something: such a one is cloned
 * outside, and nothing of it is locked.
 *
 * A clone of a shared mount is its peer: what is mounted on it inside, by us or by a container that may
 * mount, would appear on the host.  So it follows the host from now on, and tells it nothing. */
void run_open_tree(const struct open_tree_args *args) {
    int tree = clone_source(args);

    if (tree < 0 && errno == EINVAL && outside >= 0) {
        must(setns(outside, CLONE_NEWNS), "setns", "mount");
        tree = clone_source(args);
        must(setns(view, CLONE_NEWNS), "setns", "mount");
    }
    must(tree, "open_tree", args->path);
    if (!args->shared)
        set_attributes(tree, args->recursive, 0, 0, MS_SLAVE, args->path);
    fill_slot(args->tree, tree);
}

/* The device is checked and cloned through one descriptor: what init binds is what was checked
 * (CVE-2025-31133). */
void run_open_device(const struct open_device_args *args) {
    int fd = must(open(args->path, O_PATH | O_NOFOLLOW | O_CLOEXEC), "open", args->path), device;
    struct stat facts;

    must(fstat(fd, &facts), "fstat", args->path);
    if ((facts.st_mode & S_IFMT) != args->kind || facts.st_rdev != makedev(args->major, args->minor))
        fail(ENODEV, "check of the device", args->path);
    device = clone_tree(fd, args->path, 0);
    set_attributes(device, false, 0, 0, MS_SLAVE, args->path);
    fill_slot(args->device, device);
    close_fd(fd);
}

/* Init has its descriptors in common with us, who are under no filter.  Its own may refuse every system call,
 * or keep it waiting for the very agent that is to get the descriptor: so it only stores the number, and we
 * look for it.  A host that is gone, or knows that init is dead, hangs up. */
static void hand_over_listener(void) {
    struct pollfd host = {.fd = helper.control, .events = POLLRDHUP};
    int fd;

    while (!(fd = *helper.listener))
        if (poll(&host, 1, 1) > 0 && !*helper.listener)
            leave(1);
    report(REPORT_LISTENER, 0, 0, "", "", &fd, 1);
    close_fd(fd); /* init's, too: when the agent is gone, nobody shall wait for an answer */
}

/* Takes its pid and pidfd to the host.  Init waits for the pipe to close, so that the host hears of it first
 * and from nobody else; a stage that is killed before it told closes the pipe without a byte, and init ends
 * too. */
static _Noreturn void announce(pid_t pid, int pidfd, int told) {
    report(REPORT_BORN, 0, (uint32_t)pid, "", "", &pidfd, 1);
    if (helper.uid_map)
        write_id_maps(helper.proc, pid, helper.uid_map, helper.gid_map);
    if (write(told, "", 1) != 1)
        leave(1);
    if (helper.listener)
        hand_over_listener();
    leave(0);
}

/* A namespace begins with a process: a child that is there until we let go of it, or are gone.  It is
 * dumpable only where we may not look at it otherwise, for want of CAP_SYS_PTRACE (execve gives root what is
 * in the bounding set): every root of our user namespace owns the child's and has all rights in there, even
 * one in a container that keeps no capability but sees our pids, and the child is among the mounts of the
 * host. */
static pid_t begin_aside(uint64_t namespaces, int *pidfd, int *told) {
    const struct clone_args aside = {
        .flags = namespaces | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD};
    int ends[2], dumpable = prctl(PR_CAPBSET_READ, CAP_SYS_PTRACE, 0, 0, 0) != 1;
    pid_t child;

    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair", "");
    child = must(syscall(SYS_clone3, &aside, sizeof aside), "clone3", "");
    *told = ends[child > 0];
    close_fd(ends[child == 0]);
    if (child == 0 && (prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0) < 0 || write(*told, "", 1) != 1))
        leave(1);
    await_byte(*told); /* the child gets none, and ends */
    return child;
}

static void end_aside(pid_t child, int pidfd, int told) {
    close_fd(pidfd);
    close_fd(told);
    must(waitpid(child, NULL, 0), "waitpid", "");
}

void run_make_mapping(const struct make_mapping_args *args) {
    int told, pidfd;
    pid_t child = begin_aside(CLONE_NEWUSER, &pidfd, &told);

    write_id_maps(args->proc, child, args->uids, args->gids);
    fill_slot(args->mapping, open_namespace_of(args->proc, child, "user"));
    end_aside(child, pidfd, told);
}

void run_enter_view(void) {
    int told, pidfd;
    pid_t child;

    outside = must(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), "open", "/proc/self/ns/mnt");
    child = begin_aside(CLONE_NEWUSER | CLONE_NEWNS, &pidfd, &told);
    must(setns(pidfd, CLONE_NEWNS), "setns", "mount");
    view = must(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), "open", "/proc/self/ns/mnt");
    end_aside(child, pidfd, told);
}

void run_leave_view(void) {
    must(setns(outside, CLONE_NEWNS), "setns", "mount");
    close_fd(outside);
    close_fd(view);
    outside = -1;
}

/* With all descriptors in common the pipe does not close: then it is the host that sees a dead stage. */
static void await_announcement(int told) {
    struct pollfd both[] = {{told, POLLIN, 0}, {helper.control, POLLRDHUP, 0}};

    if (poll(both, 2, -1) < 1 || !both[0].revents)
        leave(1);
    await_byte(told);
    close_fd(told);
}

static _Atomic int *share_number(void) {
    _Atomic int *number =
        mmap(NULL, sizeof *number, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (number == MAP_FAILED)
        fail_errno("mmap", "shared memory");
    return number;
}

void run_clone_init(const struct clone_init_args *args) {
    int pidfd = -1, told[2], cgroup = helper.slots[args->cgroup]; /* -1: who may give none stays in his own */
    /* exit_signal stays 0: with CLONE_PARENT the kernel wants it so, and init gets the stage's own */
    struct clone_args clone = {
        .flags = args->namespaces | CLONE_PARENT | CLONE_PIDFD | (cgroup < 0 ? 0 : CLONE_INTO_CGROUP) |
                 (args->sharing ? CLONE_FILES : 0),
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .cgroup = cgroup < 0 ? 0 : (uint64_t)cgroup,
    };
    pid_t pid;

    helper.listener = args->sharing ? share_number() : NULL;
    must(pipe2(told, O_CLOEXEC), "pipe2", "");
    pid = must(syscall(SYS_clone3, &clone, sizeof clone), "clone3", "");
    if (pid)
        announce(pid, pidfd, told[1]);
    if (!args->sharing)
        close_fd(told[1]);
    await_announcement(told[0]);
}
