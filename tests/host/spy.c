/* SPDX-License-Identifier: Apache-2.0 */
/* A process inside a container that lies in wait for others: tells of every one what it can see of it. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static void show(const char *what, const char *path) {
    char target[512];
    ssize_t length = readlink(path, target, sizeof target - 1);

    if (length > 0)
        printf("%s %.*s\n", what, (int)length, target);
}

static void look(pid_t pid) {
    char path[64], exe[64];
    int traced;

    snprintf(exe, sizeof exe, "/proc/%d/exe", pid);
    show("exe", exe);
    for (int fd = 3; fd < 12; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
        show("fd", path);
    }
    traced = ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0;
    if (traced) {
        show("traced", exe);
        ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
        waitpid(pid, NULL, __WALL);
        ptrace(PTRACE_DETACH, pid, NULL, NULL);
    }
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    for (;;) {
        DIR *proc = opendir("/proc");
        const struct dirent *entry;
        while (proc && (entry = readdir(proc)))
            if (isdigit((unsigned char)entry->d_name[0]) && atoi(entry->d_name) != getpid())
                look((pid_t)atoi(entry->d_name));
        closedir(proc);
    }
}
