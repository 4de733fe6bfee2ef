/*
 * The start of the interpreter and the import of all its modules, done once, when the launcher is built.
 *
 * The build runs the linked program, which starts its interpreter and writes out what that has written into
 * its memory: the variables of libpython (snapshot.ld lays them together) and all that was allocated, which
 * comes from an array in the program itself.  snapshot.py puts it into the program as the initial value of
 * the same variables.  The program has fixed addresses, so every pointer holds again: a command begins as the
 * child of a fork that happened at build time.  What is left to do is what a child has to do, and what
 * belongs to one process: its thread, its environment, its signals.
 *
 * Nothing of the C library is in it, and nothing of it may point there, or be of one process alone:
 * snapshot.py takes two and compares every word.
 */
#define _GNU_SOURCE
#define Py_BUILD_CORE 1 /* for _PyRuntime */
#include <Python.h>

#include <internal/pycore_runtime.h>

#include "launcher.h"

#include <signal.h>
#include <sys/mman.h>

#if PY_VERSION_HEX >= 0x030c0000
#define CURRENT_THREAD _PyRuntime.autoTSSkey
#else
#define CURRENT_THREAD _PyRuntime.gilstate.autoTSSkey
#endif

#define IN_SNAPSHOT __attribute__((section(".data.snapshot")))
#define PAGE        4096
#define RANGES      160
#define HEADER      16 /* before each block, and what malloc(3) aligns to */

/* Kept without a value, therefore no part of the file until the build has put one there. */
static char room[16 << 20] __attribute__((section(".snapshot_room"), aligned(PAGE)));
static IN_SNAPSHOT char *free_room = room;
static IN_SNAPSHOT PyThreadState *thread; /* the only one; known in a snapshot alone */
static int is_taking;

/* Where commands write, as the build has seen (snapshot.py): all of them, and those that plan. */
static IN_SNAPSHOT struct {
    uintptr_t start, length;
} written[2][RANGES];
extern char snapshot_begin[], snapshot_end[]; /* snapshot.ld */

/* The linker makes every call of malloc(3) and its like one of these (--wrap): libpython allocates some of
 * its state before it can be told to allocate elsewhere.  What is in the room is never given back. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *block);

static int is_in_room(const void *block) {
    return (const char *)block >= room && (const char *)block < room + sizeof room;
}

/* The size stands before each block. */
static void *take_room(size_t size, size_t alignment) {
    char *block = (char *)(((uintptr_t)free_room + HEADER + alignment - 1) & -alignment);

    if (size > (size_t)(room + sizeof room - block))
        return NULL;
    ((size_t *)block)[-1] = size + !size;
    free_room = block + size;
    return block;
}

void *__wrap_malloc(size_t size) {
    return is_taking ? take_room(size, HEADER) : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return is_taking ? take_room(count * size, HEADER) : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size) {
    size_t had = is_in_room(old) ? ((size_t *)old)[-1] : 0;

    if (!had && (old || !is_taking))
        return __real_realloc(old, size);
    void *block = size <= had ? old : __wrap_malloc(size);
    return block && block != old ? memcpy(block, old, had) : block;
}

void __wrap_free(void *block) {
    if (!is_in_room(block))
        __real_free(block);
}

/* The id of a thread is an address of the C library, and numbers that are dead keep it. */
pthread_t __real_pthread_self(void);

pthread_t __wrap_pthread_self(void) {
    return is_taking ? 1 : __real_pthread_self();
}

/* What small objects lie in, and the stacks of frames. */
static void *take_arena(void *context, size_t size) {
    (void)context;
    return take_room(size, PAGE);
}

static void keep_arena(void *context, void *arena, size_t size) {
    (void)context, (void)arena, (void)size;
}

static void set_thread(unsigned long id, unsigned long native_id) {
    _PyRuntime.main_thread = thread->thread_id = id;
    thread->native_thread_id = native_id;
}

/* What the build ignores is of no interest. */
static void forget_signals(void) {
    for (int number = 1; number <= SIGRTMAX; number++)
        signal(number, SIG_DFL);
}

int take_snapshot(void) {
    PyObjectArenaAllocator usual, kept = {NULL, take_arena, keep_arena};

    forget_signals();
    is_taking = 1;
    PyObject_GetArenaAllocator(&usual);
    PyObject_SetArenaAllocator(&kept);
    if (prepare_core(1) < 0 || !PyObject_CallMethod(PyImport_AddModule("ocirun.core"), "rest", NULL)) {
        PyErr_Print();
        return 1;
    }
    PyObject_SetArenaAllocator(&usual); /* it may unmap what is in the room */
    thread = PyEval_SaveThread();
    memset(thread->datastack_top, 0,
           (size_t)((char *)thread->datastack_limit - (char *)thread->datastack_top));
    PyThread_tss_delete(&CURRENT_THREAD);
    set_thread(0, 0);
    is_taking = 0;
    const uintptr_t bounds[] = {(uintptr_t)snapshot_begin, (uintptr_t)snapshot_end, (uintptr_t)room,
                                (uintptr_t)free_room, __real_pthread_self()};
    fwrite(bounds, sizeof bounds, 1, stdout);
    fwrite(snapshot_begin, (size_t)(snapshot_end - snapshot_begin), 1, stdout);
    fwrite(room, (size_t)(free_room - room), 1, stdout);
    return fflush(stdout);
}

int is_snapshot(void) {
    return thread != NULL;
}

int is_complete(void) {
    return written[0][0].length != 0;
}

/* As the start of the interpreter does; what the caller ignores, the module signal must know. */
static int set_signals(void) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    for (int number = 1; number <= SIGRTMAX; number++)
        if (PyOS_getsig(number) == SIG_IGN &&
            !PyObject_CallMethod(PyImport_AddModule("_signal"), "signal", "ii", number, 1))
            return -1;
    return 0;
}

/* Each page would be copied in a fault of its own, which costs more than the copy. */
static void copy_pages(int which) {
    for (int i = 0; i < RANGES && written[which][i].length; i++)
        if (madvise((void *)written[which][i].start, written[which][i].length, MADV_POPULATE_WRITE) < 0)
            return; /* before Linux 5.14; the faults do it */
}

int list_written(void) {
    forget_signals();
    if (wake_snapshot(0) < 0 ||
        !PyObject_CallMethod(PyImport_AddModule("ocirun.core"), "list_written", "KKK", (uintptr_t)written,
                             (uintptr_t)snapshot_begin, (uintptr_t)free_room))
        return PyErr_Print(), 1;
    return 0;
}

int wake_snapshot(int plans) {
    copy_pages(0);
    if (plans)
        copy_pages(1);
    set_thread(PyThread_get_thread_ident(), PyThread_get_thread_native_id());
    if (PyThread_tss_create(&CURRENT_THREAD) < 0 || PyThread_tss_set(&CURRENT_THREAD, thread) < 0)
        return -1;
    PyEval_RestoreThread(thread);
    return set_signals();
}
