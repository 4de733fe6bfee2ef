/* SPDX-License-Identifier: Apache-2.0 */
/* Who the program will be and what it may: keyring, standard streams, capabilities. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper.h"

/* The possessor may do all, the user of the program view, read, search and link (keyctl_setperm(3)): init
 * joins as root, and the program must find its keys after the change of ids. */
enum { KEYRING_PERMISSIONS = 0x3f1b0000, CAPABILITIES_MAX = 63 };

void run_join_keyring(const struct join_keyring_args *args) {
    long ring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, args->name);

    if (ring < 0 && errno == ENOSYS)
        return warn(ENOSYS, "keyctl", args->name); /* a kernel without keys has none to leak */
    must(ring, "keyctl", args->name);
    must(syscall(SYS_keyctl, KEYCTL_SETPERM, ring, KEYRING_PERMISSIONS), "keyctl", args->name);
}

void run_set_link_up(const struct set_link_up_args *args) {
    /* netdevice(7): any socket will do */
    int any = must(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket", args->name);
    struct ifreq request;

    memset(&request, 0, sizeof request);
    append(request.ifr_name, sizeof request.ifr_name, args->name);
    must(ioctl(any, SIOCGIFFLAGS, &request), "SIOCGIFFLAGS", args->name);
    request.ifr_flags |= IFF_UP;
    must(ioctl(any, SIOCSIFFLAGS, &request), "SIOCSIFFLAGS", args->name);
    close_fd(any);
}

void run_own_stdio(const struct own_stdio_args *args) {
    struct stat facts;

    for (int fd = 0; fd < 3; fd++) {
        must(fstat(fd, &facts), "fstat", "standard input, output or error");
        /* /dev/null and its like are the host's: their owner would change for everybody (CVE-2026-88265); a
         * terminal is the caller's, and the program must be able to open it again */
        if (facts.st_uid == args->uid || S_ISBLK(facts.st_mode) || (S_ISCHR(facts.st_mode) && !isatty(fd)))
            continue;
        if (fchown(fd, args->uid, (gid_t)-1) < 0 && errno != EPERM && errno != EROFS && errno != EINVAL)
            fail_errno("fchown", "standard input, output or error");
    }
}

void run_drop_bounding(const struct drop_bounding_args *args) {
    for (unsigned long capability = 0; capability <= CAPABILITIES_MAX; capability++) {
        int held = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
        if (held < 0)
            break; /* this kernel knows no more */
        if (held && !(args->keep >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
            fail_errno("prctl", "PR_CAPBSET_DROP");
    }
}

void run_raise_ambient(const struct raise_ambient_args *args) {
    must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl", "PR_CAP_AMBIENT_CLEAR_ALL");
    for (unsigned long capability = 0; capability <= CAPABILITIES_MAX; capability++) {
        if (!(args->capabilities >> capability & 1) ||
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0)
            continue;
        /* it is not both permitted and inheritable: the spec says to warn and go on */
        if (errno != EPERM)
            fail_errno("prctl", "PR_CAP_AMBIENT_RAISE");
        warn(EPERM, "prctl", "PR_CAP_AMBIENT_RAISE");
    }
}
