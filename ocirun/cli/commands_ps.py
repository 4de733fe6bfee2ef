"""``ocirun ps``."""

from __future__ import annotations

import os
import shutil
import subprocess

from ocirun.cgroup.files import processes
from ocirun.cli.output import write
from ocirun.cli.where import store_of
from ocirun.errors import HostError, UsageError
from ocirun.files import read_file
from ocirun.jsontext import dumps
from ocirun.lifecycle.members import members
from ocirun.lifecycle.state import entries_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Prints the processes of a container, all that its cgroup holds; without one, its pid namespace."""
    container, *options = invocation.arguments
    entries = entries_of(store_of(invocation), container)
    pids = processes(entries.cgroup) if entries.cgroup else members(entries)
    if invocation.text("format") == "json":
        write(dumps(pids) + "\n")
    elif shutil.which("ps"):
        write(selected(_of_ps(options or ["-ef"]), pids))
    elif options:
        raise HostError(
            "ps(1) is not installed, so there are no options for it", hint="leave them out: the table is ours"
        )
    else:
        write(own_table(pids))
    return 0


def selected(table: str, pids: Collection[int]) -> str:
    """The head of a table of ps(1) and its lines about ``pids``; raises UsageError without a column PID."""
    head, *lines = table.splitlines()
    columns = head.split()
    if "PID" not in columns:
        raise UsageError(f"the output of ps(1) has no column PID: {head}", hint="let its options name pid")
    at = columns.index("PID")
    wanted = {str(pid) for pid in pids}
    kept = [line for line in lines if line.split()[at : at + 1] and line.split()[at] in wanted]
    return "".join(f"{line}\n" for line in (head, *kept))


def _of_ps(options: Sequence[str]) -> str:
    done = subprocess.run(
        ["ps", *options], capture_output=True, check=False, encoding="utf-8", errors="surrogateescape"
    )
    if done.returncode or not done.stdout:
        raise UsageError(f"ps {' '.join(options)}: {done.stderr.strip() or 'prints nothing'}")
    return done.stdout


def own_table(pids: Sequence[int]) -> str:
    """User, pid, parent, CPU time and command line of each process, from /proc (proc_pid_stat(5))."""
    rows = ["UID          PID    PPID     TIME CMD"]
    for pid in pids:
        try:
            rows.append(_row(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return "".join(f"{row}\n" for row in rows)


def _row(pid: int) -> str:
    head, _, tail = read_file(f"/proc/{pid}/stat").rpartition(b")")
    fields = tail.split()  # from the third on, the state: the parent is the fourth, 14 and 15 are the times
    seconds = (int(fields[11]) + int(fields[12])) // os.sysconf("SC_CLK_TCK")
    words = read_file(f"/proc/{pid}/cmdline").rstrip(b"\0").replace(b"\0", b" ")
    told = (words or b"[%b]" % head.partition(b"(")[2]).decode("utf-8", "surrogateescape")
    line = "".join(character if character.isprintable() else "?" for character in told)
    spent = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{os.stat(f'/proc/{pid}').st_uid:<8} {pid:>7} {int(fields[1]):>7} {spent} {line}"
