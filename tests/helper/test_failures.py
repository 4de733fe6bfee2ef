"""What fails is reported with its step, errno, operation and path, and nothing goes on after it."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

import pytest

from ocirun.executor import wire
from ocirun.plan import steps as verb
from tests.helper import plans
from tests.helper.driver import start
from tests.host.filters import native

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocirun.plan.model import Step
    from tests.helper.driver import Run
    from tests.helper.plans import Place

pytestmark = pytest.mark.root


def _failed(run: Run, steps: list[Step], name: str) -> wire.Report:
    """The failure of the step ``name``, after which init is gone."""
    report = run.until(wire.FAILED)
    assert steps[report.step - 1].verb == name
    if run.pid:
        assert run.wait() == 1
    return report


def test_a_stage_step_fails_before_anything_is_cloned(place: Place, launch: Callable[..., Run]) -> None:
    steps = plans.small(
        place,
        "true",
        opened=[verb.open_tree(path="/no/such", recursive=1, shared=0, nofollow=0, tree="x", pointer="")],
    )
    run = launch(steps)
    report = _failed(run, steps, "open_tree")
    assert (report.errno, report.operation, report.path) == (errno.ENOENT, "open_tree", "/no/such")
    assert run.pid == 0
    assert run.wait_stage() == 1


def test_a_device_that_is_another_is_refused(place: Place, launch: Callable[..., Run]) -> None:
    claim = verb.open_device(path="/dev/zero", kind=0o020000, major=1, minor=3, device="x", pointer="")
    steps = plans.small(place, "true", opened=[claim])
    report = _failed(launch(steps), steps, "open_device")
    assert (report.errno, report.path) == (errno.ENODEV, "/dev/zero")


def test_a_mount_option_the_kernel_refuses_is_reported_in_its_words(
    place: Place, launch: Callable[..., Run]
) -> None:
    steps = plans.small(place, "true", [plans.mount("tmpfs", "/tmp", "size=10k", "colour=red")])  # noqa: S108
    report = _failed(launch(steps), steps, "mount")
    assert (report.errno, report.operation) == (errno.EINVAL, "fsconfig")
    assert report.path.startswith("/tmp: colour=red: tmpfs: Unknown parameter 'colour'")  # noqa: S108


def test_an_unknown_file_system_is_named(place: Place, launch: Callable[..., Run]) -> None:
    steps = plans.small(place, "true", [plans.mount("nosuchfs", "/x")])
    report = _failed(launch(steps), steps, "mount")
    assert (report.errno, report.operation, report.path) == (errno.ENODEV, "fsopen", "/x: nosuchfs")


def test_another_device_in_the_place_of_one_is_an_error(place: Place, launch: Callable[..., Run]) -> None:
    steps = plans.small(
        place, "true", [plans.mount("tmpfs", "/dev"), plans.device("a", 1, 3), plans.device("a", 1, 3),
                        plans.device("a", 1, 5)],
    )  # fmt: skip
    report = _failed(launch(steps), steps, "make_device")
    assert (report.step, report.errno, report.path) == (
        steps.index(plans.device("a", 1, 5)) + 1,
        17,
        "/dev/a",
    )


def test_devices_that_the_program_denies_cannot_be_made(place: Place, launch: Callable[..., Run]) -> None:
    deny = verb.allow_devices(cgroup="cgroup", program=plans.DENY_ALL, pointer="")
    steps = plans.small(place, "true", [plans.device("null", 1, 3)], [deny])
    report = _failed(launch(steps), steps, "make_device")
    assert report.errno == errno.EPERM


def test_the_verifier_says_what_it_does_not_like(place: Place, launch: Callable[..., Run]) -> None:
    unset = verb.allow_devices(cgroup="cgroup", program=plans.ALLOW_ALL[8:], pointer="")
    steps = plans.small(place, "true", opened=[unset])
    report = _failed(launch(steps), steps, "allow_devices")
    assert (report.errno, report.operation) == (errno.EACCES, "bpf")
    assert "R0 !read_ok" in report.path


@pytest.mark.parametrize(("path", "number"), [("/bin/sh", errno.ENOTDIR), ("/none", errno.ENOENT)])
def test_a_working_directory_that_is_none(
    place: Place, launch: Callable[..., Run], path: str, number: int
) -> None:
    ended = plans.end(["sh"], before=[verb.enter_cwd(path=path, pointer="")])
    steps = [*plans.stage(place), *plans.root(), *ended]
    report = _failed(launch(steps), steps, "enter_cwd")
    assert (report.errno, report.path) == (number, path)


def test_a_working_directory_by_a_magic_link_is_refused(place: Place, launch: Callable[..., Run]) -> None:
    """The escape of CVE-2024-21626: a descriptor of the host behind /proc/self/fd."""
    ended = plans.end(["sh"], before=[verb.enter_cwd(path="/proc/self/fd/5", pointer="")])
    steps = [*plans.stage(place), *plans.root(), plans.mount("proc", "/proc", plain=True), *ended]
    report = _failed(launch(steps), steps, "enter_cwd")
    assert report.errno in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR)


# -- the program ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "search", "number", "path"),
    [
        ("nowhere", "/bin:/usr/bin", errno.ENOENT, "nowhere"),
        ("/nowhere", "/bin", errno.ENOENT, "/nowhere"),
        ("plain", "/none:/bin", errno.EACCES, "/bin/plain"),
        ("private", "/bin", errno.EACCES, "/bin/private"),
        ("/bin", "/bin", errno.EISDIR, "/bin"),
        ("", "/bin", errno.ENOENT, ""),
    ],
)
def test_a_program_that_cannot_be_run_is_found_before_create_succeeds(
    place: Place, launch: Callable[..., Run], name: str, search: str, number: int, path: str
) -> None:
    (place.rootfs / "bin/plain").write_text("no x")
    (place.rootfs / "bin/private").write_text("")
    (place.rootfs / "bin/private").chmod(0o700)
    find = [
        verb.set_ids(uid=1000, gid=1000, pointer=""),
        verb.find_program(name=name, search=search, uid=1000, gid=1000, pointer=""),
    ]
    steps = [*plans.stage(place), *plans.root(), *plans.end(["sh"], before=find)]
    report = _failed(launch(steps), steps, "find_program")
    assert (report.errno, report.path) == (number, path)


ALLOW = bytes.fromhex("060000000000ff7f")


@pytest.mark.parametrize(
    ("program", "flags"),
    [(b"", 0), (ALLOW[:7], 0), (ALLOW * 4097, 0), (ALLOW * 65537, 0), (bytes(8), 0), (ALLOW, 1 << 20)],
    ids=["empty", "odd", "long", "65537", "endless", "flags"],
)
def test_a_filter_that_is_none_is_refused(
    place: Place, launch: Callable[..., Run], program: bytes, flags: int
) -> None:
    load = verb.load_seccomp(
        program=program, flags=flags, rules=0, origin="", listener="", pointer="/linux/seccomp"
    )
    steps = [*plans.stage(place), *plans.root(), *plans.end(["sh"], before=[load])]
    report = _failed(launch(steps), steps, "load_seccomp")
    assert (report.errno, report.operation) == (errno.EINVAL, "seccomp")


def test_what_fails_under_a_filter_is_still_told(place: Place, launch: Callable[..., Run]) -> None:
    """With read, write and exit_group: any other call kills."""
    words = [(0x20, 0, 0, 0), (0x15, 3, 0, native("read")), (0x15, 2, 0, native("write")),
             (0x15, 1, 0, native("exit_group")), (0x06, 0, 0, 0x80000000),
             (0x06, 0, 0, 0x7FFF0000)]  # fmt: skip
    program = b"".join(struct.pack("=HBBI", *word) for word in words)
    load = verb.load_seccomp(
        program=program, flags=0, rules=0, origin="", listener="", pointer="/linux/seccomp"
    )
    again = verb.load_seccomp(program=b"", flags=0, rules=0, origin="", listener="", pointer="/linux/seccomp")
    steps = [*plans.stage(place), *plans.root(), *plans.end(["sh"], before=[load, again])]
    report = _failed(launch(steps), steps, "load_seccomp")
    assert report.path == "the program has no length that a filter can have"


@pytest.mark.parametrize(
    ("content", "number", "code"),
    [
        (b"#!/no/interpreter\n", errno.ENOENT, 127),
        (b"\x7fELF\x02\x01\x01" + bytes(40), errno.ENOEXEC, 126),
        (b"neither", errno.ENOEXEC, 126),
    ],
)
def test_execve_that_fails_is_told_through_the_proof(
    place: Place, launch: Callable[..., Run], content: bytes, number: int, code: int
) -> None:
    program = place.rootfs / "bin/broken"
    program.write_bytes(content)
    program.chmod(0o755)
    run = launch([*plans.stage(place), *plans.root(), *plans.end(["broken"])])
    run.until(wire.READY)
    assert start(place.state) == b"RE" + number.to_bytes(4, "little") + b"T" + content
    assert run.wait() == code


# -- a host that goes away, and what must not be inherited ---------------------------------------------------


def test_init_ends_when_the_host_is_gone_at_a_meeting(place: Place, launch: Callable[..., Run]) -> None:
    made = [verb.make_console(columns=0, rows=0, bind=1, console="console", terminal="terminal", pointer="")]
    send = [verb.send_console(console="console", pointer="")]
    inside = [plans.mount("devpts", "/dev/pts", "newinstance"), *made, *send]
    run = launch(plans.small(place, "true", inside))
    run.until(wire.MEET)
    run.control.close()
    assert run.wait() == 1


def test_descriptors_that_are_closed_are_not_given_to_slots(place: Place, launch: Callable[..., Run]) -> None:
    script = "test $(busybox readlink /proc/self/fd/0) = /dev/null && exec busybox true 0<&0 1>&1 2>&2"
    steps = plans.small(place, script, [plans.mount("proc", "/proc", plain=True)])
    run = launch(steps, closed=(0, 1, 2))
    run.until(wire.READY)
    assert all(os.readlink(f"/proc/{run.pid}/fd/{fd}") == "/dev/null" for fd in range(3))
    assert start(place.state) == b"R"
    assert run.wait() == 0


def test_a_waiting_init_dies_of_a_signal(place: Place, launch: Callable[..., Run]) -> None:
    """Without a pid namespace of its own: there, the kernel shields process 1."""
    steps = [*plans.stage(place, namespaces=plans.NEW_NS), *plans.root(), *plans.end(["sh"])]
    run = launch(steps)
    run.until(wire.READY)
    os.kill(run.pid, 15)
    assert run.wait() == -15


def test_output_of_a_user_is_the_users(place: Place, launch: Callable[..., Run], tmp_path: Path) -> None:
    output, null = os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY), os.open("/dev/null", os.O_RDWR)
    own = [verb.own_stdio(uid=1234, pointer="")]
    owner_of_null = os.stat("/dev/null").st_uid
    run = launch([*plans.stage(place), *plans.root(), *plans.end(["sh"], before=own)], (null, output, null))
    run.until(wire.READY)
    os.close(output)
    os.close(null)
    assert (tmp_path / "out").stat().st_uid == 1234
    assert os.stat("/dev/null").st_uid == owner_of_null
