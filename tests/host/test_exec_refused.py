"""An exec that fails says why, exits with 255, and leaves container and host as they were."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe
from tests.host.execs import FAILURES, execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Container, Result, Runtime


@pytest.fixture
def container(runtime: Runtime, bundle: Bundle) -> Iterator[Container]:
    """A running container, which a refused exec leaves as it was."""
    container = runtime.running(bundle.sleeping())
    yield container
    if observe.alive(container.pid):
        observe.eventually(lambda: execs.members_of(container) == {container.pid}, "nobody but init is there")


def _refused(result: Result, runtime: Runtime, *texts: str) -> None:
    """The exit status of a failed exec, and the texts where the runtime is ours."""
    assert result.code in ((255,) if runtime.name != "crun" else FAILURES), result.stderr
    assert result.stdout == ""
    if runtime.name == "ocirun":
        for text in texts:
            assert text in result.stderr


def test_a_missing_program(runtime: Runtime, container: Container) -> None:
    result = execute(container, "nosuch")
    _refused(result, runtime, "in $PATH")
    assert "nosuch" in result.stderr


def test_a_missing_program_with_a_path(runtime: Runtime, container: Container) -> None:
    _refused(execute(container, "/bin/nosuch"), runtime, 'exec: "/bin/nosuch"', "no such file or directory")


def test_a_program_without_execute_permission(runtime: Runtime, bundle: Bundle, container: Container) -> None:
    bundle.file("bin/plain", "#!/bin/sh\n", 0o644)
    _refused(execute(container, "plain"), runtime, "permission denied", "chmod +x")


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("#!/opt/missing -x\n", "/opt/missing, which is not in the image"),
        ("#!/bin/sh\r\n", "CR LF"),
        ("echo hello\n", "neither an ELF program nor a script"),
        ("", "the file is empty"),
    ],
)
def test_a_program_that_the_kernel_does_not_execute(
    runtime: Runtime, bundle: Bundle, container: Container, content: str, hint: str
) -> None:
    bundle.file("bin/odd", content, 0o755)
    _refused(execute(container, "odd"), runtime, 'exec: "odd"', hint)


@pytest.mark.parametrize("detach", [(), ("--detach",)], ids=["foreground", "detached"])
def test_a_failed_exec_writes_no_pid_file(ocirun: Runtime, bundle: Bundle, detach: tuple[str, ...]) -> None:
    container = ocirun.running(bundle.file("bin/odd", "?", 0o755).sleeping())
    pid_file = ocirun.file("pid")
    assert execute(container, "odd", flags=(*detach, "--pid-file", str(pid_file))).code == 255
    assert not pid_file.exists()
    assert execs.members_of(container) == {container.pid}


def test_a_pid_file_that_cannot_be_written_ends_the_process(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    result = execute(container, "sleep", "1000", flags=("-d", "--pid-file", "/nosuch/pid"))
    assert result.code == 255
    assert "write the pid file /nosuch/pid: no such file or directory (ENOENT)" in result.stderr
    assert execs.members_of(container) == {container.pid}


def test_a_missing_working_directory(runtime: Runtime, container: Container) -> None:
    result = execute(container, "pwd", flags=("--cwd", "/nosuch"))
    _refused(
        result,
        runtime,
        "enter cwd /nosuch: openat2 /nosuch: no such file or directory (ENOENT)",
        "does not exist in the image",
    )


def test_a_container_that_stopped(runtime: Runtime, container: Container) -> None:
    container.kill().ok()
    container.wait()
    _refused(execute(container, "true"), runtime, "cannot exec in a stopped container")


def test_a_container_that_does_not_exist(runtime: Runtime, container: Container) -> None:
    result = container.runtime.call("exec", f"{container.id}x", "true")
    _refused(result, runtime)
    assert "does not exist" in result.stderr


def test_a_paused_container(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    freeze, events = (
        execs.cgroup_file(container, "cgroup.freeze"),
        execs.cgroup_file(container, "cgroup.events"),
    )
    freeze.write_text("1")
    observe.eventually(lambda: "frozen 1" in events.read_text(), "it is frozen")
    result = execute(container, "true")
    assert result.code == 255
    assert "cannot exec in a paused container" in result.stderr
    process, waiting = ocirun.popen("exec", "--ignore-paused", container.id, "echo", "thawed")
    observe.eventually(lambda: len(execs.members_of(container)) == 2, "it was born frozen")
    assert process.poll() is None
    freeze.write_text("0")
    assert process.wait(30) == 0
    assert waiting.stdout == "thawed\n"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--cgroup", "../other"), "is not a sub cgroup path"),
        (("--cgroup", "memory:sub"), "one tree for all controllers"),
        (("--apparmor", "x"), "this host has no AppArmor"),
        (("--env", "NAME"), "--env NAME: must have the form NAME=VALUE"),
        (("--cwd", "tmp"), "--cwd tmp: must be an absolute path"),
        (("--user", "root"), "'root' is no id"),
        (("--tty", "--detach"), "cannot allocate tty if ocirun will detach without setting console socket"),
        (("--console-socket", "/x"), "cannot use console socket"),
        (("--preserve-fds", "9"), "is not open"),
    ],
)
def test_flags_that_cannot_be_obeyed(
    ocirun: Runtime, bundle: Bundle, flags: tuple[str, ...], text: str
) -> None:
    container = ocirun.running(bundle.sleeping())
    result = execute(container, "true", flags=flags)
    assert result.code == 255
    assert text in result.stderr


def test_a_process_may_come_through_a_pipe(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    for path in ("/dev/stdin", "/proc/self/fd/0"):
        inside, outside = os.pipe()
        with os.fdopen(inside, "rb") as source, os.fdopen(outside, "wb") as sink:
            sink.write(execs.process(container, "echo", "piped").read_bytes())
            sink.close()
            done = runtime.call("exec", "--process", path, container.id, stdin=source)
        assert (done.code, done.stdout) == (0, "piped\n")


def test_hints_are_about_what_the_caller_gave(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    missing = execute(container, flags=("--process", "/nonexist"))
    limits = ocirun.call("update", "--resources", "/nonexist", container.id)
    for told in (missing.stderr, limits.stderr):
        assert "/nonexist" in told
        assert "on the host, not in the container" in told
        assert "bundle" not in told
    empty = execute(container, "")
    assert (empty.code, "COMMAND must name a program" in empty.stderr) == (255, True)
    unknown = execute(container, "true", flags=("--cap", "CAP_FOO"))
    assert unknown.code == 0
    assert unknown.stderr.count("CAP_FOO") == 1
    assert 'warning: exec --cap: "CAP_FOO": is no capability' in unknown.stderr
    for told in (empty.stderr, unknown.stderr):
        assert "config.json" not in told
    number = execute(container, "true", flags=("--preserve-fds", "99999999999"))
    assert "is not a number from 0 to 999999999" in number.stderr


def test_every_fault_of_a_process_file_is_told_with_its_place(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    path = ocirun.file("process")
    path.write_text('{"args": [],\n "cwd": "tmp",\n "user": {"uid": -1}, "oomScoreAdj": 9999}')
    result = execute(container, flags=("--process", str(path)))
    assert result.code == 255
    for place in (":1:10 /args", ":2:9 /cwd", ":3:18 /user/uid", ":3:38 /oomScoreAdj"):
        assert f"{path}{place}" in result.stderr


def test_a_member_that_is_not_built_is_told_with_its_place(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    path = execs.process(container, "true", apparmorProfile="x")
    result = execute(container, flags=("--process", str(path)))
    assert result.code == 255
    assert f"{path}:1:" in result.stderr
    assert "/apparmorProfile" in result.stderr


def test_a_step_that_fails_names_the_place_in_the_process_file(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    path = execs.process(container, "true", cwd="/nosuch")
    log = ocirun.file("log")
    result = ocirun.call("--log", str(log), "exec", "--process", str(path), container.id)
    assert result.code == 255
    assert f"[{path}:1:" in result.stderr
    line = json.loads(log.read_text().splitlines()[-1])
    assert (line["level"], line["pointer"], line["errno"]) == ("error", "/cwd", 2)


def test_a_process_file_allows_nothing_beside_it(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    path = execs.process(container, "true")
    result = execute(container, "true", flags=("--process", str(path), "--tty", "--env", "A=1"))
    assert result.code == 255
    assert "--tty and --env and a command beside --process" in result.stderr


def test_a_container_that_ends_meanwhile(ocirun: Runtime, bundle: Bundle) -> None:
    """Whatever moment its init dies at: a status of the program, or that it stopped."""
    for delay in range(12):
        container = ocirun.running(bundle.args("sleep", f"0.0{delay:02}"))
        result = execute(container, "true")
        assert result.code in (0, 137, 255), result.stderr
        assert result.code != 255 or "cannot exec in a stopped container" in result.stderr
        container.wait()
        container.delete().ok()


def test_init_that_is_ending_while_the_process_is_born(ocirun: Runtime, bundle: Bundle) -> None:
    """It kills who is in its pid namespace long before it is a zombie, if a parent outside does not reap."""
    container = ocirun.running(bundle.sleeping())
    holder, held = ocirun.popen("exec", container.id, "sh", "-c", "echo up; exec sleep 1000")
    observe.eventually(lambda: held.stdout == "up\n", "another process is there")
    os.kill(holder.pid, signal.SIGSTOP)
    execs.cgroup_file(container, "cgroup.freeze").write_text("1")
    process, refused = ocirun.popen("exec", "--ignore-paused", container.id, "true")
    observe.eventually(lambda: len(execs.members_of(container)) == 3, "it was born frozen")
    os.kill(container.pid, signal.SIGKILL)
    assert process.wait(30) == 255
    assert "cannot exec in a stopped container" in refused.stderr
    assert observe.state_letter(container.pid) not in ("Z", "")
    os.kill(holder.pid, signal.SIGCONT)
    assert holder.wait(30) == 137


def test_init_that_moved_away_is_followed_into_its_cgroup(ocirun: Runtime, bundle: Bundle) -> None:
    from ocirun.lifecycle.exec import look_into
    from ocirun.lifecycle.store import Store

    container = ocirun.running(bundle.sleeping())
    target = look_into(Store(str(ocirun.root)), container.id)
    assert target.cgroup_of_init() == ""
    own = execs.cgroup_file(container, "cgroup.procs").parent
    (own / "init.scope").mkdir()
    (own / "init.scope" / "cgroup.procs").write_text(str(container.pid))
    assert target.cgroup_of_init() == f"{target.cgroup}/init.scope"
    assert os.path.samefile(target.cgroup, own)
