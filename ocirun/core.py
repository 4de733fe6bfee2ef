"""The first Python of a command in the launcher's own interpreter (native/embed.c), as boot.py elsewhere.

No module is found here but those that were frozen into the launcher, and what the main phase of the start
would have made is missing: the standard streams, ``open``, ``print`` and most codecs.
"""

from __future__ import annotations

import gc
import posix as os
import sys

import ocirun

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any, NoReturn

    _imp: Any
else:
    import _imp
    import _signal

#: What stands before our words on the command line of python3 (launcher.c): python3 -I -S -X utf8 boot.py
_BEFORE = 5
_PAGE = 4096


class _Errors:
    """Standard error for a traceback; everything else writes to the descriptor itself."""

    def write(self, text: str) -> None:
        """Writes at once, as far as that is possible."""
        os.write(2, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Nothing is kept back."""


def settle() -> None:
    """Does what the main phase of a start would have done, before any other module of ours runs."""
    if sys.version_info >= (3, 13):  # those before import it when they need it
        import encodings  # noqa: F401
    gc.set_threshold(50_000)  # a command makes some thousand objects, and keeps nearly all of them
    sys.stdin = sys.stdout = None
    sys.stderr = _Errors()


def rest() -> None:
    """Before a snapshot is taken: all is imported, and no collection shall write into what commands share."""
    __import__("ocirun.cli.commands_run")  # what most commands need lies together, on fewer pages
    for name in _imp._frozen_module_names():  # noqa: SLF001 - nothing else lists them
        if name.startswith("ocirun"):
            __import__(name)
    from ocirun.rehearsal import rehearse

    rehearse()
    os.environ.clear()  # what the build has set (snapshot.py)
    gc.collect()
    gc.freeze()


def list_written(table: int, begin: int, end: int) -> None:
    """Tells the build where its ``table`` is to be, and what of the snapshot is written to (snapshot.py).

    That is a word for each page (proc_pid_pagemap(5)), twice: after a command, and after planning too.
    """
    from ocirun.cli.main import execute
    from ocirun.rehearsal import rehearse

    os.write(1, table.to_bytes(8, sys.byteorder) + begin.to_bytes(8, sys.byteorder))
    execute(["--root", "/nonexistent", "state", "rehearsal"])
    _write_pages(begin, end)
    rehearse(1)
    _write_pages(begin, end)


def _write_pages(begin: int, end: int) -> None:
    handle = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    os.write(1, os.pread(handle, (end - begin) // _PAGE * 8, begin // _PAGE * 8))
    os.close(handle)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _take_words() -> None:
    """Our place, the words and the variables of this process: a snapshot knows none of them."""
    for variable in vars(sys)["orig_environ"]:
        name, equals, value = variable.partition("=")
        if equals:
            os.environ.setdefault(_raw(name), _raw(value))
    sys.executable = sys.orig_argv[0]
    sys.argv = sys.orig_argv[_BEFORE:]
    ocirun.__path__ = [sys.argv[0].rpartition("/")[0]]
    if _signal.getsignal(2) is _signal.default_int_handler:
        _signal.signal(2, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def run() -> NoReturn:
    """Does the command and ends the process."""
    from ocirun import full
    from ocirun.cli.main import main

    _take_words()
    full.in_core = True
    if _forbids_executable_memfds():
        full.become_full()
    main()


def _forbids_executable_memfds() -> bool:
    """Whether the helper needs its second best home (executor/detached.py), whose ctypes we have not."""
    try:
        fd = os.open("/proc/sys/vm/memfd_noexec", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # before Linux 6.3, or no descriptor is free: then the command itself says so
        return False
    try:
        return os.read(fd, 1) == b"2"
    finally:
        os.close(fd)


settle()
