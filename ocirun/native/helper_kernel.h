/* SPDX-License-Identifier: Apache-2.0 */
/* What we need of the kernel and the C libraries of Debian 12 (musl 1.2.3, glibc 2.36) do not both have.  The
 * kernel's own headers are not used: musl-gcc does not find them, and linux/mount.h fights with sys/mount.h.
 */
#ifndef OCIRUN_HELPER_KERNEL_H
#define OCIRUN_HELPER_KERNEL_H

#include <stdint.h>
#include <sys/syscall.h>

/* openat2(2) */
struct kernel_open_how {
    uint64_t flags, mode, resolve;
};
enum {
    IN_ROOT_NO_XDEV = 0x01,
    IN_ROOT_NO_MAGICLINKS = 0x02,
    IN_ROOT_NO_SYMLINKS = 0x04,
    IN_ROOT_BENEATH = 0x08,
    IN_ROOT_IN_ROOT = 0x10,
};

/* fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2) */
enum {
    KERNEL_FSOPEN_CLOEXEC = 1,
    KERNEL_FSMOUNT_CLOEXEC = 1,
    KERNEL_FSCONFIG_SET_FLAG = 0,
    KERNEL_FSCONFIG_SET_STRING = 1,
    KERNEL_FSCONFIG_CMD_CREATE = 6,
    KERNEL_OPEN_TREE_CLONE = 1,
    KERNEL_MOVE_MOUNT_F_EMPTY_PATH = 0x04,
    KERNEL_MOVE_MOUNT_T_EMPTY_PATH = 0x40,
    KERNEL_MOUNT_ATTR_RDONLY = 0x01,
    KERNEL_MOUNT_ATTR_NOSUID = 0x02,
    KERNEL_MOUNT_ATTR_NODEV = 0x04,
    KERNEL_MOUNT_ATTR_NOEXEC = 0x08,
    KERNEL_MOUNT_ATTR_ATIME_MASK = 0x70,
};
struct kernel_mount_attr {
    uint64_t set, clear, propagation, userns_fd;
};

/* statx(2): only the id of the mount is of interest, the rest keeps its place. */
enum { KERNEL_STATX_MNT_ID = 0x1000 };
struct kernel_statx {
    uint32_t mask;
    uint8_t before[0x90 - 4];
    uint64_t mount_id;
    uint8_t after[0x100 - 0x98];
};

/* clone3(2), the form of Linux 5.7 */
#define KERNEL_CLONE_PIDFD       0x1000ULL
#define KERNEL_CLONE_PARENT      0x8000ULL
#define KERNEL_CLONE_INTO_CGROUP 0x200000000ULL
struct kernel_clone_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size,
        cgroup;
};

/* memfd_create(2), close_range(2) */
enum { KERNEL_MFD_CLOEXEC = 1, KERNEL_MFD_NOEXEC_SEAL = 8, KERNEL_CLOSE_RANGE_CLOEXEC = 4 };

/* bpf(2) */
enum {
    KERNEL_BPF_PROG_LOAD = 5,
    KERNEL_BPF_PROG_ATTACH = 8,
    KERNEL_BPF_PROG_TYPE_CGROUP_DEVICE = 15,
    KERNEL_BPF_CGROUP_DEVICE = 6,
    KERNEL_BPF_F_ALLOW_MULTI = 2,
};
struct kernel_bpf_load {
    uint32_t type, instruction_count;
    uint64_t instructions, license;
    uint32_t log_level, log_size;
    uint64_t log;
    uint32_t kernel_version, flags;
    char name[16];
    uint32_t interface, expected_attach_type;
};
struct kernel_bpf_attach {
    uint32_t target_fd, program_fd, type, flags, replaced_fd, unused;
};

/* capset(2), version 3 */
enum { KERNEL_CAPABILITY_VERSION_3 = 0x20080522 };
struct kernel_cap_header {
    uint32_t version;
    int32_t pid;
};
struct kernel_cap_data {
    uint32_t effective, permitted, inheritable;
};

/* keyctl(2) */
enum { KERNEL_KEYCTL_JOIN_SESSION_KEYRING = 1, KERNEL_KEYCTL_SETPERM = 5 };

enum { KERNEL_DEVPTS_SUPER_MAGIC = 0x1cd1, KERNEL_PROC_SUPER_MAGIC = 0x9fa0, KERNEL_PROC_ROOT_INO = 1 };
enum { KERNEL_NSFS_MAGIC = 0x6e736673, KERNEL_NS_GET_NSTYPE = 0xb703, KERNEL_CLONE_NEWTIME = 0x80 };
#define KERNEL_TIOCSPTLCK  0x40045431
#define KERNEL_TIOCGPTPEER 0x5441

#endif
