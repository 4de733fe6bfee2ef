"""An agent of seccomp that takes the listener and never answers: nobody waits for it for ever."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.errors import HostError
from ocirun.lifecycle import console
from ocirun.lifecycle.exec import ProcessOptions, exec_process
from ocirun.waiting import Wait, drive, wait
from tests.host import observe
from tests.host.agents import Agent, goes_on, take
from tests.host.inprocess import Made, making
from tests.host.runtimes import new_id
from tests.host.test_hooks import add_hook
from tests.host.test_seccomp import filtered
from tests.host.test_seccomp_notify import asking

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ocirun_spec.types import Process

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime

#: What init has to call below its filter in any runtime, where it may still gain privileges.
BECOMING = ("setgroups", "setresuid", "setuid", "capset")
#: A wait with less than this to its end is for something else than the agent.
_LONG = 12.0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "agent"


@pytest.fixture
def mute(place: Path) -> Iterator[socket.socket]:
    """Who comes is connected by the kernel, and what he sends lies there (listen(2))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(place))
        listening.listen()
        yield listening


@pytest.fixture
def made(scratch: Path) -> Iterator[Made]:
    """Containers of this process."""
    yield from making(scratch / "state")


def called(listening: socket.socket | int, seconds: float = 0.0) -> bool:
    """Whether somebody has connected and waits to be accepted, or has asked on a listener of a filter."""
    return bool(select.select([listening], [], [], seconds)[0])


class Hurried:
    """Waits as usual, but lets a long wait end at once as soon as ``listening`` was called: no answer will
    come.  A wait without an end fails the test."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening

    def __call__(self, what: Wait) -> tuple[int, ...]:
        if what.until is not None and what.until - time.monotonic() > _LONG and called(self._listening):
            time.sleep(0.2)  # who is preempted on his way to sleep looks as if he slept
            return ()
        ready = wait(what if what.until is not None else Wait(what.reads, what.writes, time.monotonic() + 40))
        assert ready or what.until is not None, "it waits for ever"
        return ready


@pytest.mark.parametrize("runtime", ["ocirun", "runc"], indirect=True)
def test_a_forced_delete_gets_through_to_a_create_that_waits_for_the_agent(
    runtime: Runtime, bundle: Bundle, place: Path, mute: socket.socket
) -> None:
    """crun's forgets the container, which stays as it is."""
    filtered(bundle.sleeping(), asking(place, *BECOMING), forbidden=False)
    ident = new_id()
    creating, _ = runtime.popen("create", "--bundle", str(bundle.write().path), ident)
    try:
        assert called(mute, 30)
        runtime.call("delete", "--force", ident).ok()
        observe.eventually(lambda: creating.poll() is not None, "create has returned")
        assert not (runtime.root / ident).exists()
    finally:
        creating.kill()
        creating.wait()


def test_a_forced_delete_gets_through_to_a_start_that_waits_for_the_agent(
    ocirun: Runtime, bundle: Bundle, place: Path, mute: socket.socket
) -> None:
    """The peers do not wait for the execve."""
    filtered(bundle.sleeping(), asking(place, "execve"), forbidden=False)
    container = ocirun.create(bundle)
    connection, _ = mute.accept()
    with connection:
        _, listener = take(connection)
    starting, result = ocirun.popen("start", container.id)
    try:
        assert called(listener, 30), "init asks"
        container.delete("--force").ok()
        assert starting.wait(30) == 1
        assert "init died before it executed the program" in result.stderr
    finally:
        os.close(listener)
        starting.kill()
        starting.wait()


def test_a_forced_delete_gets_through_to_a_hook_without_end(ocirun: Runtime, bundle: Bundle) -> None:
    add_hook(bundle.sleeping(), "createRuntime", f"touch {bundle.path}/there; exec sleep 1000")
    ident = new_id()
    creating, result = ocirun.popen("create", "--bundle", str(bundle.write().path), ident)
    try:
        observe.eventually((bundle.path / "there").exists, "the hook runs")
        ocirun.call("delete", "--force", ident).ok()
        assert creating.wait(30) == 1
        assert "/hooks/createRuntime/0" in result.stderr
    finally:
        creating.kill()
        creating.wait()


def test_create_gives_up(bundle: Bundle, place: Path, mute: socket.socket, made: Made) -> None:
    filtered(bundle.sleeping(), asking(place, *BECOMING), forbidden=False)
    with pytest.raises(HostError, match="does not answer") as raised:
        made.create(bundle, waiter=Hurried(mute))
    assert (raised.value.code, raised.value.pointer) == ("socket", "/linux/seccomp/listenerPath")
    assert raised.value.line > 0
    assert made.store.ids() == []


def test_start_gives_up_and_the_program_never_runs(
    bundle: Bundle, place: Path, mute: socket.socket, made: Made
) -> None:
    filtered(bundle.sleeping(), asking(place, "execve"), forbidden=False)
    container = made.create(bundle)
    with pytest.raises(HostError, match="does not answer"):
        made.start(container, Hurried(mute))
    assert made.status(container) == 128 + 9


