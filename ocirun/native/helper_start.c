/* SPDX-License-Identifier: Apache-2.0 */
/* The last steps: working directory, program, HOME, the start handshake, execve. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper.h"

/* The name of a process that executed nothing yet; its zombie tells by it that no program ever ran. */
static const char reserved_name[] = "ocirun-init";

void run_enter_cwd(const struct enter_cwd_args *args) {
    int fd = must(open_in_root(args->path, O_PATH | O_DIRECTORY, 0), "openat2", args->path);
    char cwd[PATH_MAX];

    must(fchdir(fd), "fchdir", args->path);
    /* the kernel writes "(unreachable)" before a directory outside our root (CVE-2024-21626) */
    must(syscall(SYS_getcwd, cwd, sizeof cwd), "getcwd", args->path);
    if (cwd[0] != '/')
        fail(EXDEV, "getcwd", args->path);
    close_fd(fd);
}

/* -- HOME -- */

enum { PASSWD_MAX = 1 << 20, FIELD_UID = 2, FIELD_HOME = 5 };

static char home[sizeof "HOME=" + PATH_MAX] = "HOME=/";

/* A row of passwd(5), read as it streams by: which field it is in, the uid so far, the length of the home. */
struct row {
    int field;
    uint64_t uid;
    bool uid_given, uid_valid;
    size_t home;
};

static const struct row new_row = {.uid_valid = true};

/* Takes one character of a row; true at the end of the row of this uid, whose home is then in text. */
static bool take_passwd(struct row *row, char c, uint32_t uid, char text[static PATH_MAX]) {
    if (c == '\n') {
        bool found = row->field >= FIELD_HOME && row->uid_given && row->uid_valid && row->uid == uid;
        text[row->home] = '\0';
        if (!found)
            *row = new_row;
        return found;
    }
    if (c == ':') {
        row->field++;
    } else if (row->field == FIELD_UID) {
        row->uid_given = true;
        row->uid_valid = row->uid_valid && c >= '0' && c <= '9' && row->uid < UINT32_MAX;
        row->uid = row->uid * 10 + (uint64_t)(c - '0');
    } else if (row->field == FIELD_HOME && row->home < PATH_MAX - 1) {
        text[row->home++] = c;
    }
    return false;
}

