/* SPDX-License-Identifier: Apache-2.0 */
/* What the host is told, and the descriptors that slots stand for. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
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

void report(enum report_kind kind, int error, uint32_t value, const char *operation, const char *path,
            const int *fds, uint32_t fd_count) {
    uint32_t head[4] = {kind, helper.step, (uint32_t)error, value};
    struct iovec parts[] = {
        {head, sizeof head},
        {(void *)operation, text_length(operation)},
        {(void *)"", 1},
        {(void *)path, text_length(path)},
    };
    union {
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 4, .msg_control = &control};

    memset(&control, 0, sizeof control);
    if (fd_count > FDS_MAX)
        fd_count = FDS_MAX;
    if (fd_count)
        attach_fds(&message, fds, fd_count);
    else
        message.msg_control = NULL;
    /* A host that is gone reads nothing: it was killed, and whoever killed it cleans up. */
    while (sendmsg(helper.control, &message, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            _exit(1);
}

_Noreturn void fail(int error, const char *operation, const char *path) {
    report(REPORT_FAILED, error, 0, operation, path, NULL, 0);
    _exit(1);
}

_Noreturn void fail_errno(const char *operation, const char *path) {
    fail(errno, operation, path);
}

void warn(int error, const char *operation, const char *path) {
    report(REPORT_WARNING, error, 0, operation, path, NULL, 0);
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
