"""A process in a container that runs: the way in, and what the helper says of its execve."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirun.executor import wire
from ocirun.plan import steps as verb
from tests.helper import plans
from tests.helper.conftest import BUILDS
from tests.helper.driver import pending, start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun.plan.model import Step
    from tests.helper.driver import Run
    from tests.helper.plans import Place

pytestmark = pytest.mark.root

KINDS = ("pid", "net", "ipc", "uts", "mnt", "cgroup")


@pytest.fixture
def container(place: Place, launch: Callable[..., Run]) -> Run:
    """A container that waits, with a /proc and a devpts."""
    inside = [
        plans.mount("proc", "/proc", plain=True),
        plans.mount("tmpfs", "/dev", "mode=755"),
        plans.mount("devpts", "/dev/pts", "newinstance", "ptmxmode=0666", "mode=0620"),
    ]
    run = launch(plans.small(place, "exec sleep 900", inside))
    run.until(wire.READY)
    assert start(place.state) == b"R"
    return run


def _enter(
    launch: Callable[..., Run],
    container: Run,
    steps: Sequence[Step],
    stdio: Sequence[int] = (),
    **where: Path,
) -> Run:
    """Runs the helper on ``steps`` up to the meeting, and hands it init."""
    run = launch(steps, stdio, **where)
    run.until(wire.MEET)
    run.answer([container.pidfd])
    return run


def _said(run: Run) -> list[bytes]:
    """The packets after BORN, until the end."""
    run.until(wire.BORN)
    packets: list[bytes] = []
    while packet := run.control.recv(16384):
        packets.append(packet)
        if packet.startswith(b"T"):
            run.hang_up()
    return packets


@pytest.mark.parametrize("build", BUILDS)
def test_it_joins_init_and_proves_its_execve(
    place: Place, launch: Callable[..., Run], builds: Callable[[str], Path], container: Run, build: str
) -> None:
    reader, writer = os.pipe()
    script = "ls -l /proc/self/ns; cat /proc/self/cgroup; ls /proc/self/fd; exit 3"
    steps = plans.entering(str(place.cgroup), ["sh", "-c", script])
    run = _enter(launch, container, steps, (0, writer, writer), program=builds(build))
    os.close(writer)
    assert _said(run) == [b"R"]
    told = pending(reader).decode().split()
    os.close(reader)
    wanted = {os.readlink(f"/proc/{container.pid}/ns/{kind}") for kind in KINDS}
    assert wanted <= set(told)
    place_in_cgroup = told.index("0::/")
    assert told[place_in_cgroup + 1 :] == ["0", "1", "2", "3"], "3 is the directory that ls reads"
    assert run.wait() == 3
    assert run.wait_stage() == 0


def test_a_failed_execve_is_told_with_how_the_file_begins(
    place: Place, launch: Callable[..., Run], container: Run
) -> None:
    (place.rootfs / "bin/odd").write_text("#!/no/such\n")
    (place.rootfs / "bin/odd").chmod(0o755)
    run = _enter(launch, container, plans.entering(str(place.cgroup), ["odd"]))
    number = errno.ENOENT.to_bytes(4, "little")
    assert _said(run) == [b"R", b"E" + number, b"T#!/no/such\n"]
    assert run.wait() == 127


def test_init_that_is_gone_cannot_be_joined(place: Place, launch: Callable[..., Run], container: Run) -> None:
    os.kill(container.pid, 9)
    run = launch(plans.entering(str(place.cgroup), ["true"]))
    run.until(wire.MEET)
    os.waitid(os.P_PIDFD, container.pidfd, os.WEXITED | os.WNOWAIT)
    run.answer([container.pidfd])
    report = run.until(wire.FAILED)
    assert (report.step, report.errno, report.operation) == (4, errno.ESRCH, "setns")
    assert run.wait_stage() == 1


def test_what_is_no_init_cannot_be_joined(place: Place, launch: Callable[..., Run]) -> None:
    run = launch(plans.entering(str(place.cgroup), ["true"]))
    run.until(wire.MEET)
    run.answer([run.control.fileno()])
    report = run.until(wire.FAILED)
    assert (report.step, report.errno) == (4, errno.EINVAL)


def test_a_terminal_without_a_console(place: Place, launch: Callable[..., Run], container: Run) -> None:
    made = verb.make_console(columns=80, rows=24, bind=0, console="console", terminal="terminal", pointer="")
    before = [made, verb.send_console(console="console", pointer="")]
    steps = plans.entering(str(place.cgroup), ["tty"], before)
    steps.insert(-4, verb.take_terminal(terminal="terminal", owner=0, pointer=""))
    run = _enter(launch, container, steps)
    run.until(wire.BORN)
    run.until(wire.MEET)
    (master,) = run.fds
    run.answer()
    assert run.control.recv(100) == b"R"
    said = b""
    while not said.endswith(b"\n"):
        said += os.read(master, 100)
    assert said == b"/dev/pts/0\r\n"
    assert run.wait() == 0
    assert not os.path.lexists(f"/proc/{container.pid}/root/dev/console")


def test_a_host_that_is_gone_is_not_survived(
    place: Place, launch: Callable[..., Run], container: Run
) -> None:
    run = launch(plans.entering(str(place.cgroup), ["sh", "-c", "sleep 1000"]))
    run.until(wire.MEET)
    run.control.close()
    assert run.wait_stage() == 1
    there = [Path(f"/proc/{pid}") for pid in (place.cgroup / "cgroup.procs").read_text().split()]
    assert container.pid in {int(each.name) for each in there}
    assert not [each for each in there if b"1000" in (each / "cmdline").read_bytes()]
