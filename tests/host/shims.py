"""Running the shim's program by hand, as containerd does, on a /run of one's own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ocirun_shim.messages.task_pb2 import ConnectRequest, ConnectResponse, DeleteResponse

from conformance.ttrpc import Client
from tests.host import kernel, observe

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

SHIM = Path(sys.executable).parent / "containerd-shim-ocirun-v2"
RUN = Path("/run")
CONTAINERD = "/run/containerd/containerd.sock"
SOCKETS = RUN / "containerd/s"
ZYGOTES = RUN / "ocirun-shim"
NAMESPACE = "ns"
TIMEOUT = 30.0
NAMES = ("containerd-shim", "ocirun-worker", "ocirun-zygote", "ocirun-nursery")
TASK = "containerd.task.v3.Task"
#: In the command line of what was forked from a `start` without a zygote, and has perhaps no name yet.
FORKED = ("/ocirun_shim/boot.py", "containerd-shim-ocirun-v2 -namespace ")


def command(container: str, *action: str, flags: Sequence[str] = ()) -> list[str]:
    """The command line that containerd would execute."""
    common = [
        "-namespace",
        NAMESPACE,
        "-address",
        CONTAINERD,
        "-publish-binary",
        "/nowhere",
        "-id",
        container,
    ]
    return [str(SHIM), *common, *flags, *action]


def address_of(group: str, directory: Path = SOCKETS) -> str:
    """The address by containerd's recipe."""
    digest = hashlib.sha256(f"{CONTAINERD}/{NAMESPACE}/{group}".encode()).hexdigest()
    return f"unix://{directory}/{digest}"


class Shims:
    """Bundles below ``scratch``, and the shims started in them, by a command behind ``prefix``."""

    def __init__(self, scratch: Path, prefix: Sequence[str] = ()) -> None:
        self.scratch = scratch
        self.prefix = prefix

    def bundle(self, container: str, config: object = None) -> Path:
        """The bundle of ``container``, as containerd makes it: with a log FIFO, and config.json if given."""
        path = self.scratch / "bundles" / container
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "log").exists():
            os.mkfifo(path / "log")
        if config is not None:
            (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        return path

    def popen(
        self, container: str, *action: str, flags: Sequence[str] = (), prefix: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Starts the program in the bundle, with pipes."""
        return subprocess.Popen(
            [*self.prefix, *prefix, *command(container, *action, flags=flags)],
            cwd=self.bundle(container),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )

    def start(
        self, container: str, stdin: bytes = b"", *, flags: Sequence[str] = (), prefix: Sequence[str] = ()
    ) -> dict[str, object]:
        """What `start` answers; it must succeed, and say nothing on standard error."""
        with self.popen(container, "start", flags=flags, prefix=prefix) as process:
            out, err = process.communicate(stdin, TIMEOUT)
        assert (process.returncode, err) == (0, b"")
        return parsed(out)

    def delete(self, container: str) -> DeleteResponse:
        """What `delete` answers; it must succeed."""
        bundle = self.scratch / "bundles" / container
        process = subprocess.run(
            [*self.prefix, *command(container, "delete", flags=("-bundle", str(bundle)))],
            cwd=bundle if bundle.exists() else self.scratch,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert (process.returncode, process.stderr) == (0, b"")
        return DeleteResponse.FromString(process.stdout)


def parsed(answer: bytes) -> dict[str, object]:
    """An answer of `start` as containerd understands it: JSON, or an address alone, which means version 2."""
    if not answer.startswith(b"{"):
        return {"version": 2, "address": answer.decode(), "protocol": "ttrpc"}
    found: dict[str, object] = json.loads(answer)
    return found


def listeners(container: str) -> list[int]:
    """The pids of the shims that were started for ``container``, by their command lines."""
    found: list[int] = []
    for pid in processes("containerd-shim"):
        title = " ".join(observe.words(pid, "cmdline"))  # one that has just ended has none
        if title.split()[3:5] == ["-id", container]:
            found.append(pid)
    return found


def only(find: Callable[[], list[int]], meaning: str) -> int:
    """Waits until ``find`` gives one pid alone: whoever is forked has the name of its parent for a moment."""
    found: list[int] = []

    def alone() -> bool:
        found[:] = find()
        return len(found) == 1

    observe.eventually(alone, meaning)
    return found[0]


def the_shim(container: str) -> int:
    """The pid of the only shim that was started for ``container``, once it has its name."""
    return only(lambda: listeners(container), f"there is one shim of {container}")


@contextlib.contextmanager
def woken(container: str) -> Generator[int]:
    """The pid of the worker of the shim that was started for ``container``, and has answered something."""
    shim = the_shim(container)
    address = (Path(f"/proc/{shim}/cwd") / "address").read_text().removeprefix("unix://")
    with Client(address, timeout=TIMEOUT) as client:
        client.call(TASK, "Connect", ConnectRequest(id=container), ConnectResponse)
        yield only(lambda: workers(shim), f"the shim of {container} is awake")


def workers(shim: int) -> list[int]:
    """The worker of a shim, as a list: it has none while it rests."""
    found: list[int] = []
    for pid in processes("ocirun-worker"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if observe.status(pid)["PPid"] == str(shim):
                found.append(pid)
    return found


def private_memory(pid: int) -> int:
    """The kibibytes that a process has written to and shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("Private_Dirty:")]
    return int(line.split()[1])


def expect(count: int) -> None:
    """Waits until there are so many shims; a new one gets its name after `start` has answered."""
    observe.eventually(lambda: len(processes("containerd-shim")) == count, f"there are {count} shims")


def the_zygote() -> int:
    """The pid of the only zygote."""
    return only(lambda: processes("ocirun-zygote"), "there is one zygote")


def processes(name: str) -> list[int]:
    """The living processes below us whose comm begins with ``name``, in our own pid namespace."""
    found: list[int] = []
    ours = Path("/proc/self/ns/pid").stat()
    for pid in sorted(observe.descendants(os.getpid())):
        with contextlib.suppress(OSError):
            named = Path(f"/proc/{pid}/comm").read_text().startswith(name)
            if named and observe.alive(pid) and os.path.samestat(Path(f"/proc/{pid}/ns/pid").stat(), ours):
                found.append(pid)
    return found


def the_nursery() -> int:
    """The pid of the only nursery, the parent of the shims."""
    return only(lambda: processes("ocirun-nursery"), "there is one nursery")


def zygote_socket() -> str:
    """The path of the only zygote's socket."""
    (path,) = ZYGOTES.iterdir()
    return str(path)


def answers(address: object) -> bool:
    """Whether somebody accepts connections at an address."""
    assert isinstance(address, str)
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(address.removeprefix("unix://"))
        except OSError:
            return False
    return True


def forked() -> list[int]:
    """What was forked from a `start`: it may not have come to its name yet."""
    found: list[int] = []
    for pid in observe.descendants(os.getpid()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if any(mark in word for word in observe.words(pid, "cmdline") for mark in FORKED):
                found.append(pid)
    return found


def kill_all(*names: str) -> list[int]:
    """Kills what has such a name, or none yet; one that is being forked may have either, and come now."""
    found = [*forked(), *(pid for name in names or NAMES for pid in processes(name))]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


@contextlib.contextmanager
def own_run() -> Generator[None]:
    """An empty /run in this mount namespace; ends every shim and zygote afterwards."""
    kernel.mount("run", RUN, "tmpfs", data="mode=755")
    try:
        (RUN / "containerd").mkdir()
        yield
    finally:
        observe.eventually(lambda: not kill_all(), "the shims are dead")
        kernel.umount(RUN, kernel.MNT_DETACH)
