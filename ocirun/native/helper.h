/* SPDX-License-Identifier: Apache-2.0 */
/* The helper: runs the records of a plan, first outside the container (stage), then inside (init).
 *
 * It is fork-like all the way: init goes on where clone3 returned, with the descriptors and the memory of the
 * stage.  Nothing is allocated but one arena, nothing is decided but what only the root file system can tell.
 */
#ifndef OCIRUN_HELPER_H
#define OCIRUN_HELPER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "verbs.h"

enum report_kind {
    REPORT_BORN = 1,
    REPORT_FAILED = 2,
    REPORT_MEET = 3,
    REPORT_READY = 4,
    REPORT_WARNING = 5,
    REPORT_DONE = 6,
    REPORT_LISTENER = 7,
};

extern struct helper {
    struct plan plan;
    uint32_t at;         /* where the next record begins */
    uint32_t step;       /* the step that is being performed */
    int *slots;          /* descriptor of each slot, -1 where it has none */
    char **pointers;     /* the arena: room for the argument and environment vectors */
    int control;         /* the socket to the host, -1 after READY */
    int root;            /* the root file system of the container, -1 before attach_root */
    mode_t umask;        /* the one the caller had */
    const char *home;    /* "HOME=…" as find_home found it, or NULL */
    const char *program; /* what find_program found, or NULL */
    /* what clone_init writes for init, and the slot of the procfs to write it to; NULL without mappings */
    const char *uid_map, *gid_map;
    uint32_t proc;
    /* shared with stage: the descriptor that its filter gave init, 0 before; NULL where nobody waits for it
     */
    _Atomic int *listener;
    uint32_t gate, proof; /* the slots of the FIFOs of the start */
    bool filtered;        /* whether the system calls of the container's filter are all we have */
} helper;

/* -- helper_report.c: what the host is told -- */
void report(enum report_kind kind, int error, uint32_t value, const char *operation, const char *path,
            const int *fds, uint32_t fd_count);
/* The step failed: tells the host which, errno (as given), what refused and on which path, waits until it has
 * looked for the cause, and ends. */
_Noreturn void fail(int error, const char *operation, const char *path);
/* The same after a system call, with errno. */
_Noreturn void fail_errno(const char *operation, const char *path);
/* Ends the process, whatever a filter has against it. */
_Noreturn void leave(int status);
/* Waits for a byte of whoever lets us go on; we end with him. */
void await_byte(int fd);
/* A system call that has to succeed, by what it gave, which it gives on. */
int must(long result, const char *operation, const char *path);
void warn(int error, const char *operation, const char *path);
/* Milliseconds of a clock that only goes on. */
int64_t now_ms(void);
/* Appends to a text of size bytes, cut where it is full. */
void append(char *text, size_t size, const char *more);
/* Gives a slot its descriptor; takes the one it has, or fails when it has none. */
void fill_slot(uint32_t slot, int fd);
int slot_fd(uint32_t slot);
void close_fd(int fd);
void close_slot(uint32_t slot);

/* -- helper_path.c: every path in the root file system, law 2 -- */
/* openat2 below the root, resolved as if it were "/": a descriptor (close-on-exec), or -1 and errno. */
int open_in_root(const char *path, uint64_t flags, uint64_t resolve);
/* The same below another directory, as if that were "/". */
int open_within(int root, const char *path, uint64_t flags, uint64_t resolve);
/* openat2 of a name below a directory that is open already, never following a link nor leaving it. */
int open_beneath(int directory, const char *name, uint64_t flags);
/* openat2 below the root of a kernel file system, following no link and into nothing that is mounted there.
 */
int open_in_kernel(int proc, const char *path, uint64_t flags);
/* O_PATH descriptor of a directory (kind S_IFDIR) or file (S_IFREG), made with this mode if missing, as are
 * the directories above it; -1 and errno.  plain refuses symbolic links. */
int make_in_root(const char *path, mode_t kind, mode_t mode, bool plain);
/* O_PATH descriptor of the directory that holds path, made if missing, and its last name; -1 and errno. plain
 * refuses symbolic links. */
int make_parent(const char *path, const char **name, bool plain);

/* -- helper_mount.c: the mount calls, descriptor in and descriptor out -- */
/* A detached copy of the mounts at a descriptor, with AT_RECURSIVE of those below, too. */
int clone_tree(int fd, const char *path, unsigned flags);
void set_attributes(int mount, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation,
                    const char *path);
void move_onto(int mount, int target, const char *path);

/* -- helper_device.c -- */
/* Makes a symbolic link, but for one like it that is there.  plain refuses links on the way, and takes
 * another link or a device away. */
void make_link(const char *target, const char *path, bool plain);

/* -- helper_copy.c -- */
/* Copies what is in one directory, at this depth, into another, which is empty and nobody else's. */
void copy_directory(int from, int to, int depth);

/* -- helper_proc.c: what is written to the procfs in a slot -- */
/* One write; what names the file in an error. */
void write_proc(uint32_t proc, const char *path, const char *text, const char *what);
/* The same to a file of our own process. */
void write_own(uint32_t proc, const char *file, const char *text);
/* "PID/file" of ourselves, by the number that this procfs knows us under. */
void own_path(uint32_t proc, const char *file, char path[static NAME_MAX]);
/* The mappings of a child that is in a new user namespace. */
void write_id_maps(uint32_t proc, pid_t pid, const char *uids, const char *gids);
/* A namespace of a process, of ourselves for 0, by its name in /proc/PID/ns. */
int open_namespace_of(uint32_t proc, pid_t pid, const char *name);

/* -- helper_start.c -- */
/* Every signal at its default and none blocked, as execve must find them; under a filter they are already. */
void reset_signals(void);
/* A vector for execve out of room, which moves on behind it; last goes behind the texts unless it is NULL. */
char **make_vector(char ***room, struct wire_strs texts, const char *last);

#endif
