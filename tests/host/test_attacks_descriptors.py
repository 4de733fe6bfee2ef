"""What a process of a container has open: nothing of ours and nothing of our caller's (CVE-2024-21626).

The caller here is a careless one: it holds many descriptors that every child of it inherits, the root of the
host among them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from ocirun_shim.messages import task_pb2 as pb

from tests.host import execs, observe, terminals
from tests.host.runtimes import TIMEOUT
from tests.host.test_hooks import NONE_MORE, add_hook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime
    from tests.host.serving import Serving

#: Executes its arguments with 4 to 40 open on the root of the host.
OPENING = """
import os, sys
root = os.open("/", os.O_RDONLY)
for fd in range(4, 41):
    os.dup2(root, fd)
os.execvp(sys.argv[1], sys.argv[1:])
"""
CARELESS = (sys.executable, "-c", OPENING)
STREAMS = {0, 1, 2}
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.fixture
def careless(runtime: Runtime) -> Runtime:
    """Each runtime, called by somebody who leaves descriptors open."""
    runtime.prefix = CARELESS
    return runtime


@pytest.fixture
def exposed(ocirun: Runtime) -> Runtime:
    """The same for ocirun alone."""
    ocirun.prefix = CARELESS
    return ocirun


def test_a_created_container_holds_the_streams_and_the_handshake(exposed: Runtime, bundle: Bundle) -> None:
    container = exposed.create(bundle.sleeping())
    state = exposed.root / container.id
    observe.eventually(lambda: _others(container.pid) == _handshake(state), "it holds these alone")
    assert os.readlink(f"/proc/{container.pid}/cwd") == "/"
    assert os.readlink(f"/proc/{container.pid}/root") == "/"


def _others(pid: int) -> list[str]:
    """What a process holds beside its streams, by the order of their numbers."""
    return [what for fd, what in sorted(observe.descriptors(pid).items()) if fd not in STREAMS]


def _handshake(state: Path) -> list[str]:
    """Init closes the socket to the host when it has said that it waits for its start."""
    return [str(state / "gate"), str(state / "proof")]


def test_a_program_holds_its_streams(careless: Runtime, bundle: Bundle) -> None:
    container = careless.running(bundle.sleeping())
    assert observe.descriptors(container.pid).keys() == STREAMS


@pytest.mark.parametrize("when", ["created", "running"])
def test_an_executed_program_holds_its_streams(careless: Runtime, bundle: Bundle, when: str) -> None:
    container = careless.create(bundle.sleeping())
    if when == "running":
        container.start()
    assert observe.descriptors(execs.sleeping(container)).keys() == STREAMS


def test_a_container_with_a_terminal_holds_that(exposed: Runtime, bundle: Bundle, scratch: Path) -> None:
    with terminals.ConsoleSocket(scratch / "console") as console:
        bundle.put(True, "process", "terminal").sleeping()
        container = exposed.create(bundle, "--console-socket", str(console.path))
        console.receive()
        wanted = _handshake(exposed.root / container.id)
        observe.eventually(lambda: _others(container.pid) == wanted, "it holds these alone")
        held = observe.descriptors(container.pid)
        assert [held[fd] for fd in sorted(STREAMS)] == ["/dev/pts/0"] * 3
        container.start()
        assert observe.descriptors(container.pid).keys() == STREAMS


@pytest.mark.parametrize("kind", HOOKS)
def test_a_hook_holds_its_streams(exposed: Runtime, bundle: Bundle, scratch: Path, kind: str) -> None:
    log = scratch / "fds"
    bundle.writable()
    if kind == "startContainer":
        log = bundle.rootfs / "fds"
    add_hook(bundle.args("true"), kind, f"ls /proc/self/fd > {'/fds' if log.parent != scratch else log}")
    exposed.run(bundle).ok()
    assert set(log.read_text().split()) == NONE_MORE


@pytest.fixture
def daemons(scratch: Path) -> Iterator[Path]:
    """A file to which hooks write the pids of what they leave behind on the host."""
    file = scratch / "daemons"
    file.touch()
    yield file
    for pid in map(int, file.read_text().split()):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.mark.parametrize("kind", HOOKS)
def test_a_hook_that_leaves_a_daemon_holds_up_neither_start_nor_delete(
    exposed: Runtime, bundle: Bundle, daemons: Path, kind: str
) -> None:
    """It closes nothing: had it our FIFOs, start would wait for their end."""
    inside = kind in ("createContainer", "startContainer")
    tell = "" if inside else f"; echo $! >> {daemons}"
    add_hook(bundle.sleeping(), kind, f"sleep 1000 & true{tell}")
    before = time.monotonic()
    container = exposed.running(bundle)
    held = [observe.descriptors(pid) for pid in map(int, daemons.read_text().split())]
    container.kill().ok()
    container.wait()
    container.delete("--force").ok()
    assert time.monotonic() - before < TIMEOUT
    names = {os.path.basename(target) for one in held for target in one.values()}
    assert not {"gate", "proof"} & names


def test_a_process_of_a_shim_holds_its_streams(served: Serving) -> None:
    task = served.task().shim()
    pid = task.create()
    wanted = _handshake(task.state_directory)
    observe.eventually(lambda: _others(pid) == wanted, "it holds these alone")
    task.start()
    observe.eventually(lambda: observe.descriptors(pid).keys() == STREAMS, "the program holds its streams")
    value = b'{"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}'
    spec = Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Process", value=value)
    task.call("Exec", pb.ExecProcessRequest(id=task.id, exec_id="e", spec=spec), Empty)
    executed = task.call("Start", pb.StartRequest(id=task.id, exec_id="e"), pb.StartResponse).pid
    # execve closes one after the other, and the first of them is what Start has waited for
    observe.eventually(lambda: observe.descriptors(executed).keys() == STREAMS, "it holds its streams")
    task.call("Kill", pb.KillRequest(id=task.id, exec_id="e", signal=signal.SIGKILL), Empty)
    task.call("Wait", pb.WaitRequest(id=task.id, exec_id="e"), pb.WaitResponse)
    task.call("Delete", pb.DeleteRequest(id=task.id, exec_id="e"), pb.DeleteResponse)


# -- working directories that lead to a descriptor -----------------------------------------------------------

#: Where a link in the image may lead; {n} is each descriptor that a runtime might have open.
TRAPS = (
    "/proc/self/fd/{n}", "/proc/self/fd/{n}/", "/proc/self/fd/{n}/../..", "/proc/1/fd/{n}",
    "/proc/self/cwd", "/proc/1/root", "/proc/self/task/self/cwd", "/dev/fd/{n}",
)  # fmt: skip


def _is_outside(told: str) -> bool:
    ours = os.stat("/")
    return told.strip() == f"{ours.st_dev}:{ours.st_ino}"


@pytest.mark.parametrize("trap", TRAPS)
def test_a_working_directory_that_is_a_link_to_a_descriptor(
    exposed: Runtime, bundle: Bundle, trap: str
) -> None:
    for number in (3, 7, 9) if "{n}" in trap else (0,):
        link = bundle.rootfs / f"trap{number}"
        link.symlink_to(trap.format(n=number))
        bundle.cwd(f"/trap{number}").args("stat", "-L", "-c", "%d:%i", ".")
        done = exposed.run(bundle)
        assert (done.code, done.stdout) == (1, ""), "a magic link is never followed"
        assert "ELOOP" in done.stderr or "ENOENT" in done.stderr
        assert "ELOOP" not in done.stderr or "leads through /proc" in done.stderr


@pytest.mark.parametrize("trap", TRAPS)
def test_the_same_for_an_executed_process(careless: Runtime, bundle: Bundle, trap: str) -> None:
    (bundle.rootfs / "trap").symlink_to(trap.format(n=7))
    container = careless.running(bundle.sleeping())
    for path in ("/trap", trap.format(n=7)):
        done = execs.execute(container, "stat", "-L", "-c", "%d:%i", ".", flags=("--cwd", path))
        assert not _is_outside(done.stdout)
        assert careless.name != "ocirun" or done.code == 255
