/* SPDX-License-Identifier: Apache-2.0 */
/* Who the program will be and what it may: keyring, limits, groups, ids, capabilities.
 *
 * System calls, not functions of the C library: those try to carry a change of ids to all threads, by records
 * of threads that a raw clone3 leaves wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "helper.h"
#include "helper_kernel.h"

/* The possessor may do all, the user of the program view, read, search and link (keyctl_setperm(3)): init
 * joins as root, and the program must find its keys after the change of ids. */
enum { KEYRING_PERMISSIONS = 0x3f1b0000, CAPABILITIES_MAX = 63 };

void run_join_keyring(const struct join_keyring_args *args) {
    long ring = syscall(SYS_keyctl, KERNEL_KEYCTL_JOIN_SESSION_KEYRING, args->name);

    if (ring < 0 && errno == ENOSYS)
        return warn(ENOSYS, "keyctl", args->name); /* a kernel without keys has none to leak */
    if (ring < 0)
        fail_errno("keyctl", args->name);
    if (syscall(SYS_keyctl, KERNEL_KEYCTL_SETPERM, ring, KEYRING_PERMISSIONS) < 0)
        fail_errno("keyctl", args->name);
}

void run_set_link_up(const struct set_link_up_args *args) {
    int any = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* netdevice(7): any socket will do */
    struct ifreq request;

    memset(&request, 0, sizeof request);
    append(request.ifr_name, sizeof request.ifr_name, args->name);
    if (any < 0)
        fail_errno("socket", args->name);
    if (ioctl(any, SIOCGIFFLAGS, &request) < 0)
        fail_errno("SIOCGIFFLAGS", args->name);
    request.ifr_flags |= IFF_UP;
    if (ioctl(any, SIOCSIFFLAGS, &request) < 0)
        fail_errno("SIOCSIFFLAGS", args->name);
    close_fd(any);
}

void run_set_hostname(const struct set_hostname_args *args) {
    if (sethostname(args->name, strlen(args->name)) < 0)
        fail_errno("sethostname", args->name);
}

void run_set_domainname(const struct set_domainname_args *args) {
    if (setdomainname(args->name, strlen(args->name)) < 0)
        fail_errno("setdomainname", args->name);
}

void run_forbid_new_privileges(void) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        fail_errno("prctl", "PR_SET_NO_NEW_PRIVS");
}

void run_set_rlimit(const struct set_rlimit_args *args) {
    uint64_t limit[2] = {args->soft, args->hard};

    if (syscall(SYS_prlimit64, 0, args->resource, limit, NULL) < 0)
        fail_errno("prlimit64", "");
}

void run_own_stdio(const struct own_stdio_args *args) {
    struct stat facts;

    for (int fd = 0; fd < 3; fd++) {
        if (fstat(fd, &facts) < 0)
            fail_errno("fstat", "standard input, output or error");
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

void run_set_groups(const struct set_groups_args *args) {
    if (syscall(SYS_setgroups, args->groups.count, args->groups.values) < 0)
        fail_errno("setgroups", "");
}

void run_set_ids(const struct set_ids_args *args) {
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        fail_errno("prctl", "PR_SET_KEEPCAPS");
    if (syscall(SYS_setresgid, args->gid, args->gid, args->gid) < 0)
        fail_errno("setresgid", "");
    if (syscall(SYS_setresuid, args->uid, args->uid, args->uid) < 0)
        fail_errno("setresuid", "");
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
        fail_errno("prctl", "PR_SET_KEEPCAPS");
}

void run_set_capabilities(const struct set_capabilities_args *args) {
    struct kernel_cap_header header = {.version = KERNEL_CAPABILITY_VERSION_3};
    struct kernel_cap_data data[2] = {
        {(uint32_t)args->effective, (uint32_t)args->permitted, (uint32_t)args->inheritable},
        {(uint32_t)(args->effective >> 32), (uint32_t)(args->permitted >> 32),
         (uint32_t)(args->inheritable >> 32)},
    };

    if (syscall(SYS_capset, &header, data) < 0)
        fail_errno("capset", "");
}

void run_raise_ambient(const struct raise_ambient_args *args) {
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        fail_errno("prctl", "PR_CAP_AMBIENT_CLEAR_ALL");
    for (unsigned long capability = 0; capability <= CAPABILITIES_MAX; capability++) {
        if (!(args->capabilities >> capability & 1))
            continue;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0)
            continue;
        /* it is not both permitted and inheritable: the spec says to warn and go on */
        if (errno != EPERM)
            fail_errno("prctl", "PR_CAP_AMBIENT_RAISE");
        warn(EPERM, "prctl", "PR_CAP_AMBIENT_RAISE");
    }
}
