"""Filters that leave a decision to an agent: who gets the listener, with which state, and what he answers."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.host.agents import Agent, but, goes_on, take
from tests.host.execs import by_file, execute
from tests.host.filters import calling, denying, filters_of, native, with_caller
from tests.host.runtimes import new_id
from tests.host.test_hooks import add_hook
from tests.host.test_seccomp import PRIVILEGES, filtered

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

NOTIFY = "SCMP_ACT_NOTIFY"


def asking(path: Path | str, *names: str, **members: Json) -> dict[str, Json]:
    """A profile that asks the agent at ``path`` about some calls, and allows the others."""
    return {**denying(*names, action=NOTIFY), "listenerPath": str(path), **members}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "agent"


@PRIVILEGES
def test_the_agent_answers_for_the_kernel(
    runtime: Runtime, bundle: Bundle, place: Path, forbidden: bool
) -> None:
    calling(filtered(bundle, asking(place, "munlockall"), forbidden=forbidden), native("munlockall"))
    told: list[str] = []
    for answer in (-errno.EXDEV, 42):
        with Agent(place, but(native("munlockall"), answer)) as agent:
            told.append(runtime.run(bundle).ok().stdout)
        assert agent.asked == [native("munlockall")]
        place.unlink()
    with Agent(place, goes_on):
        told.append(runtime.run(bundle).ok().stdout)
    assert told == [f"-{errno.EXDEV}\n", "42\n", "0\n"]


def test_the_agent_gets_the_state_of_init_when_it_is_created(
    runtime: Runtime, bundle: Bundle, place: Path
) -> None:
    profile = asking(place, "munlockall", listenerMetadata="what it is for")
    filtered(bundle.sleeping().put({"a.b": "c"}, "annotations"), profile)
    with Agent(place, goes_on) as agent:
        container = runtime.create(bundle)
        (told,) = agent.heard(1)
        assert (told["fds"], told["metadata"]) == (["seccompFd"], "what it is for")
        assert told["pid"] == container.pid
        assert isinstance(told["ociVersion"], str)
        state = told["state"]
        assert isinstance(state, dict)
        assert (state["id"], state["pid"], state["bundle"]) == (container.id, container.pid, str(bundle.path))
        assert state["status"] == "creating"
        assert state["annotations"] == {"a.b": "c"}
        container.start()
        assert filters_of(container) == ("2", "1")


@PRIVILEGES
def test_an_executed_process_has_a_listener_of_its_own(
    runtime: Runtime, bundle: Bundle, place: Path, forbidden: bool
) -> None:
    profile = asking(place, "munlockall", listenerMetadata="m")
    filtered(with_caller(bundle.sleeping()), profile, forbidden=forbidden)
    with Agent(place, but(native("munlockall"), -errno.EXDEV)) as agent:
        container = runtime.running(bundle)
        assert execute(container, "/bin/caller", str(native("munlockall"))).ok().stdout == f"-{errno.EXDEV}\n"
        pid = by_file(container, "sleep", "1000")
        init, _, executed = agent.heard(3)
        assert (init["pid"], executed["pid"], executed["metadata"]) == (container.pid, pid, "m")
        state = executed["state"]
        assert isinstance(state, dict)
        assert (state["id"], state["status"], state["pid"]) == (container.id, "running", container.pid)


@PRIVILEGES
@pytest.mark.parametrize(
    "names",
    [
        ("write", "read", "close", "execve", "exit_group"),
        ("sendmsg", "fcntl", "close_range", "wait4", "poll", "ppoll", "futex", "prctl"),
        ("setresuid", "setresgid", "setgroups", "capset", "prctl", "dup3", "openat", "openat2", "getpid"),
    ],
    ids=["last", "speaking", "becoming"],
)
def test_what_init_itself_calls_is_asked_about_and_nothing_hangs(
    ocirun: Runtime, bundle: Bundle, place: Path, forbidden: bool, names: tuple[str, ...]
) -> None:
    """runc refuses a profile that asks about write, and what it needs to say where its listener is."""
    filtered(with_caller(bundle).args("/bin/caller"), asking(place, *names), forbidden=forbidden)
    with Agent(place, goes_on) as agent:
        assert ocirun.run(bundle).ok().stdout == "0\n"
        container = ocirun.create(bundle)
        container.start()
        assert container.exit_status() == 0
        running = ocirun.running(filtered(bundle.sleeping(), asking(place, *names), forbidden=forbidden))
        assert execute(running, "/bin/caller").ok().stdout == "0\n"
    assert [state["pid"] for state in agent.states][1::2] == [container.pid, agent.states[3]["pid"]]
    assert len(agent.states) == 4
    assert forbidden or agent.asked


def test_a_profile_that_asks_about_everything(ocirun: Runtime, bundle: Bundle, place: Path) -> None:
    with_caller(bundle).args("/bin/caller")
    filtered(bundle, {"defaultAction": NOTIFY, "listenerPath": str(place)})
    with Agent(place, goes_on) as agent:
        assert ocirun.run(bundle).ok().stdout == "0\n"
    assert native("write") in agent.asked
    assert native("execve") in agent.asked


def test_a_hook_inside_is_asked_about_too(ocirun: Runtime, bundle: Bundle, place: Path) -> None:
    filtered(bundle.writable().args("true"), asking(place, "mkdir", "mkdirat"))
    add_hook(bundle, "startContainer", "if mkdir /denied; then echo yes; else echo no; fi > /told")
    answers = {native("mkdir"): -errno.EXDEV, native("mkdirat"): -errno.EXDEV}
    with Agent(place, answers.get):
        ocirun.run(bundle).ok()
    assert (bundle.rootfs / "told").read_text() == "no\n"


def test_a_connection_brings_one_state_and_ends(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    filtered(bundle.sleeping(), asking(place, "munlockall"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(place))
        listening.listen()
        listening.settimeout(20)
        container = runtime.running(bundle)
        connection, _ = listening.accept()
    with connection:
        state, listener = take(connection)
        os.close(listener)
        assert state["pid"] == container.pid
        assert connection.recv(1) == b""


def test_a_long_state_arrives_whole(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    """Longer than the buffer of a socket; the descriptor comes with its beginning."""
    metadata = "m" * 600_000
    filtered(bundle.args("true"), asking(place, "munlockall", listenerMetadata=metadata))
    with Agent(place, goes_on) as agent:
        runtime.run(bundle).ok()
    assert [state["metadata"] for state in agent.states] == [metadata]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["SECCOMP_FILTER_FLAG_TSYNC"],
        ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    ],
    ids=lambda flags: "+".join(flags).replace("SECCOMP_FILTER_FLAG_", "") or "none",
)
def test_every_flag_is_taken_beside_a_listener(
    runtime: Runtime, bundle: Bundle, place: Path, flags: list[Json]
) -> None:
    calling(filtered(bundle, asking(place, "munlockall", flags=flags)), native("munlockall"))
    with Agent(place, but(native("munlockall"), 7)):
        assert runtime.run(bundle).ok().stdout == "7\n"


def test_in_a_user_namespace(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    calling(filtered(bundle, asking(place, "munlockall")).mapped(100000, 65536), native("munlockall"))
    with Agent(place, but(native("munlockall"), 7)):
        assert runtime.run(bundle).ok().stdout == "7\n"


def test_a_relative_path_counts_from_the_bundle(runtime: Runtime, bundle: Bundle) -> None:
    calling(filtered(bundle, asking("agent", "munlockall")), native("munlockall"))
    with Agent(bundle.path / "agent", but(native("munlockall"), 7)):
        assert runtime.run(bundle).ok().stdout == "7\n"


def test_a_listener_whom_nobody_needs_is_not_spoken_to(runtime: Runtime, bundle: Bundle) -> None:
    """config-linux.md: it is ignored unless SCMP_ACT_NOTIFY is used."""
    filtered(bundle.args("true"), {**denying("munlockall"), "listenerPath": "/not/there"})
    runtime.run(bundle).ok()


def test_an_agent_that_dies_holds_nobody(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    """The kernel answers ENOSYS as soon as nobody has the listener any more."""
    filtered(with_caller(bundle), asking(place, "munlockall")).args("/bin/caller", str(native("munlockall")))
    with Agent(place, goes_on):
        container = runtime.create(bundle)
    container.start()
    assert container.exit_status() == 0
    assert container.output == f"-{errno.ENOSYS}\n"


def test_a_create_that_is_killed_while_the_agent_does_not_read_leaves_nothing(
    ocirun: Runtime, bundle: Bundle, place: Path
) -> None:
    metadata = "m" * 600_000
    filtered(bundle.sleeping(), asking(place, "munlockall", "write", listenerMetadata=metadata))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(place))
        listening.listen()
        listening.settimeout(20)
        ident = new_id()
        creating, _ = ocirun.popen("create", "--bundle", str(bundle.write().path), ident)
        connection, _ = listening.accept()
        creating.kill()
        creating.wait()
        connection.close()
        ocirun.call("delete", "--force", ident).ok()


# -- what is refused


def _directory(path: Path) -> None:
    path.mkdir()


def _file(path: Path) -> None:
    path.touch()


def _nothing(path: Path) -> None:
    del path


def _silent(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize(
    ("made", "number"),
    [
        (_nothing, errno.ENOENT),
        (_file, errno.ECONNREFUSED),
        (_directory, errno.ECONNREFUSED),
        (_silent, errno.ECONNREFUSED),
    ],
)
def test_an_agent_that_is_not_there_fails_create_and_nothing_is_left(
    runtime: Runtime, bundle: Bundle, place: Path, made: object, number: int
) -> None:
    assert callable(made)
    made(place)
    attempt = runtime.attempt(filtered(bundle.sleeping(), asking(place, "munlockall")))
    assert attempt.code != 0
    if runtime.name == "ocirun":
        attempt.refused("/linux/seccomp/listenerPath", str(place), errno.errorcode[number])


def test_a_datagram_is_no_stream(ocirun: Runtime, bundle: Bundle, place: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(place))
        attempt = ocirun.attempt(filtered(bundle.sleeping(), asking(place, "munlockall")))
    attempt.refused("/linux/seccomp/listenerPath", "EPROTOTYPE")


def test_an_agent_that_is_gone_fails_exec_alone(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    filtered(bundle.sleeping(), asking(place, "munlockall"))
    with Agent(place, goes_on):
        container = runtime.running(bundle)
    place.unlink()
    assert execute(container, "true").code != 0, "and does not wait for it"
    assert filters_of(container) == ("2", "1"), "init goes on"


@pytest.mark.parametrize(
    ("profile", "texts"),
    [
        ({**denying("a", action=NOTIFY)}, ("/linux/seccomp/syscalls/0/action", "needs listenerPath")),
        ({**denying("a", action=NOTIFY), "listenerPath": ""}, ("/syscalls/0/action", "needs listenerPath")),
        ({"defaultAction": NOTIFY}, ("/linux/seccomp/defaultAction", "needs listenerPath")),
        ({**denying("a"), "listenerMetadata": "m"}, ("/linux/seccomp/listenerMetadata", "without listenerP")),
        (asking("/" + "x" * 107, "mkdir"), ("/linux/seccomp/listenerPath", "longer than 107 bytes")),
        (asking("/x\0y", "mkdir"), ("/linux/seccomp/listenerPath", "NUL")),
    ],
    ids=["no path", "empty path", "default", "metadata", "long", "nul"],
)
def test_a_listener_that_cannot_be_is_refused_by_its_place(
    ocirun: Runtime, bundle: Bundle, profile: dict[str, Json], texts: tuple[str, ...]
) -> None:
    ocirun.attempt(filtered(bundle, profile)).refused(*texts)
