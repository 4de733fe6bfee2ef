"""Process 1 of a private environment: it arranges the mounts, adopts and reaps orphans, and waits.

Its caller gives it namespaces of its own (mount, pid, net) and a pipe as standard input.  It says the number
that its caller's /proc has for it, and once the pipe is closed, by will or by death, it returns; then the
kernel kills whatever else is in the pid namespace (pid_namespaces(7)), and nothing survives.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

CGROUP = "/sys/fs/cgroup"


def private(*command: str) -> tuple[str, ...]:
    """The command line that runs this file as process 1 of new namespaces, and there ``command`` if any."""
    namespaces = ("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--")
    return (*namespaces, sys.executable, "-I", "-S", __file__, *command)


def run(*command: str) -> int:
    """Runs a command in new namespaces and gives its status; Ctrl-C is for the command, which cleans up."""
    process = subprocess.Popen(private(*command))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return process.wait()


def main() -> None:
    """Prints the host's number of this process when all is ready; returns at the end of standard input.

    With arguments it runs them as a command instead, and ends with its status.
    """
    number = os.readlink("/proc/self")  # still the /proc of our caller
    _arrange()
    if sys.argv[1:]:
        sys.exit(_run(sys.argv[1:]))
    signal.signal(signal.SIGCHLD, _reap)
    print(number, flush=True)
    while os.read(0, 4096):
        pass


def _run(command: list[str]) -> int:
    process = subprocess.Popen(command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of us, and we are the last
    while True:
        pid, status = os.wait()  # orphans are reaped on the way
        if pid == process.pid:
            return os.waitstatus_to_exitcode(status)


def _arrange() -> None:
    found = _cgroup2()
    # Runtimes look for cgroup2 here; a hybrid host has it beside the old hierarchies.
    if found is None:
        _mount("-t", "cgroup2", "cgroup2", CGROUP)
    elif found != CGROUP:
        _mount("--bind", found, CGROUP)
    _mount("-t", "proc", "proc", "/proc")
    # dev: containers' devices are bound from their root file systems, which lie here.
    _mount("-t", "tmpfs", "-o", "mode=755,dev,exec", "tmpfs", "/run")
    Path("/run/tmp").mkdir(mode=0o1777)


def _cgroup2() -> str | None:
    """Where cgroup2 is mounted: at its usual place, if there too, where it may cover the others."""
    found: list[str] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        if tail.startswith("cgroup2 "):
            found.append(head.split()[4])
    return CGROUP if CGROUP in found else next(iter(found), None)


def _mount(*words: str) -> None:
    subprocess.run(("mount", *words), check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=30)


def _reap(_signum: int, _frame: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


if __name__ == "__main__":
    main()