@pytest.mark.parametrize("names", [BECOMING, ("execve",)], ids=["becoming", "execve"])
def test_exec_gives_up_and_the_container_goes_on(
    bundle: Bundle, place: Path, made: Made, names: tuple[str, ...]
) -> None:
    filtered(bundle.sleeping(), asking(place, *names), forbidden=False)
    with Agent(place, goes_on):
        container = made.create(bundle)
        made.start(container)
        place.unlink()
        for listening in _listening(place):
            process: Process = {"args": ["/bin/sleep", "2000"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
            with pytest.raises(HostError, match="does not answer"):
                drive(exec_process(made.store, container.id, process, ProcessOptions()), Hurried(listening))
        assert observe.alive(container.pid)


def _listening(place: Path) -> Generator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(place))
        listening.listen()
        yield listening


def _executes(pid: int, *words: str) -> None:
    """Waits until that is what a process executes, which has its words at the end of an execve."""
    observe.eventually(lambda: observe.words(pid, "cmdline") == [*words], f"{pid} executes {words}")


class Slow:
    """A write lease on a program: who executes it waits until it is let go of, or for 45 seconds (fcntl(2),
    F_SETLEASE), as on a file server that is gone.  A waiter: looks of ours come at once as long as it holds,
    and ``looks`` of them let it go."""

    def __init__(self, program: Path) -> None:
        self.looks = 5
        self._file = program.open("r+b")
        fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def __call__(self, what: Wait) -> tuple[int, ...]:
        if what.until is None or what.until - time.monotonic() < _LONG or not self.looks:
            return wait(what)
        observe.eventually(_waits_for_lease, "it waits for its program")
        self.looks -= 1
        if not self.looks:
            self._file.close()
        return ()


def _waits_for_lease() -> bool:
    """Whether somebody whom this process has made does."""
    for pid in observe.descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if "lease" in Path(f"/proc/{pid}/wchan").read_text():
                return True
    return False


@pytest.fixture
def slow_program(bundle: Bundle) -> Iterator[Path]:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # it tells the holder of a lease that somebody waits
    program = bundle.rootfs / "bin/busybox-slow"
    shutil.copyfile(bundle.rootfs / "bin/busybox", program)
    program.chmod(0o755)
    yield program
    signal.signal(signal.SIGIO, before)


def test_a_program_that_is_slow_to_execute_is_not_the_agents_fault(
    bundle: Bundle, place: Path, mute: socket.socket, made: Made, slow_program: Path
) -> None:
    del mute
    filtered(bundle.args("/bin/busybox-slow", "sleep", "1000"), asking(place, "munlockall"), forbidden=False)
    container = made.create(bundle)
    slow = Slow(slow_program)
    made.start(container, slow)
    assert not slow.looks
    _executes(container.pid, "/bin/busybox-slow", "sleep", "1000")


def test_a_program_that_is_slow_to_execute_in_a_running_container(
    bundle: Bundle, place: Path, mute: socket.socket, made: Made, slow_program: Path
) -> None:
    del mute
    filtered(bundle.sleeping(), asking(place, "munlockall"), forbidden=False)
    container = made.create(bundle)
    made.start(container)
    slow = Slow(slow_program)
    process: Process = {"args": ["/bin/busybox-slow", "true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    executed = drive(exec_process(made.store, container.id, process, ProcessOptions()), slow)
    os.close(executed.pidfd)
    assert os.waitpid(executed.pid, 0) == (executed.pid, 0)
    assert not slow.looks


def test_start_gives_up_after_a_hook_inside_as_well(bundle: Bundle, place: Path, made: Made) -> None:
    """The agent lets the hook go on, and leaves the program without an answer."""
    asked, end = threading.Event(), threading.Event()
    numbers: list[int] = []

    def decide(number: int) -> None:
        numbers.append(number)
        if len(numbers) == 2:
            asked.set()
            end.wait(60)

    def hurried(what: Wait) -> tuple[int, ...]:
        long = what.until is not None and what.until - time.monotonic() > _LONG
        if long and asked.is_set():
            return ()
        return wait(Wait(what.reads, what.writes, time.monotonic() + (0.1 if long else 40)))

    filtered(bundle.sleeping(), asking(place, "execve"), forbidden=False)
    add_hook(bundle, "startContainer", ":")
    with Agent(place, decide):
        container = made.create(bundle)
        try:
            with pytest.raises(HostError, match="does not answer"):
                made.start(container, hurried)
        finally:
            end.set()
    assert made.status(container) == 128 + 9


def test_a_hook_inside_may_take_its_time(
    bundle: Bundle, place: Path, mute: socket.socket, made: Made
) -> None:
    """How long, is for its timeout to say; the agent may have nothing to do with it."""
    filtered(bundle.sleeping(), asking(place, "munlockall"), forbidden=False)
    add_hook(bundle, "startContainer", "sleep 1")
    container = made.create(bundle)
    made.start(container, Hurried(mute))
    _executes(container.pid, "sleep", "1000")


def test_an_agent_with_no_room_for_one_more(
    bundle: Bundle, place: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """connect(2) tells EAGAIN, and would wait where it may."""
    monkeypatch.setattr(console, "_PATIENCE", 1.0)
    filtered(bundle.sleeping(), asking(place, "munlockall"), forbidden=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(place))
        listening.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
            first.connect(str(place))
            with pytest.raises(HostError) as raised:
                made.create(bundle)
    assert (raised.value.errno, raised.value.pointer) == (errno.EAGAIN, "/linux/seccomp/listenerPath")
    assert made.store.ids() == []
