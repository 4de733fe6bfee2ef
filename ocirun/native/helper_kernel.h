/* SPDX-License-Identifier: Apache-2.0 */
/* What we need of the kernel and no header has that we can use: the C libraries of Debian 12 know no id of a
 * mount (musl 1.2.3), and sys/mount.h (glibc 2.36) fights with linux/mount.h.
 */
#ifndef OCIRUN_HELPER_KERNEL_H
#define OCIRUN_HELPER_KERNEL_H

#include <stdint.h>
#include <sys/syscall.h>

/* statx(2): only mode, inode and the id of the mount are of interest, the rest keeps its place. */
enum { KERNEL_STATX_WANTED = 0x3 | 0x100 | 0x1000 };
struct kernel_statx {
    uint8_t before[0x1c];
    uint16_t mode, spare;
    uint64_t inode;
    uint8_t between[0x90 - 0x28];
    uint64_t mount_id;
    uint8_t after[0x100 - 0x98];
};

enum { KERNEL_MNT_DETACH = 2, KERNEL_UMOUNT_NOFOLLOW = 8 };
enum { KERNEL_MFD_NOEXEC_SEAL = 8, KERNEL_PROC_ROOT_INO = 1 };

#endif
