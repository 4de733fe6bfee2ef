"""``ctr run``: output, exit status, standard input, terminals."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from conformance.private_view import TIMEOUT, eventually
from tests.engines.scenes import PATIENT, signalled
from tests.host.terminals import read_until, set_size

if TYPE_CHECKING:
    from tests.engines.scenes import Scene

BURST = 8 * 1024 * 1024


def test_output_and_errors_come_apart(scene: Scene) -> None:
    done = scene.run("sh", "-c", "echo out; echo err >&2").ok()
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_exit_status_comes_through(scene: Scene, status: int) -> None:
    assert scene.run("sh", "-c", f"exit {status}").code == status


@pytest.mark.parametrize("name", ["KILL", "TERM"])
def test_death_by_a_signal_is_128_and_its_number(scene: Scene, name: str) -> None:
    # The first process of a pid namespace gets no deadly signal from inside but from its parent namespace.
    process, result = scene.popen("sh", "-c", "trap 'exit 143' TERM; echo up; while :; do sleep 0.02; done")
    eventually(lambda: result.stdout == "up\n", "the program is up")
    scene.containerd.ctr("task", "kill", "-s", name, scene.ids[0]).ok()
    assert process.wait(TIMEOUT) == signalled(name)


def test_user_directory_and_environment_are_those_asked_for(scene: Scene) -> None:
    flags = ("--user", "someone", "--cwd", "/tmp", "--env", "ASKED=for")  # noqa: S108 - in the container
    done = scene.run("sh", "-c", "id -u; pwd; echo $ASKED", flags=flags).ok()
    assert done.stdout.split() == ["1000", "/tmp", "for"]  # noqa: S108


def test_a_program_that_is_not_there_is_an_error_and_leaves_nothing(scene: Scene) -> None:
    done = scene.run("/no/such/program")
    assert done.code == 1
    assert "/no/such/program" in done.stderr
    assert scene.tasks() == {}


def test_standard_input_is_read_to_its_end(scene: Scene) -> None:
    sent = os.urandom(200_000)
    reading, writing = os.pipe()
    process, result = scene.popen("cat", stdin=reading)
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(sent)
    assert process.wait(TIMEOUT) == 0
    assert result.out.read_bytes() == sent


def test_no_byte_of_a_burst_is_lost(scene: Scene) -> None:
    done = scene.run("sh", "-c", f"head -c {BURST} /dev/zero | tr '\\0' x; echo end").ok()
    assert done.out.stat().st_size == BURST + len("end\n")
    assert done.stdout.endswith("xend\n")


def test_no_byte_of_a_burst_into_a_log_file_is_lost(scene: Scene) -> None:
    task = scene.start("sh", "-c", f"head -c {BURST} /dev/zero | tr '\\0' x; echo end")
    assert task.wait().remove() == 0
    assert len(task.output) == BURST + len("end\n")


def test_both_streams_go_into_one_log_file(scene: Scene) -> None:
    task = scene.start("sh", "-c", "echo out; echo err >&2; exit 4")
    assert task.wait().remove() == 4
    assert sorted(task.output.split()) == ["err", "out"]


def test_the_overlay_of_two_layers_is_mounted_and_unmounted(scene: Scene) -> None:
    program = "grep -c ' / overlay ' /proc/mounts; touch /made && ls /made"
    done = scene.run("sh", "-c", program, snapshotter="overlayfs").ok()
    assert done.stdout.split() == ["1", "/made"]


def test_a_terminal_has_the_size_of_the_users(scene: Scene, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    # ctr tells the size after the start: the program may run before that.
    program = "until stty size 2>/dev/null | grep .; do sleep 0.02; done; tty; exit 5"
    process, _ = scene.popen("sh", "-c", program, flags=("-t",), terminal=slave)
    assert read_until(master, "/dev/pts/0\r\n") == "33 77\n/dev/pts/0\n"
    assert process.wait(TIMEOUT) == 5


def test_a_terminal_follows_the_users_size(scene: Scene, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    program = "while [ \"$(stty size)\" != '20 40' ]; do sleep 0.02; done; echo done; exit 6"
    process, _ = scene.popen("sh", "-c", program, flags=("-t",), terminal=slave)
    set_size(slave, 20, 40)

    def ended() -> bool:
        with contextlib.suppress(ProcessLookupError):  # it has no process group of its own at first
            os.killpg(process.pid, signal.SIGWINCH)  # again: ctr may not have listened yet
        return process.poll() is not None

    eventually(ended, "the program sees the new size")
    assert process.returncode == 6
    assert "done" in read_until(master, "done")


def test_what_is_typed_is_read_and_echoed(scene: Scene, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    process, _ = scene.popen("sh", "-c", 'echo up; read x; echo "<$x>"', flags=("-t",), terminal=slave)
    read_until(master, "up")
    os.write(master, "grüße\n".encode())
    assert "grüße\n<grüße>\n" in read_until(master, ">\r\n")
    assert process.wait(TIMEOUT) == 0


def test_no_byte_of_a_burst_on_a_terminal_is_lost(scene: Scene, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    process, _ = scene.popen("sh", "-c", "seq 20000; echo end", flags=("-t",), terminal=slave)
    said = read_until(master, "end\r\n")
    assert said.split() == [*map(str, range(1, 20001)), "end"]
    assert process.wait(TIMEOUT) == 0


def test_twenty_at_once(scene: Scene) -> None:
    started = [scene.popen("sh", "-c", f"echo {number}; exit {number}") for number in range(20)]
    assert [process.wait(2 * TIMEOUT) for process, _ in started] == [*range(20)]
    assert [result.stdout for _, result in started] == [f"{number}\n" for number in range(20)]


def test_the_default_profile_filters_the_program_and_what_is_executed_later(scene: Scene) -> None:
    """containerd's default profile is Docker's."""
    free = scene.run("unshare", "--user", "true").code
    assert free == 0, "without a profile it may"
    task = scene.start(*PATIENT, flags=("--seccomp",)).says("up")
    told = task.shell("grep Seccomp /proc/1/status /proc/self/status; unshare --user true; echo $?")
    values = [line.split()[-1] for line in told.ok().stdout.splitlines()]
    assert values == ["2", "1", "2", "1", "1"]
    assert "Operation not permitted" in told.stderr
    task.kill("TERM").ok()
    assert task.wait().remove() == 3
