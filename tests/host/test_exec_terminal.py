"""Terminals of exec: each process has one of its own, of the container's devpts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe, terminals
from tests.host.terminals import ConsoleSocket, Keyboard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Container, Runtime


@pytest.fixture
def console(scratch: Path) -> Iterator[ConsoleSocket]:
    """A listening console socket."""
    with ConsoleSocket(scratch / "console") as console:
        yield console


def _with_terminal(container: Container, console: ConsoleSocket, *words: str) -> tuple[int, int]:
    """Executes a program with a terminal, detached: pid and master."""
    flags = ("--tty", "--console-socket", str(console.path))
    return execs.detached(container, *words, flags=flags), console.receive()


def test_the_streams_are_a_terminal_that_answers(
    runtime: Runtime, bundle: Bundle, console: ConsoleSocket
) -> None:
    container = runtime.running(bundle.sleeping())
    pid, master = _with_terminal(container, console, "sh", "-c", "tty; read line; echo got $line; sleep 1000")
    assert terminals.read_until(master, "\n").strip() == "/dev/pts/0"
    os.write(master, b"answer\n")
    assert "got answer" in terminals.read_until(master, "got answer")
    assert {observe.descriptors(pid)[fd] for fd in (0, 1, 2)} == {"/dev/pts/0"}


def test_it_is_the_controlling_terminal(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    container = runtime.running(bundle.sleeping())
    script = "trap 'echo interrupted > /dev/tty; exit' INT; echo ready; while :; do sleep 0.05; done"
    _, master = _with_terminal(container, console, "sh", "-c", script)
    terminals.read_until(master, "ready")
    os.write(master, b"\x03")
    assert "interrupted" in terminals.read_until(master, "interrupted")


def test_size_and_owner_are_those_of_the_process_file(
    runtime: Runtime, bundle: Bundle, console: ConsoleSocket
) -> None:
    container = runtime.running(bundle.sleeping())
    path = execs.process(
        container, "sleep", "1000", terminal=True, consoleSize={"height": 31, "width": 97},
        user={"uid": 1000, "gid": 1000},
    )  # fmt: skip
    flags = ("--process", str(path), "--console-socket", str(console.path))
    execs.settled(execs.detached(container, flags=flags))
    assert terminals.size(console.receive()) == (31, 97)
    assert observe.inside(container.pid, "/dev/pts/0").stat().st_uid == 1000


def test_the_console_of_init_stays_its_own(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    with ConsoleSocket(scratch / "first") as first, ConsoleSocket(scratch / "second") as second:
        bundle.put(True, "process", "terminal")
        container = ocirun.create(bundle.sleeping(), "--console-socket", str(first.path))
        first.receive()
        container.start()
        before = observe.mounts(container.pid)
        pid, _ = _with_terminal(container, second, "sleep", "1000")
        assert observe.descriptors(execs.settled(pid))[0] == "/dev/pts/1"
        assert observe.mounts(container.pid) == before


def test_no_console_socket_answers(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    container = ocirun.running(bundle.sleeping())
    flags = ("--tty", "--detach", "--console-socket", str(scratch / "nobody"))
    result = execs.execute(container, "sleep", "1000", flags=flags)
    assert result.code == 255
    assert "console socket" in result.stderr
    assert execs.members_of(container) == {container.pid}


def at_the_keyboard(container: Container, script: str, rows: int = 24, columns: int = 80) -> Keyboard:
    """Executes one program in a container from there."""
    return Keyboard(container.runtime, ("exec", "--tty", container.id, "sh", "-c", script), rows, columns)


def test_in_the_foreground_typing_and_output_pass(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    keyboard = at_the_keyboard(container, "echo ready; read line; echo got $line; exit 5")
    terminals.read_until(keyboard.master, "ready")
    os.write(keyboard.master, b"answer\r")
    code, said = keyboard.finish()
    assert code == 5
    assert "got answer" in said


def test_in_the_foreground_a_key_interrupts_the_program(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    keyboard = at_the_keyboard(container, terminals.CAUGHT)
    terminals.read_until(keyboard.master, "ready")
    os.write(keyboard.master, b"\x03")
    code, said = keyboard.finish()
    assert code == 9
    assert "caught" in said


def test_in_the_foreground_a_change_of_size_passes(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    keyboard = at_the_keyboard(container, script, 33, 99)
    terminals.read_until(keyboard.master, "ready")
    terminals.set_size(keyboard.master, 44, 111)
    assert "44 111" in keyboard.finish()[1]


#: The command, which is slow to take care of the terminal of a program that runs.
LATE = """
import sys, time
from ocirun.cli.main import main
from ocirun.lifecycle.console import Proxy
taken = Proxy.__init__
def late(self, master):
    time.sleep(1)
    taken(self, master)
Proxy.__init__ = late
del sys.argv[1]
main()
"""


def test_in_the_foreground_the_size_is_there_before_the_program(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    ocirun.prefix = (sys.executable, "-c", LATE)
    ocirun.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    keyboard = at_the_keyboard(container, "stty size", 33, 99)
    ocirun.prefix = ()
    assert keyboard.finish() == (0, "33 99\n")


def test_much_output_arrives_whole(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    code, said = at_the_keyboard(container, "seq 20000").finish()
    assert code == 0
    assert said.split() == [str(number) for number in range(1, 20001)]
