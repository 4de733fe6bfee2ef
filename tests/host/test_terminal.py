"""Terminals: by socket for engines, in the foreground for people."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.host import observe, terminals
from tests.host.runtimes import new_id
from tests.host.terminals import ConsoleSocket, Keyboard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime


@pytest.fixture
def console(scratch: Path) -> Iterator[ConsoleSocket]:
    """A listening console socket."""
    with ConsoleSocket(scratch / "console") as console:
        yield console


def terminal(bundle: Bundle) -> Bundle:
    """The bundle with a terminal."""
    return bundle.put(True, "process", "terminal")


def test_the_console_socket_receives_the_master_of_a_terminal(
    runtime: Runtime, bundle: Bundle, console: ConsoleSocket
) -> None:
    container = runtime.create(
        terminal(bundle).sh("echo hello; read line; echo got $line"), "--console-socket", str(console.path)
    )
    master = console.receive()
    assert os.isatty(master)
    container.start()
    assert "hello" in terminals.read_until(master, "hello\n".replace("\n", "\r\n"))
    os.write(master, b"answer\n")
    assert "got answer" in terminals.read_until(master, "got answer")


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_the_standard_descriptors_are_the_terminal(
    runtime: Runtime, bundle: Bundle, console: ConsoleSocket, fd: int
) -> None:
    container = runtime.create(terminal(bundle).sleeping(), "--console-socket", str(console.path))
    console.receive()
    container.start()
    assert observe.descriptors(container.pid)[fd] in {"/dev/console", "/dev/pts/0"}


def test_the_terminal_is_the_console_of_the_container(
    runtime: Runtime, bundle: Bundle, console: ConsoleSocket
) -> None:
    container = runtime.create(terminal(bundle).sleeping(), "--console-socket", str(console.path))
    console.receive()
    container.start()
    mount = observe.mount_at(container.pid, "/dev/console")
    assert (mount.kind, mount.root) == ("devpts", "/0")
    found = observe.inside(container.pid, "/dev/console").stat()
    assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == (136, 0)


def test_the_terminal_is_the_controlling_one(
    runtime: Runtime, bundle: Bundle, console: ConsoleSocket
) -> None:
    container = runtime.create(
        terminal(bundle).sh("echo opened > /dev/tty; sleep 1000"), "--console-socket", str(console.path)
    )
    master = console.receive()
    container.start()
    assert "opened" in terminals.read_until(master, "opened")


def test_tty_names_the_terminal(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    container = runtime.create(terminal(bundle).sh("tty; sleep 1000"), "--console-socket", str(console.path))
    master = console.receive()
    container.start()
    assert terminals.read_until(master, "\n").strip() in {"/dev/console", "/dev/pts/0"}


def test_the_terminal_belongs_to_the_user_of_the_container(
    runtime: Runtime, bundle: Bundle, console: ConsoleSocket
) -> None:
    container = runtime.create(
        terminal(bundle).user(1000, 1000).sleeping(), "--console-socket", str(console.path)
    )
    console.receive()
    container.start()
    assert observe.inside(container.pid, "/dev/pts/0").stat().st_uid == 1000


def test_the_terminal_has_the_configured_size(
    runtime: Runtime, bundle: Bundle, console: ConsoleSocket
) -> None:
    terminal(bundle).put({"height": 31, "width": 97}, "process", "consoleSize")
    container = runtime.create(bundle.sleeping(), "--console-socket", str(console.path))
    master = console.receive()
    container.start()
    assert terminals.size(master) == (31, 97)


@pytest.mark.parametrize("terminal", [{}, {"terminal": False}], ids=["unset", "false"])
def test_the_size_of_a_terminal_that_is_not_asked_for_is_ignored(
    runtime: Runtime, bundle: Bundle, terminal: dict[str, Json]
) -> None:
    """config.md#process: whatever it is, for none of it is looked at."""
    bundle.drop("process", "terminal").section("process").update(terminal)
    bundle.put({"height": 65536, "width": 0}, "process", "consoleSize")
    assert runtime.run(bundle.sh("test -t 0 || echo none")).ok().stdout == "none\n"


def test_a_terminal_without_a_console_socket_is_refused_at_create(runtime: Runtime, bundle: Bundle) -> None:
    runtime.attempt(terminal(bundle).args("true")).refused("console")


def test_a_console_socket_that_nobody_listens_to_is_refused(
    runtime: Runtime, bundle: Bundle, scratch: Path
) -> None:
    runtime.attempt(terminal(bundle).args("true"), "--console-socket", str(scratch / "nobody")).refused()


def test_a_console_socket_without_a_terminal_is_refused(
    ocirun: Runtime, bundle: Bundle, console: ConsoleSocket
) -> None:
    ocirun.attempt(bundle.args("true"), "--console-socket", str(console.path)).refused("terminal")


def at_the_keyboard(runtime: Runtime, bundle: Bundle, rows: int = 24, columns: int = 80) -> Keyboard:
    """Runs the bundle from there."""
    return Keyboard(runtime, ("run", "--bundle", str(bundle.write().path), new_id()), rows, columns)


def test_a_foreground_terminal_passes_output_and_exit_status(runtime: Runtime, bundle: Bundle) -> None:
    code, said = at_the_keyboard(runtime, terminal(bundle).sh("echo hello; exit 5")).finish()
    assert code == 5
    assert "hello\n" in said


def test_a_foreground_terminal_passes_what_is_typed(runtime: Runtime, bundle: Bundle) -> None:
    keyboard = at_the_keyboard(runtime, terminal(bundle).sh("echo ready; read line; echo got $line"))
    terminals.read_until(keyboard.master, "ready")
    os.write(keyboard.master, b"answer\r")
    code, said = keyboard.finish()
    assert code == 0
    assert "got answer" in said


def test_ctrl_c_in_a_foreground_terminal_interrupts_the_program(runtime: Runtime, bundle: Bundle) -> None:
    keyboard = at_the_keyboard(runtime, terminal(bundle).sh(terminals.CAUGHT))
    terminals.read_until(keyboard.master, "ready")
    os.write(keyboard.master, b"\x03")
    code, said = keyboard.finish()
    assert code == 9
    assert "caught" in said


def test_a_foreground_terminal_has_the_size_of_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    """The peers set it a moment later."""
    awaited = 'for n in $(seq 50); do [ "$(stty size)" = "33 99" ] && break; sleep 0.1; done; stty size'
    keyboard = at_the_keyboard(runtime, terminal(bundle).sh(awaited), 33, 99)
    assert keyboard.finish()[1].strip() == "33 99"


def test_a_change_of_size_reaches_the_container(runtime: Runtime, bundle: Bundle) -> None:
    keyboard = at_the_keyboard(
        runtime, terminal(bundle).sh("trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done")
    )
    terminals.read_until(keyboard.master, "ready")
    terminals.set_size(keyboard.master, 44, 111)
    assert "44 111" in keyboard.finish()[1]


def test_the_callers_terminal_is_as_before_afterwards(runtime: Runtime, bundle: Bundle) -> None:
    import termios

    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    command = runtime.command("run", "--bundle", str(terminal(bundle).sh("exit 0").write().path), new_id())
    subprocess.run(
        command, stdin=slave, stdout=slave, stderr=slave, env=runtime.environment, timeout=30, check=True
    )
    after = termios.tcgetattr(slave)
    os.close(master)
    os.close(slave)
    assert after == before
