"""More processes in a container, made with the command exec of any runtime."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.host import observe

if TYPE_CHECKING:
    from tests.host.bundles import Json
    from tests.host.runtimes import Container, Result

PATH = "PATH=/bin"
#: The exit status of an exec that failed itself, as with runc; crun has 1, or 255 from inside.
FAILURES = (255, 1)


def execute(
    container: Container,
    *words: str,
    flags: tuple[str, ...] = (),
    stdin: int | IO[bytes] = subprocess.DEVNULL,
) -> Result:
    """Executes a program and waits for its end."""
    return container.runtime.call("exec", *flags, container.id, *words, stdin=stdin)


def detached(container: Container, *words: str, flags: tuple[str, ...] = ()) -> int:
    """Executes a program that goes on; gives its pid.  It ends with the container."""
    pid_file = container.runtime.file("exec-pid")
    execute(container, *words, flags=("--detach", "--pid-file", str(pid_file), *flags)).ok()
    container.executed.append(int(pid_file.read_text()))
    return container.executed[-1]


def sleeping(container: Container, *flags: str) -> int:
    """Executes a program that does nothing; gives its pid when it is that program."""
    pid = detached(container, "sleep", "1000", flags=flags)
    return settled(pid)


def settled(pid: int, program: str = "sleep") -> int:
    """Waits until the process is what it was to become: the peers tell of it earlier."""
    observe.eventually(lambda: observe.words(pid, "cmdline")[:1] == [program], f"{pid} runs {program}")
    return pid


def process(container: Container, *args: str, **members: Json) -> Path:
    """A file with a Process object; without other members it is root's, in / with a PATH."""
    value: dict[str, Json] = {
        "args": [*args], "cwd": "/", "env": [PATH], "user": {"uid": 0, "gid": 0}, **members,
    }  # fmt: skip
    path = container.runtime.file("process")
    path.write_text(json.dumps(value))
    return path


def by_file(container: Container, *args: str, **members: Json) -> int:
    """Executes a sleeping Process object, detached; gives its pid."""
    path = process(container, *(args or ("sleep", "1000")), **members)
    return settled(detached(container, flags=("--process", str(path))))


def members_of(container: Container) -> set[int]:
    """The processes in the cgroup of the container, seen from the host."""
    text = _cgroup_procs(container).read_text()
    return {int(pid) for pid in text.split()}


def _cgroup_procs(container: Container) -> Path:
    # the last is the one that the view puts over what is there
    mount = [mount for mount in observe.mounts() if mount.kind == "cgroup2" and mount.root == "/"][-1]
    return Path(mount.point) / observe.cgroup(container.pid).lstrip("/") / "cgroup.procs"


def cgroup_file(container: Container, name: str) -> Path:
    """A file of the container's cgroup."""
    return _cgroup_procs(container).with_name(name)
