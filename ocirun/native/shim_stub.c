/*
 * containerd-shim-ocirun-v2: the launcher that first asks a warm process, the zygote, to do the work.
 *
 * containerd waits for `start` and `delete` of each container, and Python takes longer to start than either.
 * So this hands arguments, variables, standard descriptors and working directory to the zygote of this user,
 * these namespaces and this containerd (shim/ocirun_shim/zygote.py), and ends as it says.  Before the zygote
 * has accepted nothing was done, and any trouble means: do it ourselves.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define LONGEST_REQUEST 65536 /* the zygote takes no longer one */
#define PATIENCE        5     /* seconds until it has accepted: it may be stopped, or starved */
#define DESCRIPTORS     4

/* What a shim needs of the environment; all else of containerd's stays with containerd. */
static const char *const passed[] = {
    "TTRPC_ADDRESS=",           "GRPC_ADDRESS=", "NAMESPACE=", "SCHED_CORE=", "PATH=", "XDG_RUNTIME_DIR=",
    "DBUS_SESSION_BUS_ADDRESS="};

static const char *const namespaces[] = {"/proc/self/ns/user", "/proc/self/ns/mnt", "/proc/self/ns/net",
                                         "/proc/self/ns/pid"};

int is_passed(const char *variable) {
    for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
        if (strncmp(variable, passed[i], strlen(passed[i])) == 0)
            return 1;
    return 0;
}

/* The value of -address as containerd writes it, NULL where neither start nor delete is asked for.  A zygote
 * that finds another address, or another action, refuses. */
static const char *address_of(int argc, char **argv) {
    const char *address = "";
    int wanted = 0;

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "start") == 0 || strcmp(argv[i], "delete") == 0)
            wanted = 1;
        else if (strcmp(argv[i], "-address") == 0 && i + 1 < argc)
            address = argv[i + 1];
    return wanted ? address : NULL;
}

/* FNV-1a of the text and its null byte.  (OCIRUN_BUILD, which the build gives, is the helper's build id.) */
static unsigned long long hash(unsigned long long sum, const char *text) {
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
    const char *runtime = geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR");
    unsigned long long inode[4], sum = 0xcbf29ce484222325;
    struct stat ns;

    for (int i = 0; i < 4; i++) {
        if (stat(namespaces[i], &ns) < 0)
            return -1;
        inode[i] = ns.st_ino;
    }
    sum = hash(hash(hash(hash(sum, address), label()), OCIRUN_BUILD), directory);
    to->sun_family = AF_UNIX;
    return !runtime ||
           snprintf(to->sun_path, sizeof(to->sun_path), "%s/ocirun-shim/%llx-%llx-%llx-%llx-%016llx", runtime,
                    inode[0], inode[1], inode[2], inode[3], sum) >= (int)sizeof(to->sun_path);
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

/* After the zygote has accepted: in the queue of a stopped one they would keep containerd's pipe open. */
static int send_descriptors(int fd) {
    int fds[DESCRIPTORS] = {0, 1, 2, open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(fds))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(fds)), .cmsg_level = SOL_SOCKET}};
    struct iovec text = {"", 1};
    struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1, .msg_control = &control};

    message.msg_controllen = sizeof(control.room);
    control.header.cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
    return fds[3] >= 0 && sendmsg(fd, &message, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

int ask_zygote(int argc, char **argv, const char *directory) {
    static char request[LONGEST_REQUEST];
    const struct timeval for_ever = {0};
    struct sockaddr_un to = {0};
    const char *address = address_of(argc, argv);
    unsigned char answer;
    ssize_t size;
    int fd;

    if (!address || (size = compose(request, argc, argv)) < 0 || find_zygote(&to, address, directory) != 0 ||
        (fd = connect_zygote(&to)) < 0)
        return -1;
    if (send(fd, request, (size_t)size, MSG_NOSIGNAL) != size || recv(fd, &answer, 1, 0) != 1) {
        close(fd);
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof(for_ever)) == 0 &&
        send_descriptors(fd) == 0 && recv(fd, &answer, 1, 0) == 1)
        return answer;
    dprintf(STDERR_FILENO, "ocirun: the process that did the work ended before it was done\n");
    return 1;
}
