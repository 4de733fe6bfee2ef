/* The launcher, and what it asks for where it is built as the shim. */
#ifndef OCIRUN_LAUNCHER_H
#define OCIRUN_LAUNCHER_H

/* Hands start and delete to the zygote that waits for programs of this directory: the exit status, or -1
 * where none took the request and nothing was done yet. */
int ask_zygote(int argc, char **argv, const char *directory);

/* Whether the shim keeps this variable: a process that lives long must not carry containerd's secrets. */
int is_passed(const char *variable);

/* Writes text to standard error. */
void say(const char *text);

#endif
