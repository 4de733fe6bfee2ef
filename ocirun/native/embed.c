/*
 * The core interpreter inside the launcher: commands that are waited for in a loop run here, on frozen code.
 *
 * Only the core of CPython is initialised (PyConfig._init_main = 0): no encodings, no io, no path is searched
 * and no file read.  What the core lacks, and what our modules therefore do without, tests/unit/test_core.py
 * holds; every other command becomes python3 (launcher.c).
 */
#define _GNU_SOURCE
#include <Python.h>

#include "launcher.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* Makes the module _signal usable, which only the main phase does.  Hidden, therefore in the archive alone.
 */
extern int _PySignal_Init(int install_signal_handlers);
#if PY_VERSION_HEX >= 0x030d0000 /* so does UTF-8 since then, where it fails */
extern PyStatus _PyCodec_InitRegistry(PyInterpreterState *interpreter);
#else
#define _PyCodec_InitRegistry(interpreter) PyStatus_Ok()
#endif

/* Whether the sources of a checkout are those of the build still. */
static int is_fresh(void) {
    int root = open(core_root, O_PATH | O_CLOEXEC); /* "" where there are none: what is installed stays */
    struct stat now;

    for (const struct core_source *source = core_sources; source->path; source++)
        if (fstatat(root, source->path, &now, 0) < 0 || now.st_size != source->size ||
            now.st_mtim.tv_sec * 1000000000LL + now.st_mtim.tv_nsec != source->changed)
            return 0;
    return root < 0 || close(root) == 0;
}

/* A word that only looks like a command, the value of a flag or an argument, costs time alone: the command
 * line is read in Python. */
const struct core_word *core_word(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        for (const struct core_word *word = core_words; word->name; word++)
            if (strcmp(argv[i], word->name) == 0)
                return is_fresh() ? word : NULL;
    return NULL;
}

static PyStatus begin(int is_repeatable) {
    PyPreConfig before;
    PyConfig config;
    PyStatus status;

    PyPreConfig_InitIsolatedConfig(&before); /* no PYTHON* variable counts */
    before.utf8_mode = 1;                    /* or a path with an umlaut fails in the C locale */
    status = Py_PreInitialize(&before);
    if (PyStatus_Exception(status))
        return status;
    PyConfig_InitIsolatedConfig(&config);
    config._init_main = 0;
    config.site_import = config.install_signal_handlers = config.write_bytecode = config.parse_argv = 0;
    config.module_search_paths_set = config.use_frozen_modules = 1;
    config.program_name = config.executable = config.base_executable = config.prefix = config.base_prefix =
        config.exec_prefix = config.base_exec_prefix = config.stdlib_dir = config.platlibdir = L"";
    config.use_hash_seed = is_repeatable; /* with 0 */
    status = Py_InitializeFromConfig(&config);
    if (!PyStatus_Exception(status))
        status = _PyCodec_InitRegistry(PyInterpreterState_Get());
    if (!PyStatus_Exception(status) && _PySignal_Init(1) < 0)
        status = PyStatus_Error("the signals");
    return status;
}

static int set_texts(const char *name, char **texts) {
    PyObject *list = PyList_New(0);

    for (; list && *texts; texts++) {
        PyObject *text = PyUnicode_DecodeFSDefault(*texts);
        if (!text || PyList_Append(list, text) < 0)
            return -1;
        Py_DECREF(text);
    }
    return list ? PySys_SetObject(name, list) : -1;
}

int prepare_core(int is_repeatable) {
    PyStatus status = begin(is_repeatable);

    if (PyStatus_Exception(status))
        return dprintf(STDERR_FILENO, "ocirun: start the interpreter: %s\n", status.err_msg), -1;
    return PyImport_ImportModule("ocirun.core") ? 0 : -1;
}

/* With the words that python3 would have got from us, ocirun/core.py can become it after all. */
int run_core(char **words, int plans) {
    if ((is_snapshot() ? wake_snapshot(plans) : prepare_core(0)) < 0 || set_texts("orig_argv", words) < 0 ||
        set_texts("orig_environ", environ) < 0 ||
        !PyObject_CallMethod(PyImport_AddModule("ocirun.core"), "run", NULL))
        PyErr_Print();
    return 1; /* run() has ended the process */
}
