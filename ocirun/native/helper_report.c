/* SPDX-License-Identifier: Apache-2.0 */
/* What the host is told, and the descriptors that slots stand for. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "helper.h"

enum { FDS_MAX = 16, TEXT_MAX = 8192 };

/* The host reads packets of 16 KiB; a longer text is cut. */
static size_t text_length(const char *text) {
    return strnlen(text, TEXT_MAX);
}

static void attach_fds(struct msghdr *message, const int *fds, uint32_t count) {
    struct cmsghdr *header;

    message->msg_controllen = CMSG_SPACE(count * sizeof *fds);
    header = CMSG_FIRSTHDR(message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof *fds);
    memcpy(CMSG_DATA(header), fds, count * sizeof *fds);
}

_Noreturn void leave(int status) {
    syscall(SYS_exit_group, status);
    __builtin_trap(); /* a filter has refused even that */
}

void report(enum report_kind kind, int error, uint32_t value, const char *operation, const char *path,
            const int *fds, uint32_t fd_count) {
    static char packet[4 * sizeof(uint32_t) + TEXT_MAX + 1 + TEXT_MAX];
    uint32_t head[4] = {kind, helper.step, (uint32_t)error, value};
    char *end = mempcpy(mempcpy(packet, head, sizeof head), operation, text_length(operation));
    union {
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec whole = {packet, 0};
    struct msghdr message = {.msg_iov = &whole, .msg_iovlen = 1, .msg_control = &control};

    *end++ = '\0';
    whole.iov_len = (size_t)((char *)mempcpy(end, path, text_length(path)) - packet);

    memset(&control, 0, sizeof control);
    fd_count = fd_count > FDS_MAX ? FDS_MAX : fd_count;
    if (fd_count)
        attach_fds(&message, fds, fd_count);
    /* A host that is gone reads nothing: it was killed, and whoever killed it cleans up.  Without descriptors
     * it is write(2), which every filter that a container can live under admits. */
    while ((fd_count ? sendmsg(helper.control, &message, MSG_NOSIGNAL)
                     : write(helper.control, packet, whole.iov_len)) < 0)
        if (errno != EINTR)
            leave(1);
}

_Noreturn void fail(int error, const char *operation, const char *path) {
    char over;

    report(REPORT_FAILED, error, 0, operation, path, NULL, 0);
    /* the host sees our root file system through us alone, and hangs up when it knows the cause */
    while (read(helper.control, &over, 1) > 0)
        continue;
    leave(1);
}

_Noreturn void fail_errno(const char *operation, const char *path) {
    fail(errno, operation, path);
}

void await_byte(int fd) {
    ssize_t got;
    char byte;

    while ((got = read(fd, &byte, 1)) < 0 && errno == EINTR)
        continue;
    if (got != 1)
        leave(1);
}

int must(long result, const char *operation, const char *path) {
    if (result < 0)
        fail_errno(operation, path);
    return (int)result;
}

void warn(int error, const char *operation, const char *path) {
    report(REPORT_WARNING, error, 0, operation, path, NULL, 0);
}

int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void append(char *text, size_t size, const char *more) {
    size_t length = strlen(text), room = size - length - 1, wanted = strnlen(more, room);

    memcpy(text + length, more, wanted);
    text[length + wanted] = '\0';
}

void fill_slot(uint32_t slot, int fd) {
    if (helper.slots[slot] >= 0)
        fail(EBUSY, "slot", "it is filled already");
    helper.slots[slot] = fd;
}

int slot_fd(uint32_t slot) {
    if (helper.slots[slot] < 0)
        fail(EBADF, "slot", "it is empty");
    return helper.slots[slot];
}

/* close(2) gives the descriptor up whatever it returns. */
void close_fd(int fd) {
    if (fd >= 0)
        close(fd);
}

void close_slot(uint32_t slot) {
    close_fd(helper.slots[slot]);
    helper.slots[slot] = -1;
}
