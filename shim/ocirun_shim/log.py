"""The shim's own words, on standard error: containerd copies them from the bundle's ``log`` FIFO to its log.

The FIFO is open without blocking: when nobody reads it, because containerd is down, a line is dropped, for a
shim that waits for its log answers nobody.
"""

from __future__ import annotations

import os
import time
import traceback

_debugging = False


def write_to(fd: int) -> None:
    """Makes ``fd`` standard output and error, and closes it."""
    for target in (1, 2):
        os.dup2(fd, target)
    os.close(fd)


def set_debug(wanted: bool) -> None:
    """Whether ``debug`` says anything: containerd passes -debug when its own level is debug."""
    global _debugging  # noqa: PLW0603 - one process, one level
    _debugging = wanted


def debug(message: str) -> None:
    """What only somebody who looks for a fault wants to know."""
    if _debugging:
        _write("debug", message)


def warning(message: str) -> None:
    """Something was left out or lost, and the container goes on."""
    _write("warning", message)


def exception(message: str, error: BaseException) -> None:
    """A fault of ours, with its traceback."""
    _write("error", f"{message}: {''.join(traceback.format_exception(error))}")


def _write(level: str, message: str) -> None:
    """One line in the form that containerd's own log has (logfmt)."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    quoted = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    line = f'time="{when}" level={level} msg="{quoted}" runtime=ocirun\n'
    try:
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except OSError:
        return
