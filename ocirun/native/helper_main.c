/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the plan, checks all of it, and performs one record after the other. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper.h"

enum { PRESERVED_MAX = 65536 };

struct helper helper = {.root = -1};

/* A slot must never become 0, 1 or 2: those stay open in the container. */
static void fill_stdio(void) {
    struct pollfd stdio[] = {{.fd = 0}, {.fd = 1}, {.fd = 2}};

    must(poll(stdio, 3, 0), "poll", "standard input, output and error");
    for (int fd = 0; fd < 3; fd++)
        if (stdio[fd].revents & POLLNVAL && open("/dev/null", O_RDWR) != fd)
            fail_errno("open", "/dev/null");
}

static void take_plan(int fd) {
    struct stat facts;
    const char *wrong;
    void *data;

    must(fstat(fd, &facts), "fstat", "the plan");
    if (facts.st_size < PLAN_HEADER || facts.st_size > PLAN_SIZE_MAX)
        fail(EPROTO, "plan", "not a plan");
    data = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        fail_errno("mmap", "the plan");
    close_fd(fd);
    wrong = plan_open(&helper.plan, data, (size_t)facts.st_size, &helper.step);
    if (wrong)
        fail(EPROTO, "plan", wrong);
}

/* One mapping for all that has no bound but the plan's: a text takes 8 bytes of the plan at least, so
 * pointers to all of them need no more than its size.  The kernel gives pages only where they are touched. */
static void make_arena(void) {
    size_t slots = (size_t)helper.plan.slots * sizeof *helper.slots;
    size_t size = helper.plan.size + slots + 64 * sizeof *helper.pointers;
    void *arena = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (arena == MAP_FAILED)
        fail_errno("mmap", "memory for the plan");
    helper.slots = arena;
    memset(arena, 0xff, slots);
    helper.pointers = (char **)arena + (slots + sizeof(char *) - 1) / sizeof(char *);
}

/* Whoever asks for it gets the answer in packets; without a socket there is nobody to tell. */
static void check_control(void) {
    int kind;
    socklen_t size = sizeof kind;

    if (getsockopt(helper.control, SOL_SOCKET, SO_TYPE, &kind, &size) < 0 || kind != SOCK_SEQPACKET ||
        fcntl(helper.control, F_SETFD, FD_CLOEXEC) < 0)
        leave(2);
}

static unsigned number(const char *text) {
    unsigned count = 0;

    for (const char *c = text; *c >= '0' && *c <= '9' && count < PRESERVED_MAX; c++)
        count = count * 10 + (unsigned)(*c - '0');
    return count;
}

/* Up to Linux 6.18 clone3 puts nobody alive into a cgroup that was ever killed (cgroup.kill), unless the
 * parent is in there: it compares the parent's cgroup before with that of the child after. */
static void enter_cgroup(const char *procs) {
    int fd = open(procs, O_WRONLY | O_CLOEXEC);

    helper.step = 1;
    if (fd < 0 || write(fd, "0", 1) != 1)
        fail_errno("write", procs);
    close(fd);
}

/* An ordinary user may clone no mount but in a namespace of his own: so we become root of one, a new one or
 * that of a path, before all else.  Then we are executed once more, for what /proc tells of a process that is
 * not dumpable belongs to the root of the user namespace in which it was executed (task_dump_owner). */
static _Noreturn void enter_user_namespace(char **argv) {
    helper.step = number(argv[3]);
    if (argv[4]) {
        int fd = must(open(argv[4], O_RDONLY | O_CLOEXEC), "open", argv[4]);
        must(setns(fd, CLONE_NEWUSER), "setns", argv[4]);
    } else {
        must(unshare(CLONE_NEWUSER), "unshare", "user");
        run_meet(&(struct meet_args){0});
    }
    must(unshare(CLONE_NEWNS), "unshare", "mount");
    must(syscall(SYS_setresgid, 0, 0, 0), "setresgid", "");
    must(syscall(SYS_setresuid, 0, 0, 0), "setresuid", "");
    must(fcntl(helper.control, F_SETFD, 0), "fcntl", "");
    argv[3] = NULL;
    execve("/proc/self/exe", argv, argv + 3);
    fail_errno("execve", "/proc/self/exe");
}

/* The control socket and the plan come as the two descriptors behind 0, 1, 2 and those that the caller wants
 * preserved, whose number is our first argument.  The others are the file by which a cgroup is entered, the
 * step that makes a user namespace, and the path of one that exists. */
int main(int argc, char **argv) {
    union verb_args args;
    struct record record;

    helper.control = (int)(3 + number(argc > 1 ? argv[1] : ""));
    check_control();
    if (argc > 3)
        enter_user_namespace(argv);
    take_plan(helper.control + 1);
    fill_stdio();
    make_arena();
    helper.umask = umask(0);
    if (argc > 2 && *argv[2])
        enter_cgroup(argv[2]);
    while (plan_next(&helper.plan, &helper.at, &record)) {
        helper.step = record.step;
        if (!verb_decode(record.verb, &record.wire, &args))
            fail(EPROTO, "plan", "it changed while it was read");
        verb_run(record.verb, &args);
    }
    report(REPORT_DONE, 0, 0, "", "", NULL, 0);
    return 0;
}

/* The slot of a list of numbers, which the decoder cannot know to be slots. */
static uint32_t listed_slot(const struct wire_u32s *list, uint32_t i) {
    if (list->values[i] >= helper.plan.slots)
        fail(EPROTO, "plan", "no such slot");
    return list->values[i];
}

static void take_answer(const struct wire_u32s *slots) {
    char go;
    struct iovec part = {&go, 1};
    union {
        char space[CMSG_SPACE(16 * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header;
    uint32_t count = 0;
    ssize_t got;

    while ((got = recvmsg(helper.control, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        continue;
    if (got != 1 || go != 'G')
        leave(1); /* the host is gone, or no longer speaks with us */
    header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        count = (uint32_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    if (count != slots->count)
        fail(EPROTO, "answer", "the host sent other descriptors than it was asked for");
    for (uint32_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
        fill_slot(listed_slot(slots, i), fd);
    }
}

void run_meet(const struct meet_args *args) {
    int fds[16];

    if (args->give.count > 16 || args->take.count > 16)
        fail(EPROTO, "plan", "too many slots in a meet");
    for (uint32_t i = 0; i < args->give.count; i++)
        fds[i] = slot_fd(listed_slot(&args->give, i));
    report(REPORT_MEET, 0, 0, "", "", fds, args->give.count);
    take_answer(&args->take);
}
