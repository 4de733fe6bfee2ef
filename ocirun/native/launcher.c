/*
 * ocirun, the command: a static program that makes the process clean and becomes the Python beside it.  With
 * OCIRUN_CORE defined it has an interpreter in it, for the commands that must be fast (embed.c).  The same
 * with OCIRUN_SHIM defined is containerd-shim-ocirun-v2, which first asks the zygote (shim_stub.c).
 *
 * It takes no decision of its own and reads no file.  It finds itself by /proc/self/exe, never by argv[0], so
 * a relative path, a symbolic link and a strange working directory all lead to the same code; and it drops
 * the variables by which a loader or a library could be told to load other code into a process of root.
 */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* OCIRUN_BOOT: the script to run.  Relative paths count from the directory of this program. */
#ifndef OCIRUN_BOOT
#error "OCIRUN_BOOT is given by the build"
#endif

#define FIXED_ARGUMENTS 6

static int fail(const char *operation, const char *path) {
    dprintf(STDERR_FILENO, "ocirun: %s %s: %s\n", operation, path, strerror(errno));
    return 1;
}

/* A caller that ignores SIGCHLD would make our children vanish unreaped, and all three survive execve(2).
 * SIGINT waits: it would hit the interpreter while it starts, which answers with a traceback or goes on
 * without it.  boot.py lets it in. */
static void reset_signals(void) {
    sigset_t interrupt;

    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_SETMASK, &interrupt, NULL);
}

/* With 0, 1 or 2 closed, the next file we open would become somebody's standard output. */
static int fill_standard_descriptors(void) {
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return -1;
    return 0;
}

#ifndef OCIRUN_SHIM
/* Variables that make ld.so, iconv(3), locales or OpenSSL load code; python3 -I takes care of PYTHON*. */
static const char *const loading[] = {
    "LD_", "GCONV_PATH=", "LOCPATH=", "OPENSSL_CONF=", "OPENSSL_ENGINES=", "OPENSSL_MODULES=",
};

int is_passed(const char *variable) {
    for (size_t i = 0; i < sizeof(loading) / sizeof(loading[0]); i++)
        if (strncmp(variable, loading[i], strlen(loading[i])) == 0)
            return 0;
    return 1;
}
#endif

static void scrub_environment(void) {
    char **to = environ;

    for (char **from = environ; *from; from++)
        if (is_passed(*from))
            *to++ = *from;
    *to = NULL;
}

/* Writes "DIRECTORY/name" to path, where the first length bytes hold "DIRECTORY/"; an absolute name stands
 * alone. */
static int beside(char *path, size_t length, const char *name) {
    if (name[0] == '/')
        length = 0;
    if (length + strlen(name) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(path + length, name);
    return 0;
}

/* Puts the path of the directory of this program, with its last "/", into path: its length, or -1. */
static ssize_t own_directory(char path[PATH_MAX]) {
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);

    while (length > 0 && path[length - 1] != '/')
        length--;
    if (length >= 0)
        path[length] = '\0';
    return length;
}

static int become_python(int argc, char **argv, const char *directory, size_t length) {
    static char python[PATH_MAX], boot[PATH_MAX];
    char *arguments[FIXED_ARGUMENTS + (argc > 0 ? argc : 1) + 1];
    int count = 0;

    memcpy(python, directory, length);
    memcpy(boot, directory, length);
    if (beside(python, length, "python3") < 0 || beside(boot, length, OCIRUN_BOOT) < 0)
        return fail("find the files beside", directory);

    arguments[count++] = python;
    arguments[count++] = "-I"; /* no PYTHON* variable, no user directory, no current directory */
    arguments[count++] = "-S"; /* no site: it costs as much as all of create */
    arguments[count++] = "-X";
    arguments[count++] = "utf8"; /* or a path with an umlaut fails in the C locale */
    arguments[count++] = boot;
    for (int i = 1; i < argc; i++)
        arguments[count++] = argv[i];
    arguments[count] = NULL;
#ifdef OCIRUN_CORE
    const struct core_word *word = core_word(argc, argv);
    if (word)
        return run_core(arguments, word->plans);
#endif
    execv(python, arguments);
    return fail("execute the Python of its virtual environment,", python);
}

int main(int argc, char **argv) {
    static char directory[PATH_MAX];
    ssize_t length = own_directory(directory);

    reset_signals();
    scrub_environment();
    if (fill_standard_descriptors() < 0)
        return fail("open", "/dev/null");
    if (length < 0)
        return fail("readlink", "/proc/self/exe");
#ifdef OCIRUN_CORE
    if (argc == 2 && strcmp(argv[1], TAKE_SNAPSHOT) == 0 && !is_complete())
        return is_snapshot() ? list_written() : take_snapshot();
#endif
#ifdef OCIRUN_SHIM
    int status = ask_zygote(argc, argv, directory);
    if (status >= 0)
        return status;
#endif
    return become_python(argc, argv, directory, (size_t)length);
}
