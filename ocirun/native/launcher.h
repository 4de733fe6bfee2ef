/* The launcher, and what is in it only where it is built as the shim (shim_stub.c) or around an interpreter
 * (embed.c). */

/* Hands start and delete to the zygote for programs of this directory: the exit status, or -1 where none took
 * the request and nothing was done yet. */
int ask_zygote(int argc, char **argv, const char *directory);
/* Whether a variable stays: a process that lives long must not carry containerd's secrets. */
int is_passed(const char *variable);

/* What freeze.py writes: the commands that run in the core interpreter, the modules that they may ever
 * import, and for a checkout the sources, with size and time of change in nanoseconds.  Each list ends with a
 * null. */
struct core_source {
    const char *path;
    long long size, changed;
};
struct core_word {
    const char *name; /* of a command */
    int plans;
};
extern const struct core_word core_words[];
extern const struct core_source core_sources[];
extern const char core_root[]; /* where their paths count from */

/* The command that is asked for, if the core interpreter knows it and has the code of the sources, or NULL.
 */
const struct core_word *core_word(int argc, char **argv);
/* Runs the command there; words are those that python3 would get.  Gives the status of a failed start. */
int run_core(char **words, int plans);
/* Starts the interpreter, as far as that needs no command: 0, or -1 with a Python exception or after it said
 * why.  A repeatable one hashes text as every other does (threat-model.md). */
int prepare_core(int is_repeatable);

/* The word that the build says to a program that has none yet (snapshot.py). */
#define TAKE_SNAPSHOT "--take-snapshot"

/* snapshot.c: writes the interpreter with all modules of the core to standard output, for snapshot.py. */
int take_snapshot(void);
/* Whether this program has such a snapshot in it, and whether it knows which pages of it are written to. */
int is_snapshot(void);
int is_complete(void);
/* Makes the interpreter in it one of this process, which will plan or not: 0, or -1 with a Python exception.
 */
int wake_snapshot(int plans);
/* What --take-snapshot is then: tells the build which pages a command writes to. */
int list_written(void);
