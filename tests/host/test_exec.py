"""What exec executes: where it lives, who it is, what it may, what it gets."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import execs, observe
from tests.host.execs import by_file, detached, execute, sleeping

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

KINDS = ("pid", "net", "ipc", "uts", "mnt", "cgroup", "user")


def _namespaces(pid: int) -> dict[str, str]:
    return {kind: observe.namespace(pid, kind) for kind in KINDS}


# -- where it lives ------------------------------------------------------------------------------------------


def test_it_lives_where_init_lives(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    pid = sleeping(container)
    assert _namespaces(pid) == _namespaces(container.pid)
    assert observe.cgroup(pid) == observe.cgroup(container.pid)
    assert observe.mounts(pid) == observe.mounts(container.pid)
    assert os.stat(f"/proc/{pid}/root").st_ino == os.stat(f"/proc/{container.pid}/root").st_ino
    assert pid in execs.members_of(container)


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "pid", "cgroup"])
def test_a_namespace_that_init_inherited_is_inherited_by_others(
    runtime: Runtime, bundle: Bundle, kind: str
) -> None:
    container = runtime.running(bundle.drop("hostname").without_namespace(kind).sleeping())
    assert _namespaces(sleeping(container)) == _namespaces(container.pid)


def test_a_namespace_that_init_has_from_its_creator_is_joined(runtime: Runtime, bundle: Bundle) -> None:
    runtime.prefix = ("unshare", "--net", "--ipc", "--")
    container = runtime.create(bundle.without_namespace("network").sleeping())
    runtime.prefix = ()
    container.start()
    assert _namespaces(sleeping(container)) == _namespaces(container.pid)


def test_a_created_container_takes_it_too(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.sleeping())
    assert execute(container, "cat", "/proc/self/cgroup").ok().stdout.splitlines()[-1] == "0::/"
    assert _namespaces(sleeping(container)) == _namespaces(container.pid)
    container.start()


def test_it_is_in_a_session_of_its_own(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    pid = sleeping(container)
    assert os.getsid(pid) == pid


def test_the_bundle_is_not_read_again(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.env("WHICH=frozen").sleeping())
    bundle.put(["WHICH=changed"], "process", "env").write()
    assert execute(container, "/bin/sh", "-c", "echo $WHICH").ok().stdout == "frozen\n"


def test_nobody_who_holds_the_lock_delays_it(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    directory = os.open(ocirun.root / container.id, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    assert execute(container, "echo", "done").ok().stdout == "done\n"
    os.close(directory)


def test_a_slow_exec_delays_neither_kill_nor_delete(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    process, result = ocirun.popen("exec", container.id, "sh", "-c", "echo ready; sleep 1000")
    observe.eventually(lambda: "ready" in result.stdout, "the program runs")
    container.kill().ok()
    container.wait()
    assert process.wait(30) == 128 + signal.SIGKILL
    container.delete().ok()


# -- its end and its streams ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_exit_status_is_that_of_the_program(runtime: Runtime, bundle: Bundle, code: int) -> None:
    container = runtime.running(bundle.sleeping())
    assert execute(container, "sh", "-c", f"exit {code}").code == code


@pytest.mark.parametrize("number", [6, 9, 15])
def test_a_signal_that_ends_it_counts_from_128(runtime: Runtime, bundle: Bundle, number: int) -> None:
    container = runtime.running(bundle.sleeping())
    assert execute(container, "sh", "-c", f"kill -{number} $$").code == 128 + number


def test_output_and_input_are_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    given = runtime.file("in")
    given.write_text("asked\n")
    with given.open("rb") as stdin:
        result = execute(container, "sh", "-c", "cat; echo trouble >&2", stdin=stdin).ok()
    assert (result.stdout, result.stderr) == ("asked\n", "trouble\n")


def test_words_after_the_id_belong_to_the_program(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    result = execute(container, "printf", "%s|", "-t", "--detach", "two words", "", "é", "--", "--help")
    assert result.ok().stdout == "-t|--detach|two words||é|--|--help|"


def test_bytes_that_are_no_text_arrive(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    odd = b"a\xff\xc3z"
    result = execute(container, "printf", "%s", odd.decode("utf-8", "surrogateescape"))
    assert result.out.read_bytes() == odd


def test_a_signal_to_the_command_reaches_the_program(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    process, result = runtime.popen("exec", container.id, "sh", "-c", script)
    observe.eventually(lambda: "ready" in result.stdout, "the program runs")
    process.terminate()
    assert process.wait(30) == 9
    assert "caught" in result.stdout


def test_detached_the_command_returns_and_the_program_goes_on(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    pid = sleeping(container)
    assert observe.alive(pid)


@pytest.mark.parametrize("preserve", [0, 2])
def test_it_has_the_descriptors_it_was_given_and_no_others(
    runtime: Runtime, bundle: Bundle, preserve: int
) -> None:
    container = runtime.running(bundle.sleeping())
    pid_file = runtime.file("pid")
    words = ["exec", "--preserve-fds", str(preserve), "-d", "--pid-file", str(pid_file), container.id]
    command = runtime.command(*words, "sleep", "1000")
    subprocess.run(
        ["sh", "-c", 'exec "$@" 3</etc/hostname 4</etc/hostname 5</dev/null', "sh", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        timeout=30, check=True,
    )  # fmt: skip
    container.executed.append(int(pid_file.read_text()))
    pid = execs.settled(container.executed[0])
    assert set(observe.descriptors(pid)) == set(range(3 + preserve))


# -- who it is -----------------------------------------------------------------------------------------------


def test_by_flags_it_is_like_init_but_for_them(runtime: Runtime, bundle: Bundle) -> None:
    bundle.user(5, 6, 7).env("KEPT=1", "LOST=1").cwd("/tmp").directory("srv")  # noqa: S108
    container = runtime.running(bundle.sleeping())
    pid = sleeping(
        container,
        "--user",
        "1000",
        "--additional-gids",
        "8",
        "--cwd",
        "/srv",
        "--env",
        "LOST=2",
        "--env",
        "NEW=3",
    )
    told = observe.status(pid)
    assert told["Uid"].split() == ["1000"] * 4
    assert told["Gid"].split() == ["6"] * 4
    assert set(told["Groups"].split()) == {"7", "8"}  # runc repeats one
    assert os.readlink(f"/proc/{pid}/cwd") == "/srv"
    environment = observe.words(pid, "environ")
    assert {"KEPT=1", "LOST=2", "NEW=3", "TERM=xterm"} <= set(environment)
    assert "LOST=1" not in environment
    assert told["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("user", "ids"), [("1000:1001", (1000, 1001)), ("0", (0, 6)), ("4294967294:0", (4294967294, 0))]
)
def test_the_user_is_taken_by_number(
    ocirun: Runtime, bundle: Bundle, user: str, ids: tuple[int, int]
) -> None:
    container = ocirun.running(bundle.user(5, 6).sleeping())
    told = observe.status(sleeping(container, "--user", user))
    assert (int(told["Uid"].split()[0]), int(told["Gid"].split()[0])) == ids


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


def test_a_capability_is_added_to_what_may_be_used_at_once(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    told = observe.status(sleeping(container, "--cap", "CAP_NET_RAW", "--cap", "CAP_CHOWN"))
    expected = _bits(5, 10, 29, 13, 0)
    assert [int(told[name], 16) for name in ("CapBnd", "CapPrm", "CapEff")] == [expected] * 3
    assert int(told["CapInh"], 16) == int(told["CapAmb"], 16) == 0


def test_without_new_privileges_only_where_it_is_asked(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.put(False, "process", "noNewPrivileges").sleeping())
    assert observe.status(sleeping(container))["NoNewPrivs"] == "0"
    assert observe.status(sleeping(container, "--no-new-privs"))["NoNewPrivs"] == "1"


def test_a_process_file_says_all(runtime: Runtime, bundle: Bundle) -> None:
    capabilities: Json = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_NET_RAW"],
        "ambient": ["CAP_NET_RAW"],
    }
    container = runtime.running(bundle.directory("srv").sleeping())
    pid = by_file(
        container,
        cwd="/srv",
        env=[execs.PATH, "A=1", "A=2"],
        user={"uid": 1000, "gid": 1001, "umask": 0o27, "additionalGids": [5, 6]},
        capabilities=capabilities,
        rlimits=[
            {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
        noNewPrivileges=True,
    )
    told = observe.status(pid)
    assert (told["Uid"].split()[0], told["Gid"].split()[0], told["Groups"].split()) == (
        "1000",
        "1001",
        ["5", "6"],
    )
    assert told["Umask"] == "0027"
    assert int(told["CapBnd"], 16) == _bits(5, 0, 13)
    assert int(told["CapInh"], 16) == int(told["CapAmb"], 16) == _bits(13)
    # execve gives a user other than root the ambient ones (capabilities(7))
    assert int(told["CapPrm"], 16) == int(told["CapEff"], 16) == _bits(13)
    assert told["NoNewPrivs"] == "1"
    limits = observe.limits(pid)
    assert (limits["Max open files"], limits["Max core file size"]) == (("64", "128"), ("0", "0"))
    assert os.readlink(f"/proc/{pid}/cwd") == "/srv"
    assert observe.words(pid, "environ") == ["PATH=/bin", "A=2", "HOME=/home/user"]


def test_capabilities_that_a_process_file_leaves_out_are_those_of_init(
    runtime: Runtime, bundle: Bundle
) -> None:
    container = runtime.running(bundle.sleeping())
    told, own = observe.status(by_file(container)), observe.status(container.pid)
    for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert told[name] == own[name]


def test_empty_capabilities_in_a_process_file_are_none(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    told = observe.status(by_file(container, capabilities={}))
    assert {told[name].strip("0") for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")} == {""}


def test_groups_of_the_caller_do_not_come_along(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    assert observe.status(sleeping(container))["Groups"] == ""


def test_nothing_of_the_helper_is_left_in_the_program(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.running(bundle.sleeping())
    pid = sleeping(container)
    assert os.readlink(f"/proc/{pid}/exe") == "/bin/busybox"
    assert "ocirun" not in Path(f"/proc/{pid}/maps").read_text()
    told = observe.status(pid)
    assert [int(told[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_the_pid_file_is_there_when_the_command_returns(runtime: Runtime, bundle: Bundle) -> None:
    container = runtime.running(bundle.sleeping())
    pid = detached(container, "sleep", "1000")
    assert pid in execs.members_of(container)
