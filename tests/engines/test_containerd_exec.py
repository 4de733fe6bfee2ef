"""``ctr task exec``: more programs in a running container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from conformance.private_view import TIMEOUT, eventually
from tests.engines.scenes import LINGERING, signalled
from tests.host.terminals import read_until

if TYPE_CHECKING:
    from tests.engines.scenes import Scene, Task


@pytest.fixture
def task(scene: Scene) -> Task:
    """A running container."""
    return scene.start().says("up")


@pytest.mark.parametrize("status", [0, 7])
def test_output_errors_and_exit_status_come_back(task: Task, status: int) -> None:
    done = task.shell(f"echo out; echo err >&2; exit {status}")
    assert (done.code, done.stdout, done.stderr) == (status, "out\n", "err\n")


def test_it_is_in_the_namespaces_and_the_cgroup_of_the_container(task: Task) -> None:
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    words = " ".join(f"/proc/self/ns/{kind} /proc/1/ns/{kind}" for kind in kinds)
    found = task.shell(f"for ns in {words}; do readlink $ns; done").ok().stdout.split()
    assert found[::2] == found[1::2]
    assert len(found) == 2 * len(kinds)
    task.exec("sleep", "100", flags=("--detach",)).ok()
    path = f"/sys/fs/cgroup/{task.containerd.namespace}/{task.id}/cgroup.procs"
    assert len(task.containerd.path(path).read_text().split()) >= 2


def test_user_and_directory_are_those_asked_for(task: Task) -> None:
    flags = ("--user", "1000", "--cwd", "/tmp")  # noqa: S108 - in the container
    assert task.shell("id -u; pwd", flags=flags).ok().stdout.split() == ["1000", "/tmp"]  # noqa: S108


def test_standard_input_is_read_to_its_end(task: Task) -> None:
    sent = os.urandom(200_000)
    reading, writing = os.pipe()
    words = ("ctr", "task", "exec", "--exec-id", "reader", task.id, "cat")
    process, result = task.containerd.popen(*words, stdin=reading)
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(sent)
    assert process.wait(TIMEOUT) == 0
    assert result.out.read_bytes() == sent


def test_no_byte_of_a_burst_is_lost(task: Task) -> None:
    done = task.shell("head -c 8388608 /dev/zero | tr '\\0' x").ok()
    assert done.out.stat().st_size == 8388608


def test_a_terminal_has_size_bytes_and_exit_status(task: Task, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    words = ("ctr", "task", "exec", "-t", "--exec-id", "typist", task.id)
    program = 'while [ "$(stty size 2>/dev/null)" != "33 77" ]; do :; done; tty; read x; echo "<$x>"; exit 7'
    process, _ = task.containerd.popen(*words, "sh", "-c", program, terminal=slave)
    assert "/dev/pts/0\n" in read_until(master, "\r\n")
    os.write(master, b"typed\n")
    assert read_until(master, ">\r\n") == "typed\n<typed>\n"
    assert process.wait(TIMEOUT) == 7


def test_an_unknown_program_is_an_error_and_harms_nothing(task: Task) -> None:
    refused = task.exec("/no/such/program")
    assert refused.code == 1
    assert "/no/such/program" in refused.stderr
    assert task.shell("echo fine").ok().stdout == "fine\n"


@pytest.mark.parametrize("name", ["TERM", "KILL"])
def test_it_is_killed_alone(task: Task, name: str) -> None:
    words = ("ctr", "task", "exec", "--exec-id", "victim", task.id, "sh", "-c", "echo up; exec sleep 100")
    process, result = task.containerd.popen(*words)
    eventually(lambda: result.stdout == "up\n", "the program is up")
    task.kill(name, "--exec-id", "victim").ok()
    assert process.wait(TIMEOUT) == signalled(name)
    assert task.status == "RUNNING"


def test_it_ends_with_the_container(task: Task) -> None:
    words = ("ctr", "task", "exec", "--exec-id", "mate", task.id, "sh", "-c", "echo up; sleep 100")
    process, result = task.containerd.popen(*words)
    eventually(lambda: result.stdout == "up\n", "the program is up")
    task.kill("KILL").ok()
    assert process.wait(TIMEOUT) == signalled("KILL")
    assert task.wait().remove() == signalled("KILL")


def test_an_id_in_use_is_refused(task: Task) -> None:
    words = ("task", "exec", "--detach", "--exec-id", "same", task.id, "sleep", "100")
    task.containerd.ctr(*words).ok()
    refused = task.containerd.ctr(*words)
    assert refused.code == 1
    assert "already exists" in refused.stderr


def test_in_a_stopped_container_it_is_refused(scene: Scene) -> None:
    task = scene.start("true").wait()
    refused = task.exec("true")
    assert refused.code == 1
    assert "stopped" in refused.stderr


def test_ten_at_once(task: Task) -> None:
    started = [
        task.containerd.popen(
            "ctr",
            "task",
            "exec",
            "--exec-id",
            f"n{number}",
            task.id,
            "sh",
            "-c",
            f"{LINGERING}echo {number}; exit {number}",
        )
        for number in range(10)
    ]
    assert [process.wait(TIMEOUT) for process, _ in started] == [*range(10)]
    assert [result.stdout for _, result in started] == [f"{number}\n" for number in range(10)]
