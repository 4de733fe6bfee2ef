/*
 * containerd-shim-ocirun-v2: the launcher that first asks a warm process, the zygote, to do the work.
 *
 * containerd runs `start` and `delete` once a container and waits for both, and Python takes longer to start
 * than either takes.  So this sends the arguments, a few variables, the standard descriptors and the working
 * directory to the zygote of this user, these namespaces and this containerd (shim/ocirun_shim/zygote.py),
 * and ends as it says.  Before the zygote has accepted nothing was done, and any trouble means: do it
 * ourselves.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* OCIRUN_BUILD: the build id of the helper; a zygote of another build is none of ours. */
#ifndef OCIRUN_BUILD
#error "OCIRUN_BUILD is given by the build"
#endif

#define LONGEST_REQUEST 65536 /* the zygote takes no longer one */
#define PATIENCE        5     /* seconds until it has accepted: it may be stopped, or starved */
#define DESCRIPTORS     4

/* What a shim needs of the environment; all else of containerd's stays with containerd. */
static const char *const passed[] = {
    "TTRPC_ADDRESS=",
    "GRPC_ADDRESS=",
    "NAMESPACE=",
    "SCHED_CORE=",
    "PATH=",
    "XDG_RUNTIME_DIR=",
    "DBUS_SESSION_BUS_ADDRESS=",
};

static const char *const namespaces[] = {
    "/proc/self/ns/user",
    "/proc/self/ns/mnt",
    "/proc/self/ns/net",
    "/proc/self/ns/pid",
};

extern char **environ;

int is_passed(const char *variable) {
    for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
        if (strncmp(variable, passed[i], strlen(passed[i])) == 0)
            return 1;
    return 0;
}

static int is_for_zygote(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "start") == 0 || strcmp(argv[i], "delete") == 0)
            return 1;
    return 0;
}

/* The value of -address as containerd writes it.  A zygote that finds another one refuses. */
static const char *address_of(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "-address") == 0 && i + 1 < argc)
            return argv[i + 1];
    return "";
}

/* FNV-1a of the text and its null byte. */
static uint64_t hash(uint64_t sum, const char *text) {
    do
        sum = (sum ^ (unsigned char)*text) * 0x100000001b3;
    while (*text++);
    return sum;
}

/* The label of a security module, "" without one (proc_pid_attr(5)). */
static const char *label(void) {
    static char text[4096];
    int fd = open("/proc/self/attr/current", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    text[size < 0 ? 0 : size] = '\0';
    return text;
}

/* Where the zygote of this key listens; zygote.py composes the same name.  Not 0 where none can be. */
static int find_zygote(struct sockaddr_un *to, const char *address, const char *directory) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    uint64_t sum = hash(hash(hash(hash(0xcbf29ce484222325, address), label()), OCIRUN_BUILD), directory);
    unsigned long long inode[4];
    char where[64];
    struct stat ns;

    for (int i = 0; i < 4; i++) {
        if (stat(namespaces[i], &ns) < 0)
            return -1;
        inode[i] = ns.st_ino;
    }
    if (geteuid() == 0)
        runtime = "/run";
    snprintf(where, sizeof(where), runtime ? "/ocirun-shim" : "/tmp/ocirun-shim-%u", geteuid());
    to->sun_family = AF_UNIX;
    return snprintf(to->sun_path, sizeof(to->sun_path), "%s%s/%llx-%llx-%llx-%llx-%016llx",
                    runtime ? runtime : "", where, inode[0], inode[1], inode[2], inode[3],
                    (unsigned long long)sum) >= (int)sizeof(to->sun_path);
}

/* Whoever listens in a directory that a variable names must be ourselves before it gets our descriptors. */
static int connect_zygote(const struct sockaddr_un *to) {
    const struct timeval patience = {.tv_sec = PATIENCE};
    struct ucred peer;
    socklen_t size = sizeof(peer);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
        connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0 &&
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid())
        return fd;
    close(fd);
    return -1;
}

/* Adds the letter and the text with its null byte. */
static int add(char *request, size_t *size, char letter, const char *text) {
    size_t length = strlen(text) + 1;

    if (length >= LONGEST_REQUEST - *size)
        return -1;
    request[*size] = letter;
    memcpy(request + *size + 1, text, length);
    *size += length + 1;
    return 0;
}

/* 'a' ARGUMENT or 'e' VARIABLE, each with its null byte; the size, or -1 where it is too long. */
static ssize_t compose(char *request, int argc, char **argv) {
    size_t size = 0;

    for (int i = 1; i < argc; i++)
        if (add(request, &size, 'a', argv[i]) < 0)
            return -1;
    for (char **variable = environ; *variable; variable++)
        if (add(request, &size, 'e', *variable) < 0)
            return -1;
    return (ssize_t)size;
}

static int send_request(int fd, int argc, char **argv) {
    static char request[LONGEST_REQUEST];
    int fds[DESCRIPTORS] = {0, 1, 2, open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    ssize_t size = compose(request, argc, argv);
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(fds))];
    } control = {.header = {CMSG_LEN(sizeof(fds)), 0, SOL_SOCKET, SCM_RIGHTS}};
    struct iovec text = {request, (size_t)size};
    struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1};

    message.msg_control = &control;
    message.msg_controllen = sizeof(control.room);
    memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
    return size > 0 && fds[3] >= 0 && sendmsg(fd, &message, MSG_NOSIGNAL) == size ? 0 : -1;
}

int ask_zygote(int argc, char **argv, const char *directory) {
    const struct timeval for_ever = {0};
    struct sockaddr_un to = {0};
    unsigned char answer;
    int fd;

    if (!is_for_zygote(argc, argv) || find_zygote(&to, address_of(argc, argv), directory) != 0 ||
        (fd = connect_zygote(&to)) < 0)
        return -1;
    if (send_request(fd, argc, argv) < 0 || recv(fd, &answer, 1, 0) != 1 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof(for_ever)) < 0) {
        close(fd);
        return -1;
    }
    if (recv(fd, &answer, 1, 0) == 1)
        return answer;
    say("ocirun: the process that did the work ended before it was done\n");
    return 1;
}
