/* SPDX-License-Identifier: Apache-2.0 */
/* The last steps: working directory, program, HOME, the start handshake, execve. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper.h"
#include "helper_kernel.h"

/* The name of a process that executed nothing yet; its zombie tells by it that no program ever ran. */
static const char reserved_name[] = "ocirun-init";

void run_enter_cwd(const struct enter_cwd_args *args) {
    int fd = open_in_root(args->path, O_PATH | O_DIRECTORY, 0);
    char cwd[PATH_MAX];

    if (fd < 0)
        fail_errno("openat2", args->path);
    if (fchdir(fd) < 0)
        fail_errno("fchdir", args->path);
    /* the kernel writes "(unreachable)" before a directory outside our root (CVE-2024-21626) */
    if (syscall(SYS_getcwd, cwd, sizeof cwd) < 0)
        fail_errno("getcwd", args->path);
    if (cwd[0] != '/')
        fail(EXDEV, "getcwd", args->path);
    close_fd(fd);
}

void run_set_umask(const struct set_umask_args *args) {
    umask(args->mask < 0 ? helper.umask : (mode_t)args->mask & 0777);
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
static int try_program(void) {
    struct stat facts;

    if (stat(program, &facts) < 0)
        return errno;
    if (!S_ISREG(facts.st_mode))
        return S_ISDIR(facts.st_mode) ? EISDIR : EACCES;
    if (syscall(SYS_faccessat2, AT_FDCWD, program, X_OK, AT_EACCESS) < 0)
        return errno;
    return 0;
}

/* The next entry of PATH with the name behind it; an empty one is the working directory.  Too long is
 * skipped. */
static bool next_candidate(const char **search, const char *name) {
    const char *entry = *search;
    size_t length = strcspn(entry, ":");

    *search = entry[length] ? entry + length + 1 : NULL;
    if (length + strlen(name) + 3 > sizeof program)
        return false;
    memcpy(program, length ? entry : ".", length ? length : 1);
    program[length ? length : 1] = '\0';
    append(program, sizeof program, "/");
    append(program, sizeof program, name);
    return true;
}

void run_find_program(const struct find_program_args *args) {
    char refused[PATH_MAX] = "";
    const char *search = args->search;
    int error = ENOENT;

    helper.program = program;
    if (strchr(args->name, '/')) {
        if (strlen(args->name) >= sizeof program)
            fail(ENAMETOOLONG, "find_program", args->name);
        strcpy(program, args->name);
        if ((error = try_program()))
            fail(error, "find_program", args->name);
        return;
    }
    while (*args->name && search) {
        if (!next_candidate(&search, args->name))
            continue;
        int refusal = try_program();
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

/* -- what the program must not inherit -- */

/* The descriptors of the handshake, as the await_start that lies ahead names them. */
static void find_handshake(int kept[static 2]) {
    uint32_t at = helper.at;
    union verb_args args;
    struct record record;

    while (plan_next(&helper.plan, &at, &record))
        if (record.verb == VERB_AWAIT_START && verb_decode(record.verb, &record.wire, &args)) {
            kept[0] = slot_fd(args.await_start.gate);
            kept[1] = slot_fd(args.await_start.proof);
        }
}

static void close_range_or_fail(unsigned first, unsigned last) {
    if (first <= last && syscall(SYS_close_range, first, last, 0) < 0)
        fail_errno("close_range", "");
}

void run_close_descriptors(const struct close_descriptors_args *args) {
    unsigned first = 3 + args->preserve;
    int kept[3] = {-1, -1, helper.control};

    find_handshake(kept);
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
    for (uint32_t slot = 0; slot < helper.plan.slots; slot++)
        if (helper.slots[slot] != kept[0] && helper.slots[slot] != kept[1])
            helper.slots[slot] = -1;
}

/* -- the handshake and the end of us -- */

void reset_signals(void) {
    char defaults[64] = {0}; /* larger than any kernel's struct sigaction; all zero is SIG_DFL */
    uint64_t none = 0;

    for (int signal = 1; signal <= 64; signal++)
        syscall(SYS_rt_sigaction, signal, defaults, NULL, sizeof none); /* refused for SIGKILL and SIGSTOP */
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

void run_await_start(const struct await_start_args *args) {
    int gate = slot_fd(args->gate);
    ssize_t got;
    char byte;

    slot_fd(args->proof);
    helper.proof = args->proof;
    if (prctl(PR_SET_NAME, reserved_name, 0, 0, 0) < 0)
        fail_errno("prctl", "PR_SET_NAME");
    report(REPORT_READY, 0, 0, "", "", NULL, 0);
    close_fd(helper.control);
    helper.control = -1;
    reset_signals(); /* as the program will find them; the first process of a pid namespace ignores defaults
                      */
    while ((got = read(gate, &byte, 1)) < 0 && errno == EINTR)
        continue;
    if (got != 1)
        _exit(1);
    close_slot(args->gate);
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
 * a start (write(2) is what every filter admits): the errno, then how the file begins, from which the
 * host tells a missing interpreter or a foreign architecture.  The errno goes first, for a filter of the
 * container may kill us for the rest. */
static _Noreturn void fail_exec(int proof, const char *path, int error) {
    char text[1 + sizeof error] = "E", head[1024];
    ssize_t length;
    int fd;

    memcpy(text + 1, &error, sizeof error);
    if (write(proof, text, sizeof text) < 0)
        _exit(126);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    length = fd < 0 ? 0 : read(fd, head, sizeof head);
    if (length > 0 && write(proof, head, (size_t)length) < 0)
        _exit(126);
    _exit(error == ENOENT ? 127 : 126);
}

void run_exec(const struct exec_args *args) {
    char **room = helper.pointers;
    char **argv = make_vector(&room, args->args, NULL);
    char **envp = make_vector(&room, args->env, helper.home);
    int proof = helper.control < 0 ? slot_fd(helper.proof) : helper.control;
    const char *path;

    if (prctl(PR_SET_NAME, reserved_name, 0, 0, 0) < 0)
        fail_errno("prctl", "PR_SET_NAME");
    reset_signals();
    if (write(proof, "R", 1) != 1)
        _exit(126);
    path = helper.program ? helper.program : argv[0];
    execve(path, argv, envp);
    fail_exec(proof, path, errno);
}