/* The file is the image's: it may be missing, a FIFO that never answers, or without end. */
static int open_passwd(void) {
    int fd = open_in_root("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    struct stat facts;

    if (fd >= 0 && (fstat(fd, &facts) < 0 || !S_ISREG(facts.st_mode))) {
        close_fd(fd);
        fd = -1;
    }
    return fd;
}

void run_find_home(const struct find_home_args *args) {
    char part[1024], text[PATH_MAX];
    struct row row = new_row;
    int fd = open_passwd();
    ssize_t got = 0;
    bool found = false;

    for (size_t all = 0; fd >= 0 && !found && all < PASSWD_MAX; all += (size_t)got) {
        got = read(fd, part, sizeof part);
        if (got <= 0) {
            found = take_passwd(&row, '\n', args->uid, text);
            break;
        }
        for (ssize_t i = 0; i < got && !found; i++)
            found = take_passwd(&row, part[i], args->uid, text);
    }
    close_fd(fd);
    if (found && text[0])
        strcpy(home + strlen("HOME="), text);
    helper.home = home;
}

/* -- the program -- */

static char program[PATH_MAX];

/* 0 when the program can be executed by whom we are now, else the errno. */
static int try_program(const char *path) {
    struct stat facts;

    if (stat(path, &facts) < 0)
        return errno;
    if (!S_ISREG(facts.st_mode))
        return S_ISDIR(facts.st_mode) ? EISDIR : EACCES;
    if (syscall(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
        return errno;
    return 0;
}

/* The next entry of PATH with the name behind it; an empty one is the working directory.  Too long is
 * skipped. */
static bool next_candidate(const char **search, const char *name) {
    const char *entry = *search;
    int length = (int)strcspn(entry, ":");

    *search = entry[length] ? entry + length + 1 : NULL;
    return snprintf(program, sizeof program, "%.*s/%s", length ? length : 1, length ? entry : ".", name) <
           (int)sizeof program;
}

static void find_program(const struct find_program_args *args) {
    char refused[PATH_MAX] = "";
    const char *search = args->search;
    int error = ENOENT;

    helper.program = strchr(args->name, '/') ? args->name : program;
    if (helper.program == args->name) {
        if ((error = try_program(args->name)))
            fail(error, "find_program", args->name);
        return;
    }
    while (*args->name && search) {
        if (!next_candidate(&search, args->name))
            continue;
        int refusal = try_program(program);
        if (!refusal)
            return;
        /* one that is there but may not be executed tells more than that there is none */
        if (refusal == EACCES && error == ENOENT) {
            error = EACCES;
            strcpy(refused, program);
        }
    }
    fail(error, "find_program", *refused ? refused : args->name);
}

/* Before we become the user, which a filter that may refuse the search makes us do late, he is stood in for
 * by the ids that files are judged by; the capabilities over files come and go with them (setfsuid(2)). */
void run_find_program(const struct find_program_args *args) {
    long gid = syscall(SYS_setfsgid, args->gid), uid = syscall(SYS_setfsuid, args->uid);

    find_program(args);
    syscall(SYS_setfsuid, uid);
    syscall(SYS_setfsgid, gid);
}

/* -- what the program must not inherit -- */

static void close_range_or_fail(unsigned first, unsigned last) {
    if (first <= last)
        must(syscall(SYS_close_range, first, last, 0), "close_range", "");
}

void run_close_descriptors(const struct close_descriptors_args *args) {
    unsigned first = 3 + args->preserve;
    /* exec has no handshake, but empty slots */
    int kept[3] = {helper.slots[args->gate], helper.slots[args->proof], helper.control};

    for (int i = 0; i < 3; i++) {
        int lowest = -1; /* of those kept that are not behind us */
        for (int j = 0; j < 3; j++)
            if (kept[j] >= (int)first && (lowest < 0 || kept[j] < lowest))
                lowest = kept[j];
        if (lowest < 0)
            break;
        close_range_or_fail(first, (unsigned)lowest - 1);
        first = (unsigned)lowest + 1;
    }
    close_range_or_fail(first, ~0U);
    helper.root = -1;
    memset(helper.slots, 0xff, helper.plan.slots * sizeof *helper.slots);
    helper.slots[args->gate] = kept[0];
    helper.slots[args->proof] = kept[1];
}

/* -- the handshake and the end of us -- */

void reset_signals(void) {
    char defaults[64] = {0}; /* larger than any kernel's struct sigaction; all zero is SIG_DFL */
    uint64_t none = 0;

    if (helper.filtered)
        return;
    for (int signal = 1; signal <= 64; signal++)
        syscall(SYS_rt_sigaction, signal, defaults, NULL, sizeof none); /* refused for SIGKILL and SIGSTOP */
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

static void reserve_name(void) {
    if (!helper.filtered)
        must(prctl(PR_SET_NAME, reserved_name, 0, 0, 0), "prctl", "PR_SET_NAME");
}

/* What the filter may refuse us, or kill us for, is done before it is there; what comes after, the linter
 * holds to the few calls that nobody can do without. */
void run_load_seccomp(const struct load_seccomp_args *args) {
    uint32_t size = args->program.length;
    int listener;
    struct sock_fprog program = {(uint16_t)(size / sizeof(struct sock_filter)), (void *)args->program.data};

    if (!size || size > BPF_MAXINSNS * sizeof(struct sock_filter) || size % sizeof(struct sock_filter))
        fail(EINVAL, "seccomp", "the program has no length that a filter can have");
    reserve_name();
    reset_signals();
    listener = must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, args->flags, &program), "seccomp",
                    "SECCOMP_SET_MODE_FILTER");
    helper.filtered = true;
    if (helper.listener)
        *helper.listener = listener;
}

void run_await_start(const struct await_start_args *args) {
    int gate = slot_fd(args->gate);

    slot_fd(args->proof);
    helper.proof = args->proof;
    reserve_name();
    report(REPORT_READY, 0, 0, "", "", NULL, 0);
    /* a filter may refuse close(2): then it is open until execve, as the gate always is */
    close_fd(helper.filtered ? -1 : helper.control);
    helper.control = -1;
    reset_signals(); /* as the program will find them; the first process of a pid namespace ignores defaults
                      */
    await_byte(gate);
    helper.gate = args->gate; /* still open: execve closes it, or fail_exec waits there */
}

char **make_vector(char ***room, struct wire_strs texts, const char *last) {
    char **vector = *room, **next = vector;

    while (texts.count)
        *next++ = (char *)wire_next(&texts);
    if (last)
        *next++ = (char *)last;
    *next++ = NULL;
    *room = next;
    return vector;
}

/* From here on the host hears us through the proof alone, which is the control socket where nobody waits for
 * a start (write(2) is what every filter admits): the errno, then how the file begins, from which the host
 * tells a missing interpreter or a foreign architecture.  The errno goes first, for a filter of the container
 * may kill us for the rest.  Then it looks at our root file system through us, until it writes to the gate or
 * hangs up. */
static _Noreturn void fail_exec(int proof, int gate, const char *path, int error) {
    char text[1 + sizeof error] = "E", head[1 + 1024] = "T";
    ssize_t length;
    int fd;

    memcpy(text + 1, &error, sizeof error);
    if (write(proof, text, sizeof text) < 0)
        leave(126);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    length = fd < 0 ? 0 : read(fd, head + 1, sizeof head - 1);
    close_fd(fd);
    if (write(proof, head, 1 + (size_t)(length > 0 ? length : 0)) < 0 || read(gate, head, 1) < 0)
        leave(126);
    leave(error == ENOENT ? 127 : 126);
}

void run_exec(const struct exec_args *args) {
    char **room = helper.pointers;
    char **argv = make_vector(&room, args->args, NULL);
    char **envp = make_vector(&room, args->env, helper.home);
    int proof = helper.control < 0 ? slot_fd(helper.proof) : helper.control;
    int gate = helper.control < 0 ? slot_fd(helper.gate) : helper.control;
    const char *path;

    reserve_name();
    reset_signals();
    if (write(proof, "R", 1) != 1)
        leave(126);
    path = helper.program ? helper.program : argv[0];
    execve(path, argv, envp);
    fail_exec(proof, gate, path, errno);
}
