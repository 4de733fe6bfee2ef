/* The launcher, and what is in it only where it is built as the shim (shim_stub.c). */

/* Hands start and delete to the zygote for programs of this directory: the exit status, or -1 where none took
 * the request and nothing was done yet. */
int ask_zygote(int argc, char **argv, const char *directory);
/* Whether a variable stays: a process that lives long must not carry containerd's secrets. */
int is_passed(const char *variable);
